import { assert } from "../../util/assert.ts";
import { type EvictionPolicy, EvictionQueue } from "./eviction.ts";
import { Outlooks, type ReturnOutlook } from "./outlooks.ts";
import { numBlocksOf } from "./segment.ts";
import type { TierEntry } from "./segment-forest.ts";

export interface EvictionOrderOptions {
  readonly eviction: EvictionPolicy;
  /** Milliseconds to compute positions [start, end) again. */
  readonly recomputeMs: (start: number, end: number) => number;
  readonly blockSizeTokens: number;
}

/** In which order a tier gives its segments up: those that nobody wants kept by their rank, then the others. */
export class EvictionOrder {
  readonly #options: EvictionOrderOptions;
  readonly #others = new EvictionQueue<TierEntry>();
  readonly #kept = new EvictionQueue<TierEntry>();
  readonly #outlooks: Outlooks;
  #floor = 0;

  /** @param maxKeptBytes that one owner may have among those that go last */
  constructor(options: EvictionOrderOptions, maxKeptBytes: number) {
    this.#options = options;
    this.#outlooks = new Outlooks(maxKeptBytes);
  }

  /** Puts a segment where it belongs: among those that may go, by its rank, or not. */
  rank(entry: TierEntry): void {
    this.#unqueue(entry);
    if (!mayGo(entry)) return;
    const { recomputeMs, blockSizeTokens, eviction } = this.#options;
    const start = entry.segment.firstBlock * blockSizeTokens;
    const end = start + numBlocksOf(entry.segment) * blockSizeTokens;
    const { lastUse, numUses, bytes } = entry;
    const likelihood = this.#outlooks.likelihood(entry);
    const facts = { lastUse, numUses, bytes, recomputeMs: recomputeMs(start, end), likelihood };
    entry.isQueuedKept = this.#outlooks.isKept(entry);
    this.#queueOf(entry).add(entry, eviction.rank(facts, this.#floor));
  }

  /** The segment that goes next, or null. */
  next(): TierEntry | null {
    const entry = this.#others.first() ?? this.#kept.first();
    // Those that are kept would lift the floor for all others.
    if (entry !== null && !entry.isQueuedKept) this.#floor = entry.rank;
    return entry;
  }

  /** Whether the segment that goes next is one that nobody wants kept and that nobody is expected to come back for about now. */
  get isNextSpare(): boolean {
    const entry = this.#others.first();
    return entry !== null && !this.#outlooks.isDue(entry);
  }

  /** A segment is gone. */
  remove(entry: TierEntry): void {
    this.#unqueue(entry);
    this.#outlooks.drop(entry);
  }

  /** A segment is about to take other bytes than it did. */
  resized(entry: TierEntry, bytes: number): void {
    this.#outlooks.resized(entry, bytes);
  }

  #queueOf(entry: TierEntry): EvictionQueue<TierEntry> {
    return entry.isQueuedKept ? this.#kept : this.#others;
  }

  #unqueue(entry: TierEntry): void {
    this.#queueOf(entry).remove(entry);
  }

  /** It is so late: what was kept until now is like any other, and whoever was due may be late. */
  advance(nowMs: number): void {
    for (const entry of this.#outlooks.advance(nowMs)) this.rank(entry);
  }

  /** Segments of a chain, its beginning first, go after all others until a time, as far as their owner has room for such. */
  keep(entries: readonly TierEntry[], owner: string, untilMs: number): void {
    for (const entry of this.#outlooks.keep(entries, owner, untilMs)) this.rank(entry);
  }

  /** Bytes that an owner has among those that go last. */
  keptBytesOf(owner: string): number {
    return this.#outlooks.keptBy(owner);
  }

  /** The conversation that segments belong to is likely to come back. */
  expect(entries: readonly TierEntry[], comesBack: ReturnOutlook): void {
    this.#outlooks.expect(entries, comesBack);
    for (const entry of entries) this.rank(entry);
  }

  /** Throws unless exactly those of the tier's segments that may go are queued. */
  checkInvariants(entries: Iterable<TierEntry>): void {
    const all = [...entries];
    let numMayGo = 0;
    for (const entry of all) {
      assert(mayGo(entry) === (entry.heapAt !== -1), "the wrong segments may go");
      if (mayGo(entry)) numMayGo++;
    }
    assert(numMayGo === this.#others.size + this.#kept.size, "something that is gone could be evicted");
    this.#others.checkInvariants();
    this.#kept.checkInvariants();
    this.#outlooks.checkInvariants(all);
  }
}

/** Only ends of chains may go, and nothing that is being written or read. */
function mayGo({ isStored, children, numPins }: TierEntry): boolean {
  return isStored && children.size === 0 && numPins === 0;
}
