import type { SampledToken, SequenceUpdate } from "./scheduler/step-plan.ts";
import type { Sequence } from "./sequence.ts";
import type { RequestEvent } from "./worker-effects.ts";

/** Adds what a request's owner is told after a step. `tellsCached`: also how much of the prompt was not computed. */
export function addEvents(events: RequestEvent[], update: SequenceUpdate, tellsCached: boolean): void {
  const { sequence, emitted, finishReason } = update;
  const { numCachedTokens, numOutputTokens } = sequence;
  const { id: requestId, epoch } = sequence.request;
  if (tellsCached) events.push({ kind: "cached", requestId, epoch, numTokens: numCachedTokens });
  if (emitted !== null)
    events.push({ kind: "token", requestId, epoch, index: numOutputTokens - 1, sampled: emitted });
  if (finishReason !== null)
    events.push({ kind: "finish", requestId, epoch, reason: finishReason, numOutputTokens });
}

/** The last `tokens.length` tokens of a sequence, which were drawn in consecutive steps of one plan. */
export function runOf(sequence: Sequence, tokens: readonly SampledToken[]): RequestEvent {
  const { id: requestId, epoch } = sequence.request;
  return { kind: "run", requestId, epoch, index: sequence.numOutputTokens - tokens.length, tokens };
}
