import type { HandoffTail } from "./handoff-bytes.ts";
import type { StepLoad } from "./step-load.ts";
import type { StepVariation } from "./step-variation.ts";

/** Where a time comes from, best first. */
export type TimeSource = "table" | "fitted" | "roofline" | "paper" | "profile";

/** A price with its origin. One instance is filled again for every answer. */
export interface StepTime {
  /** On the accelerators. */
  deviceMs: number;
  /** On the host, before or after: not hidden behind the accelerators. */
  hostMs: number;
  /** The weakest source among the terms. */
  source: TimeSource;
  /** Whether some term left the range that its source was measured or fitted on. */
  isExtrapolated: boolean;
}

/** Host time outside steps, in milliseconds. */
export interface HostTimes {
  /** From a request's arrival until it can be scheduled: HTTP, template, tokenisation, queueing in the front end. */
  readonly requestMs: number;
  /** From the end of a step until a token is at the client. */
  readonly outputMs: number;
}

/** How long a handoff holds the engine, in milliseconds: copying KV out and in happens between steps. */
export interface HandoffTimes {
  exportMs(tokens: number): number;
  importMs(tokens: number): number;
}

/** Prices steps of one model on one worker. Pure: the router, the planner and the twin ask the same instance. */
export interface PerfModel {
  readonly host: HostTimes;
  /** Absent: transfers run beside steps and hold nobody up, as on accelerators with copy engines. */
  readonly handoff?: HandoffTimes;
  /** How many tokens' KV fit, whole blocks of all sequences together. */
  readonly kvCapacityTokens: number;
  /** KV bytes of one more token over all layers that keep their whole context, without copies. */
  readonly kvBytesPerToken: number;
  /** What a handoff moves besides. Absent: nothing. */
  readonly handoffTail?: HandoffTail | undefined;
  /** Whether the engine plans its next step when one begins (asynchronous scheduling). Default false. */
  readonly plansAhead?: boolean;
  /** By what single steps differ from {@link stepTime}; absent: by nothing. */
  readonly variation?: StepVariation;
  /** Fills `out` with the time of one step. A decode-only load costs about 0.1 µs of CPU. */
  stepTime(load: StepLoad, out: StepTime): void;
  /** What {@link priceRow} says, for less; absent: step by step. */
  rowTime?(load: StepLoad, row: DecodeRow, out: StepTime): void;
}

/** Steps that follow each other, each decoding the same sequences and nothing else. */
export interface DecodeRow {
  readonly numSteps: number;
  /** Tokens that the contexts of every step count for besides their sum. */
  readonly addedContextTokens: number;
  /** Filled with the time of each step on the accelerators, in milliseconds. Has room for `numSteps`. */
  readonly deviceMs: Float64Array;
}

/**
 * Prices a row of steps. `load` is what the first one computes and is left as it was; in each further one every decode attends to one
 * token more. All have the host time that `out` tells afterwards, with whatever else it says of the last.
 */
export function priceRow(perf: PerfModel, load: StepLoad, row: DecodeRow, out: StepTime): void {
  if (perf.rowTime !== undefined) {
    perf.rowTime(load, row, out);
    return;
  }
  const { decodeContextTokens, maxDecodeContextTokens } = load;
  for (let step = 0; step < row.numSteps; step++) {
    load.decodeContextTokens = decodeContextTokens + step * load.numDecodes + row.addedContextTokens;
    load.maxDecodeContextTokens = maxDecodeContextTokens + step;
    perf.stepTime(load, out);
    row.deviceMs[step] = out.deviceMs;
  }
  load.decodeContextTokens = decodeContextTokens;
  load.maxDecodeContextTokens = maxDecodeContextTokens;
}

export function emptyStepTime(): StepTime {
  return { deviceMs: 0, hostMs: 0, source: "roofline", isExtrapolated: false };
}
