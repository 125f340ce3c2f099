import { COEFFICIENTS } from "./coefficients/index.ts";
import type { DeviceFits } from "./device-fits.ts";
import type { DeviceSpec, LinkSpec } from "./device-spec.ts";
import type { EfficiencyLookup } from "./kernel-times.ts";
import type { Efficiency } from "./operators/efficiency.ts";
import { ConstantEfficiency, FittedSurface, readSurface } from "./operators/fitted-surface.ts";
import type { RooflineRates, SoftmaxRates } from "./operators/roofline.ts";

/** Rooflines and efficiencies to price a device's kernels with. */
export interface DeviceEfficiencies {
  readonly rates: RooflineRates;
  /** The scale-up link as the collectives were fitted with. */
  readonly scaleUp: LinkSpec;
  readonly lookup: EfficiencyLookup;
}

/** Measured tables of a device, with the rates that their efficiencies are relative to. */
export interface KernelTables {
  readonly rates: RooflineRates & { readonly scaleUp: LinkSpec };
  /** By operator class and variant, such as `gemm/fp8-block`. */
  readonly efficiencies: ReadonlyMap<string, Efficiency>;
}

/** Measured devices that are nearest in architecture to some that are not. */
const NEAREST: Readonly<Record<string, string>> = {
  "h800-sxm": "h100-sxm",
  "h20-sxm": "h200-sxm",
  "b300-sxm": "b200-sxm",
  gb300: "gb200",
  "rubin-r200": "gb200",
  "rubin-cpx-2025": "rtx-pro-6000-bse",
  "rubin-cpx-2027-rumour": "gb200",
};

/**
 * Exponents per second of a GB300, against which accelerations are given: 160 multiprocessors with 32 per clock each, 10.7 T by
 * NVIDIA's description of Blackwell Ultra (2025-08).
 */
const GB300_EXPONENTS_PER_SECOND = 10.7e12;

/** Accelerations of measured devices. Hopper's and those of the RTX parts are not published on this scale. */
const MEASURED_ACCELERATION: Readonly<Record<string, number>> = { gb200: 0.5, "b200-sxm": 0.5 };

/** Relative difference from the measured device's rates up to which the device still counts as that one. */
const SAME_RATE_TOLERANCE = 0.1;

/** Where a variant without a fit of its own takes its efficiency from, nearest first. */
const SUBSTITUTES: Readonly<Record<string, readonly string[]>> = {
  "gemm/fp8": ["gemm/fp8-block", "gemm/bf16"],
  "gemm/fp8-block": ["gemm/fp8", "gemm/bf16"],
  "gemm/fp4": ["gemm/fp8", "gemm/bf16"],
  "gemm/int8": ["gemm/fp8", "gemm/bf16"],
  "gemm/int4": ["gemm/bf16"],
  "gemm/mxfp4-bf16": ["gemm/bf16"],
  "decode-attention/fp8": ["decode-attention/bf16"],
  "decode-attention/bf16/window": ["decode-attention/bf16"],
  "decode-attention/fp8/window": ["decode-attention/fp8", "decode-attention/bf16"],
  "prefill-attention/bf16/window": ["prefill-attention/bf16"],
  "prefill-attention/fp8/window": ["prefill-attention/fp8", "prefill-attention/bf16"],
  "prefill-attention/fp8": ["prefill-attention/bf16"],
  "all-gather": ["all-reduce"],
  "reduce-scatter": ["all-reduce"],
  "all-to-all": ["all-reduce"],
};

/**
 * The best efficiencies that there are for a device: tables first, then its own fits, then those of the device nearest in
 * architecture, applied to its own rates and marked as roofline.
 */
export function efficienciesOf(device: DeviceSpec, tables: KernelTables | undefined): DeviceEfficiencies {
  const own = COEFFICIENTS[device.id];
  const isMeasured = own !== undefined && hasRatesOf(device, own);
  const fits = own ?? COEFFICIENTS[NEAREST[device.id] ?? nearestByFormats(device)];
  const cache = new Map<string, Efficiency>();
  const lookup = (key: string): Efficiency => {
    let found = cache.get(key);
    if (found === undefined) {
      found = tables?.efficiencies.get(key) ?? fitted(fits, key, isMeasured);
      cache.set(key, found);
    }
    return found;
  };
  if (tables !== undefined) return { rates: tables.rates, scaleUp: tables.rates.scaleUp, lookup };
  const peaks = isMeasured ? own.reference : device;
  const softmax = softmaxOf(device, fits);
  const rates: RooflineRates = {
    denseFlops: peaks.denseFlops,
    memoryBytesPerSecond: peaks.memoryBytesPerSecond,
    ...(softmax === null ? {} : { softmax }),
  };
  const scaleUp =
    isMeasured && isNear(device.scaleUp.bytesPerSecond, own.reference.scaleUp.bytesPerSecond)
      ? own.reference.scaleUp
      : device.scaleUp;
  return { rates, scaleUp, lookup };
}

function softmaxOf(device: DeviceSpec, fits: DeviceFits | undefined): SoftmaxRates | null {
  if (device.attentionAcceleration === null) return null;
  const measured = fits === undefined ? undefined : MEASURED_ACCELERATION[fits.device];
  return {
    exponentsPerSecond: device.attentionAcceleration * GB300_EXPONENTS_PER_SECOND,
    measured:
      fits === undefined || measured === undefined
        ? null
        : {
            exponentsPerSecond: measured * GB300_EXPONENTS_PER_SECOND,
            flopsPerSecond: fits.reference.denseFlops.bf16 ?? 0,
          },
  };
}

function fitted(fits: DeviceFits | undefined, key: string, isMeasured: boolean): Efficiency {
  const direct = fits?.surfaces[key];
  if (direct !== undefined) return new FittedSurface(readSurface(direct), isMeasured ? "fitted" : "roofline");
  for (const substitute of substitutesOf(key)) {
    const data = fits?.surfaces[substitute];
    if (data !== undefined) return new FittedSurface(readSurface(data), "roofline");
  }
  return new ConstantEfficiency(0);
}

function substitutesOf(key: string): readonly string[] {
  const listed = SUBSTITUTES[key];
  if (listed !== undefined) return listed;
  const [operator, format, variant] = key.split("/");
  if (operator === "moe") return ["fp8-block", "fp8", "bf16"].map((name) => `moe/${name}`);
  if (operator === "mla-prefill" || operator === "mla-decode") {
    const formats = [format, "fp8-block", "bf16"];
    return formats.flatMap((name) => [`${operator}/${name}/${variant}`, `${operator}/${name}/bf16`]);
  }
  return [];
}

function isNear(a: number, b: number): boolean {
  return Math.abs(a / b - 1) <= SAME_RATE_TOLERANCE;
}

function hasRatesOf(device: DeviceSpec, fits: DeviceFits): boolean {
  if (!isNear(device.memoryBytesPerSecond, fits.reference.memoryBytesPerSecond)) return false;
  return Object.entries(device.denseFlops).every(([precision, flops]) => {
    const reference = fits.reference.denseFlops[precision];
    return reference === undefined || isNear(flops, reference);
  });
}

/** For devices that nobody has listed: the generation that first had the same number formats. */
function nearestByFormats(device: DeviceSpec): string {
  if (device.denseFlops.fp4 !== undefined) return "b200-sxm";
  return device.denseFlops.fp8 !== undefined ? "h100-sxm" : "a100-80g-sxm";
}
