import type { Sequence } from "../sequence.ts";

/** How much KV a policy wants to be sure of before it lets a sequence run. */
export type KvReservation =
  /** Room for the tokens known now. More is taken as output grows; running out preempts somebody. */
  | "known"
  /** Room for the longest possible output, so that nothing is ever preempted (ORCA, section 4.3). */
  | "maximum";

/** What a policy sees and may do while it builds one step. Every call respects the token budget and KV capacity. */
export interface StepBuilder {
  /** Sequences that hold KV, in order of admission. Those admitted by this step are at the end. */
  readonly running: readonly Sequence[];
  /** Sequences that wait for KV here, in order of service. */
  readonly waiting: Iterable<Sequence>;
  /** Whether a sequence has given up its part in steps, or KV while somebody waited, since the last step was built. */
  readonly hasDeparture: boolean;
  /** Tokens that the step may still take. */
  readonly remainingTokens: number;
  /**
   * Computes up to `maxTokens` of a running sequence's uncomputed tokens, preempting others if KV runs out and the
   * sequence comes before them. Returns how many it scheduled: 0 when there is no budget or room, or when the sequence is
   * in this step already.
   */
  compute(sequence: Sequence, maxTokens: number): number;
  /**
   * Takes KV for the longest output of a running sequence, so that it never runs out. Preempts nobody: returns false, and changes
   * nothing, when there is no room.
   */
  reserve(sequence: Sequence): boolean;
  /**
   * Moves the first waiting sequence to running and computes up to `maxTokens` of it. Returns 0, and changes nothing, when
   * nobody waits or there is no place in the batch, no budget, or no KV for the reservation.
   */
  admitNext(maxTokens: number, reservation: KvReservation): number;
  /** The same for a sequence of `waiting` that need not be the first. */
  admit(sequence: Sequence, maxTokens: number, reservation: KvReservation): number;
}

/** Decides who takes part in the next step. Small, and stateless where the idea allows: state is in the scheduler. */
export interface SchedulingPolicy {
  readonly name: string;
  /** Whether a prompt runs in one piece: the token budget of a step is then the longest context. */
  readonly wholePrompts: boolean;
  /** Fills one step. The order of calls is the order of service. */
  build(step: StepBuilder): void;
}

/** A sequence that has sampled at least once since it was admitted: one token at a time from here. */
export function isDecoding(sequence: Sequence): boolean {
  return sequence.numUncomputedTokens === 1 && sequence.numOutputTokens > 0;
}
