import { quantile } from "../../core/util/quantiles.ts";
import type { RecordedRequest } from "../../protocol/run-record.ts";
import type { Replay } from "./run-replay.ts";

/** Share of a prompt that may have come from a prefix cache: what prompts share is not recorded. */
const MAX_CACHED_SHARE = 0.1;

/** Whether too much of a prompt was in a cache for its replay, which computes all of it, to compare. */
export function isFromCache({ cachedTokens, inputTokens }: RecordedRequest): boolean {
  return cachedTokens > MAX_CACHED_SHARE * inputTokens;
}

/** A figure of a whole run, measured and predicted, in milliseconds. */
export interface ComparedMetric {
  readonly name: string;
  readonly measured: number;
  readonly predicted: number;
}

/**
 * Compares a recorded run with its replay by the load generator's definitions: TTFT and E2E from the scheduled arrival, ITL between
 * events with text. A token without text of its own is part of the next event, so the predicted mean ITL spreads a request's time over
 * as many gaps as its client saw; quantiles of ITL differ by that merging, so TPOT, a request's mean time per token after its first, is
 * the figure that both sides define alike. Requests that only one side has completed, or whose prompt a
 * cache had, are left out on both.
 */
export function compareRun(requests: readonly RecordedRequest[], replay: Replay): ComparedMetric[] {
  const pairs = requests.flatMap((request, index) => {
    const outcome = replay.outcomes.get(index);
    return outcome === undefined || isFromCache(request) ? [] : [{ request, outcome }];
  });
  if (pairs.length === 0) return [];
  return [
    ...both(
      "ttft",
      pairs.map(({ request }) => request.firstTokenMs - request.arrivalMs),
      pairs.map(({ outcome }) => outcome.ttftMs),
    ),
    ...itlOf(pairs, replay),
    ...tpotOf(pairs),
    ...both(
      "e2e",
      pairs.map(({ request }) => request.endMs - request.arrivalMs),
      pairs.map(({ outcome }) => outcome.e2eMs),
    ),
  ];
}

type Pair = {
  readonly request: RecordedRequest;
  readonly outcome: { readonly ttftMs: number; readonly e2eMs: number };
};

function itlOf(pairs: readonly Pair[], replay: Replay): ComparedMetric[] {
  const measured = pairs.flatMap(({ request }) => request.gapsMs);
  if (measured.length === 0 || replay.gaps.length === 0) return [];
  const predictedMs = pairs.reduce(
    (sum, { request, outcome }) => sum + (request.gapsMs.length > 0 ? outcome.e2eMs - outcome.ttftMs : 0),
    0,
  );
  const quantiles = ([0.5, 0.9] as const).map((q) => ({
    name: q === 0.5 ? "itl_p50" : "itl_p90",
    measured: quantileOf(measured, q),
    predicted: weightedQuantile(replay.gaps, q),
  }));
  return [
    ...quantiles,
    { name: "itl_mean", measured: meanOf(measured), predicted: predictedMs / measured.length },
  ];
}

function tpotOf(pairs: readonly Pair[]): ComparedMetric[] {
  const several = pairs.filter(({ request }) => request.outputTokens > 1);
  if (several.length === 0) return [];
  return both(
    "tpot",
    several.map(({ request }) => (request.lastTokenMs - request.firstTokenMs) / (request.outputTokens - 1)),
    several.map(({ request, outcome }) => (outcome.e2eMs - outcome.ttftMs) / (request.outputTokens - 1)),
  );
}

function both(name: string, measured: readonly number[], predicted: readonly number[]): ComparedMetric[] {
  return [
    { name: `${name}_p50`, measured: quantileOf(measured, 0.5), predicted: quantileOf(predicted, 0.5) },
    { name: `${name}_p90`, measured: quantileOf(measured, 0.9), predicted: quantileOf(predicted, 0.9) },
    { name: `${name}_mean`, measured: meanOf(measured), predicted: meanOf(predicted) },
  ];
}

function quantileOf(values: readonly number[], q: number): number {
  return quantile(Float64Array.from(values).sort(), q);
}

/** The nearest rank, as `quantile`, of values that stand for several. */
function weightedQuantile(values: Replay["gaps"], q: number): number {
  const sorted = [...values].sort((a, b) => a.ms - b.ms);
  const total = sorted.reduce((sum, { count }) => sum + count, 0);
  let seen = 0;
  for (const { ms, count } of sorted) {
    seen += count;
    if (seen >= q * total) return ms;
  }
  return sorted.at(-1)!.ms;
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
