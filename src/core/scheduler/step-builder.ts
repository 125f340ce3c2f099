import type { Sequence } from "../sequence.ts";
import type { KvReservation, StepBuilder } from "./policy.ts";
import type { ScheduledChunk } from "./step-plan.ts";

/** What building a step needs from the scheduler that owns the sequences. */
export interface StepResources {
  readonly running: readonly Sequence[];
  /** Admits the first waiting sequence if batch, KV and reservation allow. */
  admitNext(reservation: KvReservation): Sequence | null;
  /**
   * Extends a sequence's blocks to `numTokens` positions, preempting sequences that come after it and for which
   * `isScheduled` is false. Returns false when that does not help, or when the sequence itself was preempted.
   */
  makeRoom(sequence: Sequence, numTokens: number, isScheduled: (sequence: Sequence) => boolean): boolean;
}

/** Collects the chunks of one step; a policy drives it through {@link StepBuilder}. */
export class ChunkCollector implements StepBuilder {
  readonly chunks: ScheduledChunk[] = [];
  remainingTokens: number;
  readonly #resources: StepResources;
  readonly #scheduled = new Set<Sequence>();
  readonly #isScheduled = (sequence: Sequence) => this.#scheduled.has(sequence);

  constructor(resources: StepResources, tokenBudget: number) {
    this.#resources = resources;
    this.remainingTokens = tokenBudget;
  }

  get running(): readonly Sequence[] {
    // A copy, because preemption removes members while a policy walks over them.
    return this.#resources.running.slice();
  }

  compute(sequence: Sequence, maxTokens: number): number {
    if (sequence.status !== "running" || this.#scheduled.has(sequence)) return 0;
    const numTokens = Math.min(maxTokens, this.remainingTokens, sequence.numUncomputedTokens);
    if (numTokens <= 0) return 0;
    const start = sequence.numComputedTokens;
    if (!this.#resources.makeRoom(sequence, start + numTokens, this.#isScheduled)) return 0;
    this.#scheduled.add(sequence);
    this.remainingTokens -= numTokens;
    const samples = numTokens === sequence.numUncomputedTokens;
    this.chunks.push({ sequence, slot: sequence.slot, start, numTokens, samples });
    return numTokens;
  }

  admitNext(maxTokens: number, reservation: KvReservation): number {
    if (Math.min(maxTokens, this.remainingTokens) <= 0) return 0;
    const sequence = this.#resources.admitNext(reservation);
    return sequence === null ? 0 : this.compute(sequence, maxTokens);
  }
}
