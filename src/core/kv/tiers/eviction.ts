import { assert } from "../../util/assert.ts";

/** What an eviction policy knows of a segment. */
export interface EvictionFacts {
  /** Counts uses of the tier; the segment's last one. */
  readonly lastUse: number;
  /** Times that it was written or taken from. */
  readonly numUses: number;
  /** Bytes in the tier, positive. */
  readonly bytes: number;
  /** Milliseconds that computing its tokens again would take. */
  readonly recomputeMs: number;
  /** How likely somebody is to come back for it, relative to a segment of which nothing is known: see `likelihoodAt`. */
  readonly likelihood: number;
}

/** Ranks the segments that a tier may give up. Only ends of chains are ranked: a block is useless without those before it. */
export interface EvictionPolicy {
  readonly name: string;
  /** The smallest goes first. `floor` is the rank of the last one that went. */
  rank(facts: EvictionFacts, floor: number): number;
}

/** Uses of a segment beyond this count as this many, so that rank and recency fit one number. */
const MAX_COUNTED_USES = 2 ** 20;
const USES_OF_TIER = 2 ** 32;

const POLICIES = {
  /** Least recently used. */
  lru: { name: "lru", rank: ({ lastUse }) => lastUse },
  /** Least frequently used, the least recently used of them first. */
  lfu: {
    name: "lfu",
    rank: ({ numUses, lastUse }) =>
      Math.min(numUses, MAX_COUNTED_USES) * USES_OF_TIER + Math.min(lastUse, USES_OF_TIER - 1),
  },
  /**
   * GreedyDual-Size-Frequency (Cherkasova, HP Labs 1998): recompute time saved per byte, times uses, times how likely its conversation is
   * to come back, above a floor that rises with every eviction, so that what was dear once and is not used any more goes in the end.
   */
  cost: {
    name: "cost",
    rank: ({ numUses, recomputeMs, bytes, likelihood }, floor) =>
      floor + (numUses * recomputeMs * likelihood) / bytes,
  },
} as const satisfies Record<string, EvictionPolicy>;

export type EvictionName = keyof typeof POLICIES;

export const EVICTION_NAMES = Object.keys(POLICIES) as readonly EvictionName[];

export function evictionPolicy(name: EvictionName): EvictionPolicy {
  return POLICIES[name];
}

/** An item of an {@link EvictionQueue}, which keeps both fields. */
export interface Ranked {
  rank: number;
  /** Place in the heap, or -1. */
  heapAt: number;
  readonly lastUse: number;
}

/** A binary heap whose items know their places, so that one can be taken out when it is used or pinned. */
export class EvictionQueue<T extends Ranked> {
  readonly #heap: T[] = [];

  get size(): number {
    return this.#heap.length;
  }

  /** The item that goes first, or null. */
  first(): T | null {
    return this.#heap[0] ?? null;
  }

  add(item: T, rank: number): void {
    assert(item.heapAt === -1, "an item is queued twice");
    item.rank = rank;
    this.#heap.push(item);
    this.#rise(item, this.#heap.length - 1);
  }

  /** Takes an item out, if it is in. */
  remove(item: T): void {
    const at = item.heapAt;
    if (at === -1) return;
    assert(this.#heap[at] === item, "an item is not where it says");
    item.heapAt = -1;
    const last = this.#heap.pop()!;
    if (last === item) return;
    this.#rise(last, at);
    this.#sink(last, last.heapAt);
  }

  #rise(item: T, from: number): void {
    let at = from;
    while (at > 0) {
      const parent = this.#heap[(at - 1) >> 1]!;
      if (!goesBefore(item, parent)) break;
      this.#put(parent, at);
      at = (at - 1) >> 1;
    }
    this.#put(item, at);
  }

  #sink(item: T, from: number): void {
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#heap.length) break;
      if (child + 1 < this.#heap.length && goesBefore(this.#heap[child + 1]!, this.#heap[child]!)) child++;
      if (!goesBefore(this.#heap[child]!, item)) break;
      this.#put(this.#heap[child]!, at);
      at = child;
    }
    this.#put(item, at);
  }

  #put(item: T, at: number): void {
    this.#heap[at] = item;
    item.heapAt = at;
  }

  checkInvariants(): void {
    this.#heap.forEach((item, at) => {
      assert(item.heapAt === at, "an item does not know its place");
      assert(at === 0 || !goesBefore(item, this.#heap[(at - 1) >> 1]!), "the heap is out of order");
    });
  }
}

function goesBefore(a: Ranked, b: Ranked): boolean {
  return a.rank < b.rank || (a.rank === b.rank && a.lastUse < b.lastUse);
}
