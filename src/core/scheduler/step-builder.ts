import type { Sequence } from "../sequence.ts";
import type { KvReservation, StepBuilder } from "./policy.ts";
import type { ScheduledChunk } from "./step-plan.ts";

/** What building a step needs from the scheduler that owns the sequences. */
export interface StepResources {
  readonly running: readonly Sequence[];
  readonly waiting: Iterable<Sequence>;
  /** Admits the first waiting sequence if batch, KV and reservation allow. */
  admitNext(reservation: KvReservation): Sequence | null;
  /** Admits that waiting sequence; returns whether it can compute now. */
  admit(sequence: Sequence, reservation: KvReservation): boolean;
  /** Extends a sequence's blocks to its longest output if there is room without a preemption. */
  reserve(sequence: Sequence): boolean;
  /**
   * Extends a sequence's blocks to `numTokens` positions, preempting sequences that come after it and for which
   * `isScheduled` is false. Returns false when that does not help, or when the sequence itself was preempted.
   */
  makeRoom(sequence: Sequence, numTokens: number, isScheduled: (sequence: Sequence) => boolean): boolean;
}

/** Collects the chunks of one step at a time; a policy drives it through {@link StepBuilder}. */
export class ChunkCollector implements StepBuilder {
  chunks: ScheduledChunk[] = [];
  remainingTokens = 0;
  hasDeparture = false;
  readonly #resources: StepResources;
  /** Names the present step; a sequence that carries it is in the step already. */
  #mark = 0;
  readonly #isScheduled = (sequence: Sequence) => sequence.stepMark === this.#mark;

  constructor(resources: StepResources) {
    this.#resources = resources;
  }

  /** Starts an empty step. */
  begin(tokenBudget: number, hasDeparture: boolean): void {
    this.chunks = [];
    this.remainingTokens = tokenBudget;
    this.hasDeparture = hasDeparture;
    this.#mark++;
  }

  get running(): readonly Sequence[] {
    // A copy, because preemption removes members while a policy walks over them.
    return this.#resources.running.slice();
  }

  get waiting(): Iterable<Sequence> {
    return this.#resources.waiting;
  }

  compute(sequence: Sequence, maxTokens: number): number {
    if (sequence.status !== "running" || this.#isScheduled(sequence)) return 0;
    const numTokens = Math.min(maxTokens, this.remainingTokens, sequence.numUncomputedTokens);
    if (numTokens <= 0) return 0;
    const start = sequence.numComputedTokens;
    if (!this.#resources.makeRoom(sequence, start + numTokens, this.#isScheduled)) return 0;
    sequence.stepMark = this.#mark;
    this.remainingTokens -= numTokens;
    const samples = numTokens === sequence.numUncomputedTokens;
    this.chunks.push({ sequence, slot: sequence.slot, start, numTokens, samples });
    return numTokens;
  }

  reserve(sequence: Sequence): boolean {
    return sequence.status === "running" && this.#resources.reserve(sequence);
  }

  admitNext(maxTokens: number, reservation: KvReservation): number {
    if (Math.min(maxTokens, this.remainingTokens) <= 0) return 0;
    const sequence = this.#resources.admitNext(reservation);
    return sequence === null ? 0 : this.compute(sequence, maxTokens);
  }

  admit(sequence: Sequence, maxTokens: number, reservation: KvReservation): number {
    if (Math.min(maxTokens, this.remainingTokens) <= 0 || sequence.status !== "waiting") return 0;
    return this.#resources.admit(sequence, reservation) ? this.compute(sequence, maxTokens) : 0;
  }
}
