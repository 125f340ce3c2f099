import type { DeviceSpec, LinkSpec } from "../core/perf/device-spec.ts";
import type { Precision } from "../core/perf/precision.ts";
import type { AcceleratorEntry } from "./entry.ts";
import type { AcceleratorFigureKey } from "./figure-keys.ts";
import { type Assumptions, type Conversion, type FigureTaker, takeFromAccelerator } from "./resolve.ts";

const TERA = 1e12;
const GIGA = 1e9;
const MS_PER_US = 1e-3;

const PRECISIONS: readonly Precision[] = ["bf16", "fp8", "fp4", "int8", "int4"];

export interface DeviceOptions {
  readonly assumptions?: Assumptions;
  /** Precisions that the simulation computes in: an unknown rate of one of them is missing, not unsupported. */
  readonly precisions?: readonly Precision[];
  /** Takes the sparse or conditional rate where there is one. Default false. */
  readonly isSparse?: boolean;
}

/**
 * What the perf model knows of an accelerator, with every figure that it comes from, or the figures that are missing. Rates
 * of 0 (no such path) and unknown rates that were not asked for are left out of the spec.
 */
export function toDeviceSpec(entry: AcceleratorEntry, options: DeviceOptions = {}): Conversion<DeviceSpec> {
  const taker = takeFromAccelerator(entry, options.assumptions);
  const denseFlops: Partial<Record<Precision, number>> = {};
  for (const precision of PRECISIONS) {
    const key = rateKey(taker, precision, options.isSparse === true);
    if (!taker.has(key) && options.precisions?.includes(precision) !== true) continue;
    const rate = taker.take(key);
    if (rate > 0) denseFlops[precision] = rate * TERA;
  }
  if (Object.keys(denseFlops).length === 0) taker.take("dense.bf16");
  const scaleOut = takeLink(taker, "scaleOut");
  const scaleUpDevices = taker.take("scaleUp.devices");
  return taker.conversion({
    id: entry.id,
    denseFlops,
    memoryBytes: taker.take("memory.capacity") * GIGA,
    memoryBytesPerSecond: taker.take("memory.bandwidth") * GIGA,
    // A device that is alone in its domain reaches the others by the network.
    scaleUp: scaleUpDevices === 1 ? scaleOut : takeLink(taker, "scaleUp"),
    scaleUpDevices,
    scaleOut,
    host: takeLink(taker, "host"),
    attentionAcceleration: taker.has("attention.acceleration") ? taker.take("attention.acceleration") : null,
  });
}

function rateKey(
  taker: FigureTaker<AcceleratorFigureKey>,
  precision: Precision,
  isSparse: boolean,
): AcceleratorFigureKey {
  if (isSparse && (precision === "bf16" || precision === "fp8" || precision === "fp4")) {
    const key: AcceleratorFigureKey = `sparse.${precision}`;
    if (taker.has(key)) return key;
  }
  return `dense.${precision}`;
}

function takeLink(taker: FigureTaker<AcceleratorFigureKey>, role: "scaleUp" | "scaleOut" | "host"): LinkSpec {
  return {
    bytesPerSecond: taker.take(`${role}.bandwidth`) * GIGA,
    latencyMs: taker.take(`${role}.latency`) * MS_PER_US,
  };
}

/** Watts of one accelerator by what it does. */
export interface DevicePower {
  readonly idleW: number;
  readonly prefillW: number;
  readonly decodeW: number;
  /** Only sending or receiving KV. */
  readonly transferW: number;
}

/** Power by state, or the figures that are missing. */
export function toDevicePower(entry: AcceleratorEntry, assumptions?: Assumptions): Conversion<DevicePower> {
  const taker = takeFromAccelerator(entry, assumptions);
  return taker.conversion({
    idleW: taker.take("power.idle"),
    prefillW: taker.take("power.prefill"),
    decodeW: taker.take("power.decode"),
    transferW: taker.take("power.transfer"),
  });
}
