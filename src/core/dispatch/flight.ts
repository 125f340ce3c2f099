import type { FinishReason, Request } from "../request.ts";
import type { Booking } from "../router/fleet-ledger.ts";
import type { PlacementDecision, PlacementQuery } from "../router/placement.ts";
import type { SampledToken } from "../scheduler/step-plan.ts";
import { promptBlockHashesOf } from "../tokens/prompt-hashes.ts";

/** One request over all its attempts. */
export interface Flight {
  readonly request: Request;
  readonly arrivedAtMs: number;
  /** How long it may wait for a worker. */
  readonly deadlineMs: number;
  /** Attempt under way; 0 before the first. The request's epoch on the workers. */
  epoch: number;
  decision: PlacementDecision | null;
  booking: Booking | null;
  /** Output passed on so far. */
  numEmitted: number;
  /** Output that came before something earlier did: the two legs report over different links. No more than the request may have. */
  readonly early: Map<number, SampledToken>;
  /** Output that has come and is to be passed on. */
  fresh: readonly SampledToken[];
  numCachedTokens: number;
  /** The same for the attempt under way; null as long as no worker has said. */
  reportedCachedTokens: number | null;
  /** Whether the decode worker has everything, so that the prefill worker is not needed any more. */
  handedOff: boolean;
  finish: { readonly reason: FinishReason; readonly numOutputTokens: number } | null;
}

export function newFlight(request: Request, arrivedAtMs: number, maxWaitMs: number): Flight {
  return {
    request,
    arrivedAtMs,
    deadlineMs: arrivedAtMs + maxWaitMs,
    epoch: 0,
    decision: null,
    booking: null,
    numEmitted: request.resumedTokens.length,
    early: new Map(),
    fresh: [],
    numCachedTokens: 0,
    reportedCachedTokens: null,
    handedOff: false,
    finish: null,
  };
}

/**
 * Output tokens from `index` on, as a leg reports them. Takes what is next, puts by what is early, drops what has been passed on.
 *
 * @returns false when there was output beyond what the request may have, which is dropped
 */
export function takeTokens(flight: Flight, index: number, reported: readonly SampledToken[]): boolean {
  const numAllowed = Math.max(0, flight.request.maxOutputTokens - index);
  if (reported.length <= numAllowed) take(flight, index, reported);
  else take(flight, index, reported.slice(0, numAllowed));
  return reported.length <= numAllowed;
}

function take(flight: Flight, index: number, tokens: readonly SampledToken[]): void {
  if (index === flight.numEmitted && flight.early.size === 0) {
    flight.fresh = flight.fresh.length === 0 ? tokens : joined(flight.fresh, tokens);
    flight.numEmitted += tokens.length;
    return;
  }
  const { early } = flight;
  const fresh = [...flight.fresh];
  for (const [i, token] of tokens.entries()) {
    // Both legs report the first token, so that losing the prefill worker after its commit loses nothing.
    if (index + i >= flight.numEmitted) early.set(index + i, token);
    for (let next = early.get(flight.numEmitted); next !== undefined; ) {
      early.delete(flight.numEmitted++);
      fresh.push(next);
      next = early.get(flight.numEmitted);
    }
  }
  flight.fresh = fresh;
}

function joined<T>(first: readonly T[], second: readonly T[]): readonly T[] {
  const all = new Array<T>(first.length + second.length);
  for (let i = 0; i < first.length; i++) all[i] = first[i]!;
  for (let i = 0; i < second.length; i++) all[first.length + i] = second[i]!;
  return all;
}

/** Whether any output has been passed on: then what the client has must be gone on with. */
export function hasBegun({ request, numEmitted, fresh }: Flight): boolean {
  return numEmitted - fresh.length > request.resumedTokens.length;
}

/** Forgets what an attempt has reported and nobody was passed, so that another attempt can begin anew. */
export function forgetUnsent(flight: Flight): void {
  flight.numEmitted -= flight.fresh.length;
  flight.fresh = [];
  flight.early.clear();
  flight.finish = null;
}

/** What placement is asked for a request: no text, and of the output only the bound. */
export function queryOf({ request, arrivedAtMs }: Flight, nowMs: number): PlacementQuery {
  const numResumed = request.resumedTokens.length;
  const { firstTokenGoalMs, expectedFanOut } = request;
  return {
    requestId: request.id,
    nowMs,
    priority: request.priority,
    firstTokenDeadlineMs: firstTokenGoalMs === undefined ? null : arrivedAtMs + firstTokenGoalMs,
    ...(expectedFanOut === undefined ? {} : { expectedFanOut }),
    numPromptTokens: request.promptTokens.length + numResumed,
    maxOutputTokens: request.maxOutputTokens - numResumed,
    promptBlockHashes: promptBlockHashesOf(request),
  };
}
