import { assert } from "../../core/util/assert.ts";
import type { Assumption } from "./assumption.ts";
import { CoveredTime } from "./covered-time.ts";

/** What a step computed: prompt tokens, output tokens, or both. */
export type ComputeState = "prefill" | "decode" | "mixed";

/** What a worker does. `transfer`: KV moves and no step runs. */
export type PowerState = "idle" | ComputeState | "transfer";

export const POWER_STATES: readonly PowerState[] = ["idle", "prefill", "decode", "mixed", "transfer"];

/** Electric power of one accelerator in each state, watts, and who says so. */
export interface PowerSpec {
  readonly watts: Readonly<Record<PowerState, number>>;
  readonly source: string;
}

/**
 * A part's power where only some figures are known: steps of both kinds draw what the hungrier kind does, and moving KV draws
 * what idling does, unless given.
 */
export function powerSpec(
  known: { idle: number; prefill: number; decode: number; mixed?: number; transfer?: number },
  source: string,
): PowerSpec {
  const { idle, prefill, decode, mixed = Math.max(prefill, decode), transfer = idle } = known;
  return { watts: { idle, prefill, decode, mixed, transfer }, source };
}

/** What racks draw beyond their accelerators: CPUs, switches, NICs, fans, conversion. Always a stated assumption. */
export type RackOverhead =
  /** A share of what the accelerators draw: 0.3 adds 30 %. */
  | { readonly kind: "factor"; readonly factor: number; readonly source: string }
  /** Drawn all the time by each rack. */
  | {
      readonly kind: "fixed";
      readonly wattsPerRack: number;
      readonly numRacks: number;
      readonly source: string;
    };

/** One worker, as its power is counted. */
export interface PoweredPart {
  readonly name: string;
  readonly numDevices: number;
  readonly power: PowerSpec;
}

/** Time and energy of one worker, over all its devices. */
export interface PartEnergy {
  readonly name: string;
  readonly stateMs: Readonly<Record<PowerState, number>>;
  readonly stateJoules: Readonly<Record<PowerState, number>>;
  readonly joules: number;
}

/** Energy of a run. `IT` energy is what reaches the racks; a building's share (PUE) comes on top in the economics. */
export interface FleetEnergy {
  readonly parts: readonly PartEnergy[];
  /** Accelerators alone, by state. */
  readonly stateJoules: Readonly<Record<PowerState, number>>;
  readonly deviceJoules: number;
  readonly overheadJoules: number;
  readonly itJoules: number;
  readonly meanItWatts: number;
  readonly assumptions: readonly Assumption[];
}

interface PartTime {
  readonly computeMs: Record<ComputeState, number>;
  readonly busy: CoveredTime;
  /** End of the last step. */
  lastStepEndMs: number;
}

/**
 * Integrates power over the states of workers. Tell it each step and each transfer once it has ended, in order of their ends for
 * each worker. Time in which a step runs has the step's state; other time in which KV moves is `transfer`; the rest is `idle`.
 */
export class PowerMeter {
  readonly #parts: readonly PoweredPart[];
  readonly #times: readonly PartTime[];

