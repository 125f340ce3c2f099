import type { HostTimes, PerfModel, StepTime } from "../perf-model.ts";
import type { StepLoad } from "../step-load.ts";
import { median, PiecewiseLinear } from "./interpolation.ts";

/** A step that mixes prompts and decodes takes this many times as long as one that prefills as many tokens. */
const MIXED_STEP_FACTOR = 1.1;

/** One measured run: a batch of equal prompts, prefilled and then decoded. */
export interface SplitwiseRun {
  /** Prompt tokens of the whole batch. */
  readonly batchTokens: number;
  readonly promptMs: number;
  /** Per output token. */
  readonly tokenMs: number;
}

export interface SplitwisePerfOptions {
  readonly runs: readonly SplitwiseRun[];
  readonly kvCapacityTokens: number;
  readonly kvBytesPerToken: number;
}

/**
 * The performance model of Splitwise's simulator (Patel et al., ISCA 2024): medians of measured runs by tokens in the batch,
 * joined by straight lines. Every decode counts as one token, whatever its context; runs were made with 128 tokens at least,
 * so that the price of most decode steps is extrapolated. Host time is part of the
 * measurements.
 */
export class SplitwisePerf implements PerfModel {
  readonly host: HostTimes = { requestMs: 0, outputMs: 0 };
  readonly kvCapacityTokens: number;
  readonly kvBytesPerToken: number;
  readonly #promptMs: PiecewiseLinear;
  readonly #tokenMs: PiecewiseLinear;

  /** `runs` need two different batch sizes at least. */
  constructor({ runs, kvCapacityTokens, kvBytesPerToken }: SplitwisePerfOptions) {
    this.kvCapacityTokens = kvCapacityTokens;
    this.kvBytesPerToken = kvBytesPerToken;
    this.#promptMs = curveOf(runs, (run) => run.promptMs);
    this.#tokenMs = curveOf(runs, (run) => run.tokenMs);
  }

  /** Time to prefill a batch of that many tokens. */
  promptMs(batchTokens: number): number {
    return this.#promptMs.at(batchTokens);
  }

  /** Time between two tokens for a batch that was prefilled with that many tokens. */
  tokenMs(batchTokens: number): number {
    return this.#tokenMs.at(batchTokens);
  }

  stepTime(load: StepLoad, out: StepTime): void {
    const batchTokens = load.numPrefillTokens + load.numDecodes;
    if (load.numPrefills === 0) out.deviceMs = this.#tokenMs.at(batchTokens);
    else out.deviceMs = this.#promptMs.at(batchTokens) * (load.numDecodes > 0 ? MIXED_STEP_FACTOR : 1);
    out.hostMs = 0;
    out.source = "paper";
    out.isExtrapolated = !this.#promptMs.covers(batchTokens);
  }
}

function curveOf(runs: readonly SplitwiseRun[], timeOf: (run: SplitwiseRun) => number): PiecewiseLinear {
  const byTokens = new Map<number, number[]>();
  for (const run of runs) {
    const times = byTokens.get(run.batchTokens);
    if (times === undefined) byTokens.set(run.batchTokens, [timeOf(run)]);
    else times.push(timeOf(run));
  }
  return new PiecewiseLinear([...byTokens].map(([tokens, times]) => [tokens, median(times)] as const));
}
