import type { HostTimes, PerfModel, StepTime } from "../perf-model.ts";
import type { StepLoad } from "../step-load.ts";

/** `constant + linear × sum + quadratic × sum`, in milliseconds; the sums depend on the phase. */
export type DistserveTerms = readonly [number, number, number];

/** What the simulator of DistServe knows of one model on one degree of tensor parallelism. */
export interface DistserveCoefficients {
  /** Constant, per prompt token, per squared prompt length. */
  readonly prefill: DistserveTerms;
  /** Constant, per token of context, per sequence; for batches up to the threshold and beyond it. */
  readonly decodeSmall: DistserveTerms;
  readonly decodeLarge: DistserveTerms;
  /** The smallest batch that counts as large. */
  readonly largeBatch: number;
}

export interface DistservePerfOptions {
  readonly coefficients: DistserveCoefficients;
  /** Pipeline stages; the time of a step is one stage's. */
  readonly pp: number;
  readonly kvCapacityTokens: number;
  readonly kvBytesPerToken: number;
}

/**
 * What the simulator as released adds to every step for its control plane (Ray): a constant, and so much per token of the step's
 * contexts; and to a prefill step once more for each pipeline stage. Milliseconds.
 */
const STEP_OVERHEAD_MS = 2;
const TOKEN_OVERHEAD_MS = 1e-4;
const PREFILL_STAGE_MS = 1;

/**
 * The performance model of DistServe's simulator (Zhong et al., OSDI 2024): closed forms fitted to an A100, and a constant for its
 * control plane. A step is either a prefill or a decode there; one that is both takes the sum of the two, less one decode constant,
 * because the weights are read once. All other host time is part of the measurements.
 */
export class DistservePerf implements PerfModel {
  readonly host: HostTimes = { requestMs: 0, outputMs: 0 };
  readonly kvCapacityTokens: number;
  readonly kvBytesPerToken: number;
  readonly #coefficients: DistserveCoefficients;
  readonly #pp: number;

  constructor({ coefficients, pp, kvCapacityTokens, kvBytesPerToken }: DistservePerfOptions) {
    this.#coefficients = coefficients;
    this.#pp = pp;
    this.kvCapacityTokens = kvCapacityTokens;
    this.kvBytesPerToken = kvBytesPerToken;
  }

  stepTime(load: StepLoad, out: StepTime): void {
    const hasPrefills = load.numPrefills > 0;
    const prefillMs = hasPrefills ? this.#prefillMs(load) : 0;
    out.deviceMs = prefillMs + this.#decodeMs(load, hasPrefills);
    out.hostMs = STEP_OVERHEAD_MS + TOKEN_OVERHEAD_MS * contextTokensOf(load);
    if (hasPrefills) out.hostMs += PREFILL_STAGE_MS * this.#pp;
    out.source = "paper";
    out.isExtrapolated = false;
  }

  #prefillMs(load: StepLoad): number {
    const [constant, perToken, perSquare] = this.#coefficients.prefill;
    let squares = 0;
    for (let i = 0; i < load.numPrefills; i++) {
      // A chunk attends to what was computed before it: the difference of two squares.
      const start = load.prefillContext[i]!;
      const end = start + load.prefillTokens[i]!;
      squares += end * end - start * start;
    }
    return (constant + perToken * load.numPrefillTokens + perSquare * squares) / this.#pp;
  }

  #decodeMs(load: StepLoad, isMixed: boolean): number {
    if (load.numDecodes === 0) return 0;
    const { decodeSmall, decodeLarge, largeBatch } = this.#coefficients;
    const [constant, perContext, perSequence] = load.numDecodes < largeBatch ? decodeSmall : decodeLarge;
    const ms = perContext * load.decodeContextTokens + perSequence * load.numDecodes;
    return (ms + (isMixed ? 0 : constant)) / this.#pp;
  }
}

/** Tokens that the step computes or attends to. */
function contextTokensOf(load: StepLoad): number {
  let tokens = load.decodeContextTokens + load.numPrefillTokens;
  for (let i = 0; i < load.numPrefills; i++) tokens += load.prefillContext[i]!;
  return tokens;
}
