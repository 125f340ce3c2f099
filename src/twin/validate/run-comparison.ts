import { quantile } from "../../core/util/quantiles.ts";
import { type RandomStream, Rng } from "../../core/util/rng.ts";
import type { RecordedRequest } from "../../protocol/run-record.ts";
import type { RequestOutcome } from "../observer.ts";
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
 * events with text. A token without text of its own, or one that the gateway sends together with others, is part of a later event: the
 * predicted gaps are between the same tokens, or, where a record does not say how many each event told of, between as many events (see
 * {@link eventGaps}). TPOT, a request's mean time per token after its
 * first, needs no such thing. Requests that only one side has completed, or whose prompt a cache had, are left out on both.
 */
export function compareRun(
  requests: readonly RecordedRequest[],
  replay: Pick<Replay, "outcomes">,
): ComparedMetric[] {
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
    ...itlOf(pairs),
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
  readonly outcome: Pick<RequestOutcome, "ttftMs" | "e2eMs" | "gapsMs">;
};

function itlOf(pairs: readonly Pair[]): ComparedMetric[] {
  const measured = pairs.flatMap(({ request }) => request.gapsMs);
  const stream = new Rng(EVENT_SEED).stream("events");
  const predicted = pairs.flatMap(({ request, outcome }) =>
    request.eventTokens === undefined
      ? eventGaps(outcome.gapsMs ?? [], request.gapsMs.length, stream)
      : knownEventGaps(outcome.gapsMs ?? [], request.eventTokens),
  );
  if (measured.length === 0 || predicted.length === 0) return [];
  const predictedMs = pairs.reduce(
    (sum, { request, outcome }) => sum + (request.gapsMs.length > 0 ? outcome.e2eMs - outcome.ttftMs : 0),
    0,
  );
  const [p50, p90] = both("itl", measured, predicted);
  return [
    p50!,
    p90!,
    { name: "itl_mean", measured: meanOf(measured), predicted: predictedMs / measured.length },
  ];
}

/** Gaps between events from the gaps between tokens, when it is known how many tokens each event told of, those before it included. */
export function knownEventGaps(tokenGapsMs: readonly number[], eventTokens: readonly number[]): number[] {
  const gaps: number[] = [];
  for (let event = 1; event < eventTokens.length; event++) {
    let gapMs = 0;
    // Gap `i` ends with token `i + 2`, counted from one.
    for (let i = eventTokens[event - 1]! - 1; i < eventTokens[event]! - 1; i++) gapMs += tokenGapsMs[i] ?? 0;
    gaps.push(gapMs);
  }
  return gaps;
}

/** Which tokens share an event is drawn; the same for every comparison. */
const EVENT_SEED = 1;

/**
 * Gaps between `numGaps` events and the one before them, from the gaps between tokens: every token after the first is as likely as each
 * other to be the last of an event. That a response had so many events is a fact of its run, like its length: on the built-in model one
 * token in eight has no text, and which of the others come together changes from run to run.
 */
export function eventGaps(
  tokenGapsMs: readonly number[],
  numGaps: number,
  stream: Pick<RandomStream, "nextFloat">,
): number[] {
  const gaps: number[] = [];
  let sinceMs = 0;
  for (const [index, gapMs] of tokenGapsMs.entries()) {
    sinceMs += gapMs;
    const numLeft = tokenGapsMs.length - index;
    if (stream.nextFloat() * numLeft >= numGaps - gaps.length) continue;
    gaps.push(sinceMs);
    sinceMs = 0;
  }
  return gaps;
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

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