  constructor(parts: readonly PoweredPart[]) {
    this.#parts = parts;
    this.#times = parts.map(() => ({
      computeMs: { prefill: 0, decode: 0, mixed: 0 },
      busy: new CoveredTime(),
      lastStepEndMs: 0,
    }));
  }

  /** A step of a part has ended. Steps of one part do not overlap. */
  stepDone(part: number, state: ComputeState, startMs: number, endMs: number): void {
    const time = this.#times[part]!;
    assert(startMs >= time.lastStepEndMs, "steps of one worker overlap");
    time.lastStepEndMs = endMs;
    time.computeMs[state] += endMs - startMs;
    time.busy.add(startMs, endMs);
  }

  /** A transfer that a part sends or receives has ended. Transfers may overlap steps and each other. */
  transferDone(part: number, startMs: number, endMs: number): void {
    this.#times[part]!.busy.add(startMs, endMs);
  }

  /** The energy from time 0 until `endMs`, which is not before the end of any step or transfer. */
  energy(endMs: number, overhead: RackOverhead): FleetEnergy {
    const parts = this.#parts.map((part, index) => partEnergy(part, this.#times[index]!, endMs));
    const stateJoules = emptyStates();
    for (const part of parts) for (const state of POWER_STATES) stateJoules[state] += part.stateJoules[state];
    const deviceJoules = parts.reduce((sum, { joules }) => sum + joules, 0);
    const overheadJoules = overheadEnergy(overhead, deviceJoules, endMs);
    const itJoules = deviceJoules + overheadJoules;
    return {
      parts,
      stateJoules,
      deviceJoules,
      overheadJoules,
      itJoules,
      meanItWatts: endMs === 0 ? 0 : (itJoules / endMs) * 1000,
      assumptions: [...powerAssumptions(this.#parts), ...overheadAssumptions(overhead)],
    };
  }
}

/**
 * Installed IT power of a fleet: what all accelerators draw in their hungriest state (or `wattsPerDevice`, a part's TDP) with the
 * racks' overhead. This, not what was drawn, is what a site has to provide, and what "per MW" means.
 */
export function installedWatts(
  parts: ReadonlyArray<PoweredPart & { readonly wattsPerDevice?: number }>,
  overhead: RackOverhead,
): number {
  const devices = parts.reduce((sum, { numDevices, power, wattsPerDevice }) => {
    return (
      sum + numDevices * (wattsPerDevice ?? Math.max(...POWER_STATES.map((state) => power.watts[state])))
    );
  }, 0);
  if (overhead.kind === "factor") return devices * (1 + overhead.factor);
  return devices + overhead.wattsPerRack * overhead.numRacks;
}

function emptyStates(): Record<PowerState, number> {
  return { idle: 0, prefill: 0, decode: 0, mixed: 0, transfer: 0 };
}

function partEnergy({ name, numDevices, power }: PoweredPart, time: PartTime, endMs: number): PartEnergy {
  const { prefill, decode, mixed } = time.computeMs;
  const busyMs = time.busy.coveredMs;
  assert(time.busy.lastMs <= endMs, "energy is asked for before the last step or transfer has ended");
  // Steps do not overlap, so what is covered beyond them is covered by transfers alone; rounding may leave a trace below zero.
  const transfer = Math.max(0, busyMs - prefill - decode - mixed);
  const stateMs = { idle: Math.max(0, endMs - busyMs), prefill, decode, mixed, transfer };
  const stateJoules = emptyStates();
  let joules = 0;
  for (const state of POWER_STATES) {
    stateJoules[state] = (numDevices * power.watts[state] * stateMs[state]) / 1000;
    joules += stateJoules[state];
  }
  return { name, stateMs, stateJoules, joules };
}

function overheadEnergy(overhead: RackOverhead, deviceJoules: number, endMs: number): number {
  if (overhead.kind === "factor") return deviceJoules * overhead.factor;
  return (overhead.wattsPerRack * overhead.numRacks * endMs) / 1000;
}

/** The power figures of each different part once. */
function powerAssumptions(parts: readonly PoweredPart[]): Assumption[] {
  const list: Assumption[] = [];
  for (const power of new Set(parts.map((part) => part.power))) {
    for (const state of POWER_STATES) {
      list.push({
        name: `power, ${state}`,
        value: power.watts[state],
        unit: "W per device",
        source: power.source,
      });
    }
  }
  return list;
}

function overheadAssumptions(overhead: RackOverhead): Assumption[] {
  const { source } = overhead;
  if (overhead.kind === "factor") {
    return [{ name: "rack overhead over accelerator power", value: overhead.factor, unit: "", source }];
  }
  return [
    { name: "rack overhead", value: overhead.wattsPerRack, unit: "W per rack", source },
    { name: "racks", value: overhead.numRacks, unit: "", source },
  ];
}
