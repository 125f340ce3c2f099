import { emptyStepTime, type PerfModel } from "../../perf/perf-model.ts";
import { StepLoad } from "../../perf/step-load.ts";
import type { ObservedStep } from "../placement.ts";
import type { LearnedSteps } from "./learned-steps.ts";
import { RobustRatio } from "./robust-ratio.ts";

/** Steps of a worker that say nothing about it: caches are cold, kernels are chosen, memory is touched for the first time. */
export const WARM_UP_STEPS = 10;
/** Weight of one observed step. Steps with prompts are long and few. */
const PREFILL_WEIGHT = 0.2;
const DECODE_WEIGHT = 0.1;

/**
 * What steps cost on one worker: its perf model, or without one the model learned from the whole fleet, times what this worker was
 * seen to differ from it, for steps with and without prompts apart.
 */
export class StepPrices {
  readonly #perf: PerfModel | null;
  readonly #learned: LearnedSteps;
  readonly #prefillFactor = new RobustRatio(PREFILL_WEIGHT);
  readonly #decodeFactor = new RobustRatio(DECODE_WEIGHT);
  readonly #load = new StepLoad();
  readonly #time = emptyStepTime();
  #numSteps = 0;

  constructor(perf: PerfModel | null, learned: LearnedSteps) {
    this.#perf = perf;
    this.#learned = learned;
  }

  /** Times what the worker was seen to take longer. */
  prefillFactor(nowMs: number): number {
    return this.#prefillFactor.at(nowMs);
  }

  decodeFactor(nowMs: number): number {
    return this.#decodeFactor.at(nowMs);
  }

  /**
   * Milliseconds of a step before the worker's factor: `tokens` of a prompt behind `context` others beside decodes. Nothing to
   * compute takes no time.
   */
  baseMs(context: number, tokens: number, numDecodes: number, decodeContextTokens: number): number {
    if (tokens === 0 && numDecodes === 0) return 0;
    if (this.#perf === null)
      return this.#learned.ms(tokens, tokens * (context + tokens / 2), numDecodes, decodeContextTokens);
    const load = this.#load;
    load.clear();
    if (tokens > 0) load.addPrefill(context, tokens, true);
    load.numDecodes = numDecodes;
    load.decodeContextTokens = decodeContextTokens;
    load.maxDecodeContextTokens = numDecodes === 0 ? 0 : decodeContextTokens / numDecodes;
    load.numSamples += numDecodes;
    this.#perf.stepTime(load, this.#time);
    return this.#time.deviceMs + this.#time.hostMs;
  }

  observe(step: ObservedStep, nowMs: number): void {
    const { numPrefillTokens, prefillAttention, numDecodes, decodeContextTokens, ms } = step;
    this.#numSteps++;
    if (this.#numSteps <= WARM_UP_STEPS) return;
    const context =
      numPrefillTokens === 0 ? 0 : Math.max(0, prefillAttention / numPrefillTokens - numPrefillTokens / 2);
    const expected = this.baseMs(context, numPrefillTokens, numDecodes, decodeContextTokens);
    const factor = numPrefillTokens > 0 ? this.#prefillFactor : this.#decodeFactor;
    if (expected > 0) factor.observe(ms / expected, nowMs);
    if (this.#perf === null) this.#learned.observe(step);
  }
}
