import type { Sequence } from "../sequence.ts";

/**
 * Sequences that hold no blocks yet, in order of service: priority, then arrival. A preempted sequence keeps its order of
 * arrival, so it comes back before everything that arrived later.
 */
export class WaitingQueue {
  readonly #items: Sequence[] = [];
  /** Items before this index have been taken; they are cut off in bulk, so that taking one is cheap. */
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  peek(): Sequence | null {
    return this.#items[this.#head] ?? null;
  }

  push(sequence: Sequence): void {
    let low = this.#head;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (comesBefore(sequence, this.#items[middle]!)) high = middle;
      else low = middle + 1;
    }
    this.#items.splice(low, 0, sequence);
  }

  shift(): Sequence | null {
    const sequence = this.peek();
    if (sequence === null) return null;
    this.#head++;
    if (this.#head === this.#items.length) {
      // Nobody waits: let go of those that were taken.
      while (this.#items.length > 0) this.#items.pop();
      this.#head = 0;
    } else if (this.#head > 64 && this.#head * 2 > this.#items.length) {
      this.#items.splice(0, this.#head);
      this.#head = 0;
    }
    return sequence;
  }

  remove(sequence: Sequence): boolean {
    const at = this.#items.indexOf(sequence, this.#head);
    if (at === -1) return false;
    this.#items.splice(at, 1);
    return true;
  }

  *[Symbol.iterator](): Iterator<Sequence> {
    for (let i = this.#head; i < this.#items.length; i++) yield this.#items[i]!;
  }
}

/** Whether `a` is served before `b`. */
export function comesBefore(a: Sequence, b: Sequence): boolean {
  if (a.request.priority !== b.request.priority) return a.request.priority < b.request.priority;
  return a.order < b.order;
}
