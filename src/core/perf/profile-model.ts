import type { HandoffTimes, HostTimes, PerfModel, StepTime } from "./perf-model.ts";
import type { StepLoad } from "./step-load.ts";
import type { StepVariation } from "./step-variation.ts";

/**
 * Where the time per token of a step may change: kernels for matrix products are chosen by the number of rows, so that four tokens may
 * cost nearly as much as eight. Ramp `i` prices the tokens of a step beyond `TOKEN_KNOTS[i]` and up to `TOKEN_KNOTS[i + 1]`, the
 * last one all beyond; the first token is part of the step.
 */
export const TOKEN_KNOTS = [1, 2, 4, 8, 16, 32, 128] as const;

/** What one step costs, in milliseconds. None is negative. */
export interface StepCoefficients {
  readonly stepMs: number;
  /** Per token, on each ramp of {@link TOKEN_KNOTS}. */
  readonly tokenMs: readonly number[];
  /** Per sequence of the step. */
  readonly sequenceMs: number;
  /** Per drawn token. */
  readonly sampleMs: number;
  /** Per token of context that a decode attends to. */
  readonly decodeContextMs: number;
  /** Per pair of a prompt token and a token that it attends to. */
  readonly prefillPairMs: number;
  /** Per pair of a token of the step and a KV cell of any sequence of the step: what masks cost where KV is one pool. */
  readonly cellPairMs: number;
}

/** The loads that a profile has seen; beyond them its answers count as extrapolated. */
export interface ProfileRange {
  readonly stepTokens: number;
  readonly decodes: number;
  /** Longest context of a prompt chunk, itself included, and longest mean context of the decodes of a step. */
  readonly contextTokens: number;
}

/** A cost with a fixed and a proportional part, in milliseconds. */
export interface LinearCost {
  readonly callMs: number;
  readonly tokenMs: number;
}

/** Measured times of one engine on one machine. */
export interface EngineProfile {
  readonly step: StepCoefficients;
  readonly host: HostTimes & {
    /** Between two steps that follow each other, and the part of it that grows with the number of sequences. */
    readonly stepMs: number;
    readonly sequenceMs: number;
  };
  /** How long copying KV out and in holds the engine; null: never measured, taken as nothing. */
  readonly handoff: { readonly export: LinearCost; readonly import: LinearCost } | null;
  /** Absent: not measured. */
  readonly variation?: StepVariation | undefined;
  readonly range: ProfileRange;
  readonly kvCapacityTokens: number;
  readonly kvBytesPerToken: number;
}

/** Number of {@link stepTerms}. */
export const NUM_STEP_TERMS = TOKEN_KNOTS.length + 6;

/**
 * Fills `out` with what the coefficients of a profile are multiplied by, in the order of {@link termsOf}: the step itself, tokens on
 * each ramp, sequences, draws, decode context, prompt pairs, and pairs of tokens and cells.
 */
export function stepTerms(load: StepLoad, out: Float64Array): void {
  const tokens = load.numDecodes + load.numPrefillTokens;
  let at = 0;
  out[at++] = 1;
  for (let i = 0; i < TOKEN_KNOTS.length; i++) {
    const from = TOKEN_KNOTS[i]!;
    const to = TOKEN_KNOTS[i + 1] ?? Number.POSITIVE_INFINITY;
    out[at++] = Math.max(0, Math.min(tokens, to) - from);
  }
  let pairs = 0;
  let cells = load.decodeContextTokens;
  for (let i = 0; i < load.numPrefills; i++) {
    const context = load.prefillContext[i]!;
    const chunk = load.prefillTokens[i]!;
    pairs += chunk * (context + (chunk + 1) / 2);
    cells += context + chunk;
  }
  out[at++] = load.numDecodes + load.numPrefills;
  out[at++] = load.numSamples;
  out[at++] = load.decodeContextTokens;
  out[at++] = pairs;
  out[at] = tokens * cells;
}

/** Coefficients in the order of {@link stepTerms}. */
export function termsOf(step: StepCoefficients): number[] {
  const { stepMs, tokenMs, sequenceMs, sampleMs, decodeContextMs, prefillPairMs, cellPairMs } = step;
  return [stepMs, ...tokenMs, sequenceMs, sampleMs, decodeContextMs, prefillPairMs, cellPairMs];
}

/** The reverse of {@link termsOf}. */
export function coefficientsOf(terms: ArrayLike<number>): StepCoefficients {
  const numRamps = TOKEN_KNOTS.length;
  return {
    stepMs: terms[0]!,
    tokenMs: Array.from({ length: numRamps }, (_, i) => terms[1 + i]!),
    sequenceMs: terms[numRamps + 1]!,
    sampleMs: terms[numRamps + 2]!,
    decodeContextMs: terms[numRamps + 3]!,
    prefillPairMs: terms[numRamps + 4]!,
    cellPairMs: terms[numRamps + 5]!,
  };
}

/** Prices steps by what was measured on a machine, with the source `profile`. */
export class ProfileModel implements PerfModel {
  readonly host: HostTimes;
  readonly handoff?: HandoffTimes;
  readonly variation?: StepVariation;
  readonly kvCapacityTokens: number;
  readonly kvBytesPerToken: number;
  readonly #profile: EngineProfile;
  readonly #coefficients: Float64Array;
  readonly #terms = new Float64Array(NUM_STEP_TERMS);

  constructor(profile: EngineProfile) {
    const { host, handoff, variation } = profile;
    this.#profile = profile;
    this.#coefficients = Float64Array.from(termsOf(profile.step));
    this.host = { requestMs: host.requestMs, outputMs: host.outputMs };
    this.kvCapacityTokens = profile.kvCapacityTokens;
    this.kvBytesPerToken = profile.kvBytesPerToken;
    if (variation !== undefined) this.variation = variation;
    if (handoff !== null) {
      this.handoff = {
        exportMs: (tokens) => handoff.export.callMs + handoff.export.tokenMs * tokens,
        importMs: (tokens) => handoff.import.callMs + handoff.import.tokenMs * tokens,
      };
    }
  }

  stepTime(load: StepLoad, out: StepTime): void {
    stepTerms(load, this.#terms);
    let deviceMs = 0;
    for (let i = 0; i < NUM_STEP_TERMS; i++) deviceMs += this.#coefficients[i]! * this.#terms[i]!;
    const { host } = this.#profile;
    out.deviceMs = deviceMs;
    out.hostMs = host.stepMs + host.sequenceMs * (load.numDecodes + load.numPrefills);
    out.source = "profile";
    out.isExtrapolated = this.#isBeyond(load);
  }

  #isBeyond(load: StepLoad): boolean {
    const { stepTokens, decodes, contextTokens } = this.#profile.range;
    if (load.numDecodes > decodes || load.numDecodes + load.numPrefillTokens > stepTokens) return true;
    if (load.decodeContextTokens > contextTokens * load.numDecodes) return true;
    for (let i = 0; i < load.numPrefills; i++) {
      if (load.prefillContext[i]! + load.prefillTokens[i]! > contextTokens) return true;
    }
    return false;
  }
}
