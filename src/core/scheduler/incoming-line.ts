import type { Sequence } from "../sequence.ts";
import { assert } from "../util/assert.ts";
import { WaitingQueue } from "./waiting-queue.ts";

/**
 * Sequences that wait for room to receive another worker's KV. By default in one order, the first of which gets room as soon as there
 * is any. With `retryMs` each asks for itself, when it comes and again after every pause of that length, so that a small one may
 * overtake a large one, and room may lie idle until somebody asks.
 */
export class IncomingLine {
  readonly #queue = new WaitingQueue();
  readonly #retryMs: number | null;
  /** When each asks next, in order of coming; empty without pauses. */
  readonly #askAtMs = new Map<Sequence, number>();

  constructor(retryMs: number | null) {
    assert(retryMs === null || retryMs > 0, "a pause must be positive");
    this.#retryMs = retryMs;
  }

  get length(): number {
    return this.#queue.length;
  }

  /** Whether room that comes into being is taken at the next turn. */
  get takesRoomAtOnce(): boolean {
    return this.#retryMs === null && this.length > 0;
  }

  /** When somebody asks next without having been told; infinite when nobody does. */
  get nextAskMs(): number {
    let nextMs = Number.POSITIVE_INFINITY;
    if (this.#askAtMs.size === 0) return nextMs;
    for (const atMs of this.#askAtMs.values()) if (atMs < nextMs) nextMs = atMs;
    return nextMs;
  }

  peek(): Sequence | null {
    return this.#queue.peek();
  }

  push(sequence: Sequence): void {
    this.#queue.push(sequence);
    if (this.#retryMs !== null) this.#askAtMs.set(sequence, Number.NEGATIVE_INFINITY);
  }

  remove(sequence: Sequence): boolean {
    this.#askAtMs.delete(sequence);
    return this.#queue.remove(sequence);
  }

  /** Takes those out whose turn it is and that `admit` has room for. */
  take(nowMs: number, admit: (sequence: Sequence) => boolean): Sequence[] {
    const taken: Sequence[] = [];
    if (this.#retryMs === null) {
      for (let first = this.peek(); first !== null && admit(first); first = this.peek()) {
        this.#queue.shift();
        taken.push(first);
      }
      return taken;
    }
    for (const [sequence, atMs] of this.#askAtMs) {
      if (atMs > nowMs) continue;
      if (admit(sequence)) taken.push(sequence);
      else this.#askAtMs.set(sequence, nowMs + this.#retryMs);
    }
    for (const sequence of taken) this.remove(sequence);
    return taken;
  }

  [Symbol.iterator](): Iterator<Sequence> {
    return this.#queue[Symbol.iterator]();
  }

  checkInvariants(): void {
    const numAsking = this.#retryMs === null ? 0 : this.length;
    assert(this.#askAtMs.size === numAsking, "who waits and who asks are not the same");
  }
}
