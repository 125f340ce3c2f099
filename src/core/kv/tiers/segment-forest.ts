import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { assert } from "../../util/assert.ts";
import type { Ranked } from "./eviction.ts";
import type { Outlook } from "./outlooks.ts";
import { hashKey, numBlocksOf, numEqual, type Segment } from "./segment.ts";

/** A segment of a tier, and what is known of it. */
export interface TierEntry extends Ranked {
  readonly segment: Segment;
  bytes: number;
  isStored: boolean;
  /** Stored, and so is everything before it. */
  isReachable: boolean;
  readonly parent: TierEntry | null;
  readonly children: Set<TierEntry>;
  /** Reads under way. */
  numPins: number;
  /** Why it can't be evicted: its own reasons, and children that can't be. */
  numLocks: number;
  lastUse: number;
  numUses: number;
  /** What is known of its future. */
  outlook: Outlook | null;
  /** Whether it is queued among those that are kept. */
  isQueuedKept: boolean;
}

/** The segments of one tier as trees: the parent of each is there as well. They are found by the hash of each of their blocks. */
export class SegmentForest {
  readonly #byHash = new Map<string, TierEntry>();
  readonly #byId = new Map<number, TierEntry>();

  get numBlocks(): number {
    return this.#byHash.size;
  }

  all(): Iterable<TierEntry> {
    return this.#byId.values();
  }

  /** The segments that begin prompts. */
  roots(): TierEntry[] {
    return [...this.#byId.values()].filter(({ parent }) => parent === null);
  }

  get(segment: Segment): TierEntry | undefined {
    return this.#byId.get(segment.id);
  }

  /** The entry that holds the block with the hash at `hashes[at … at + HASH_WORDS)`. */
  holding(hashes: Int32Array, at: number): TierEntry | undefined {
    return this.#byHash.get(hashKey(hashes, at));
  }

  hasAny({ hashes }: Segment): boolean {
    for (let at = 0; at < hashes.length; at += HASH_WORDS)
      if (this.#byHash.has(hashKey(hashes, at))) return true;
    return false;
  }

  /** The entry of the block before, null when the segment begins a prompt, undefined when it is missing. */
  parentOf({ parent }: Segment): TierEntry | null | undefined {
    return parent === null ? null : this.#byHash.get(hashKey(parent, 0));
  }

  add(entry: TierEntry): void {
    const { segment, parent } = entry;
    for (let at = 0; at < segment.hashes.length; at += HASH_WORDS) {
      const key = hashKey(segment.hashes, at);
      assert(!this.#byHash.has(key), "a tier would hold a block twice");
      this.#byHash.set(key, entry);
    }
    this.#byId.set(segment.id, entry);
    parent?.children.add(entry);
  }

  /** Takes an entry and everything below it out; returns them. */
  cut(root: TierEntry): readonly TierEntry[] {
    const entries = [root];
    for (let i = 0; i < entries.length; i++) entries.push(...entries[i]!.children);
    for (const { segment } of entries) {
      this.#byId.delete(segment.id);
      for (let at = 0; at < segment.hashes.length; at += HASH_WORDS)
        this.#byHash.delete(hashKey(segment.hashes, at));
    }
    root.parent?.children.delete(root);
    return entries;
  }

  /** The segments that hold the first blocks of a chain, as far as it goes on without a gap, the first one first. */
  along(chain: Int32Array, numBlocks: number): TierEntry[] {
    const entries: TierEntry[] = [];
    for (let block = 0; block < numBlocks; ) {
      const entry = this.holding(chain, block * HASH_WORDS);
      if (entry === undefined) break;
      entries.push(entry);
      const skipped = block - entry.segment.firstBlock;
      block += numEqual(entry.segment.hashes, skipped, chain, block, numBlocks);
    }
    return entries;
  }

  /** Hashes of the chain that ends with the given segment, from its first block on. */
  chainTo(last: TierEntry): Int32Array {
    const { firstBlock, hashes } = last.segment;
    const chain = new Int32Array((firstBlock + numBlocksOf(last.segment)) * HASH_WORDS);
    chain.set(hashes, firstBlock * HASH_WORDS);
    for (let child = last; child.parent !== null; child = child.parent) {
      const { segment } = child.parent;
      // A child may begin in the middle of its parent.
      const numWords = (child.segment.firstBlock - segment.firstBlock) * HASH_WORDS;
      chain.set(segment.hashes.subarray(0, numWords), segment.firstBlock * HASH_WORDS);
    }
    return chain;
  }

  /** Throws unless indexes and trees agree. Linear in what is held. */
  checkInvariants(): void {
    let numBlocks = 0;
    for (const [id, entry] of this.#byId) {
      const { segment, parent } = entry;
      assert(segment.id === id, "a segment is filed under another id");
      assert(parent === null || this.#byId.get(parent.segment.id) === parent, "a parent is missing");
      assert(parent === null || parent.children.has(entry), "a parent does not know its child");
      assert((parent === null) === (segment.firstBlock === 0), "a chain begins in the middle");
      for (let at = 0; at < segment.hashes.length; at += HASH_WORDS)
        assert(this.#byHash.get(hashKey(segment.hashes, at)) === entry, "a block is not filed");
      numBlocks += numBlocksOf(segment);
      const isReachable = entry.isStored && (parent === null || parent.isReachable);
      assert(entry.isReachable === isReachable, "what can be reached is not told");
    }
    assert(numBlocks === this.#byHash.size, "the count of blocks is off");
  }
}
