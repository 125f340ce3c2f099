import { fitTerms } from "../../core/perf/fit-profile.ts";
import type { PerfModel, StepTime } from "../../core/perf/perf-model.ts";
import type { StepLoad } from "../../core/perf/step-load.ts";
import type { ObservedStep } from "../../core/router/placement.ts";

/** Steps of one kind below which a worker's own are too few to learn from. */
export const MIN_OWN_STEPS = 50;

const NUM_TERMS = 5;
/** Places of the terms that only steps with prompts have, and only steps with decodes. */
const PREFILL_TERMS = [1, 2];
const DECODE_TERMS = [3, 4];

/** What a step costs, per term of {@link ObservedStep}, by steps that were run. */
export function fitSteps(steps: readonly ObservedStep[]): Float64Array {
  const samples = steps
    .filter(({ ms }) => ms > 0)
    .map((step) => {
      const { numPrefillTokens, prefillAttention, numDecodes, decodeContextTokens, ms } = step;
      return { terms: [1, numPrefillTokens, prefillAttention, numDecodes, decodeContextTokens], ms };
    });
  return fitTerms(NUM_TERMS, samples);
}

/**
 * The same for one worker. What it has hardly done, such as prompts on a worker that decodes, is taken from `shared`, the fit of all
 * workers' steps.
 */
export function fitOwnSteps(steps: readonly ObservedStep[], shared: Float64Array): Float64Array {
  if (steps.length < MIN_OWN_STEPS) return shared;
  const own = fitSteps(steps);
  const takeShared = (terms: readonly number[]) => {
    for (const term of terms) own[term] = shared[term]!;
  };
  if (steps.filter(({ numPrefillTokens }) => numPrefillTokens > 0).length < MIN_OWN_STEPS)
    takeShared(PREFILL_TERMS);
  if (steps.filter(({ numDecodes }) => numDecodes > 0).length < MIN_OWN_STEPS) takeShared(DECODE_TERMS);
  return own;
}

/** Prices steps by what steps of the same worker took: linear in what policies are told of a step. */
export class LearnedPerf implements PerfModel {
  readonly host = { requestMs: 0, outputMs: 0 };
  readonly kvCapacityTokens: number;
  readonly kvBytesPerToken: number;
  readonly #coefficients: Float64Array;

  constructor(
    coefficients: Float64Array,
    sizes: { readonly kvCapacityTokens: number; readonly kvBytesPerToken: number },
  ) {
    this.kvCapacityTokens = sizes.kvCapacityTokens;
    this.kvBytesPerToken = sizes.kvBytesPerToken;
    this.#coefficients = coefficients;
  }

  stepTime(load: StepLoad, out: StepTime): void {
    let attention = 0;
    for (let i = 0; i < load.numPrefills; i++) {
      const tokens = load.prefillTokens[i]!;
      attention += tokens * (load.prefillContext[i]! + tokens / 2);
    }
    const [step = 0, token = 0, pair = 0, decode = 0, context = 0] = this.#coefficients;
    const prefillMs = token * load.numPrefillTokens + pair * attention;
    out.deviceMs = step + prefillMs + decode * load.numDecodes + context * load.decodeContextTokens;
    out.hostMs = 0;
    out.source = "profile";
    out.isExtrapolated = false;
  }
}
