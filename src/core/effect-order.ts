import type { KvEventLog } from "./kv/kv-event-log.ts";
import type { RequestEvent, WorkerEffect } from "./worker-effects.ts";

/** Not the list that is being filled. */
const NOTHING: readonly WorkerEffect[] = [];

/**
 * What a worker wants done, in the order in which it is carried out: requests' events before everything else, so that nobody waits for a
 * token until the next step has begun, and what has changed in the caches after it has been asked for.
 */
export function inOrder(
  effects: WorkerEffect[],
  events: readonly RequestEvent[],
  kvEvents: KvEventLog | null,
): readonly WorkerEffect[] {
  if (kvEvents !== null) for (const batch of kvEvents.take()) effects.push({ kind: "kv-events", batch });
  if (effects.length === 0 && events.length === 0) return NOTHING;
  return events.length === 0 ? effects : [{ kind: "emit", events }, ...effects];
}
