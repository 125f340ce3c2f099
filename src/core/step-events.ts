import { idOf } from "./handoff/messages.ts";
import type { SampledToken, SequenceUpdate } from "./scheduler/step-plan.ts";
import type { Sequence } from "./sequence.ts";
import type { RequestEvent } from "./worker-effects.ts";

/** What a request's owner is told after a step. `tellsCached`: also how much of the prompt was not computed. */
export function eventsOf(update: SequenceUpdate, tellsCached: boolean): RequestEvent[] {
  const { sequence, emitted, finishReason } = update;
  const { numCachedTokens, numOutputTokens } = sequence;
  const id = idOf(sequence);
  const events: RequestEvent[] = [];
  if (tellsCached) events.push({ kind: "cached", ...id, numTokens: numCachedTokens });
  if (emitted !== null) events.push({ kind: "token", ...id, index: numOutputTokens - 1, sampled: emitted });
  if (finishReason !== null) events.push({ kind: "finish", ...id, reason: finishReason, numOutputTokens });
  return events;
}

/** The last \`tokens.length\` tokens of a sequence, which were drawn in consecutive steps of one plan. */
export function runOf(sequence: Sequence, tokens: readonly SampledToken[]): RequestEvent {
  return { kind: "run", ...idOf(sequence), index: sequence.numOutputTokens - tokens.length, tokens };
}
