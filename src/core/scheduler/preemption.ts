import type { Sequence } from "../sequence.ts";
import { comesBefore } from "./waiting-queue.ts";

/**
 * The sequence whose KV goes when `sequence` finds no room: the one that comes last, among itself, those ready to join and the
 * running ones not in this step yet. Null: waiting is better.
 */
export function pickVictim(
  sequence: Sequence,
  running: readonly Sequence[],
  received: readonly Sequence[],
  isScheduled: (sequence: Sequence) => boolean,
): Sequence | null {
  let victim = sequence;
  for (const other of running) {
    if (!isScheduled(other) && comesBefore(victim, other)) victim = other;
  }
  for (const other of received) if (comesBefore(victim, other)) victim = other;
  // Alone and out of room: the rest is on its way here or elsewhere, which ends or times out by itself. Waiting beats recomputing.
  if (victim === sequence && running.length === 1) return received.at(-1) ?? null;
  return victim;
}
