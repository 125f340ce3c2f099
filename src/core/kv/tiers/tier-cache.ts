import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { assert } from "../../util/assert.ts";
import type { KvEventLog } from "../kv-event-log.ts";
import { MAX_TENANT_KEPT_SHARE } from "../retention-wishes.ts";
import { EvictionOrder, type EvictionOrderOptions } from "./eviction-order.ts";
import { LockedRoom } from "./locked-room.ts";
import type { ReturnOutlook } from "./outlooks.ts";
import {
  type LowerTier,
  numBlocksOf,
  numEqual,
  type Segment,
  type TierPiece,
  type TierStats,
} from "./segment.ts";
import { type TierEntry as Entry, SegmentForest } from "./segment-forest.ts";

/** Blocks that one tier keeps track of, however small they are: about 150 bytes of memory each. */
const MAX_TIER_BLOCKS = 1 << 20;
/** Segments of one tier that are being written, whatever their size: each is a call that waits for the engine at first. */
const MAX_PENDING_SEGMENTS = 512;

export interface TierCacheOptions extends EvictionOrderOptions {
  readonly tier: LowerTier;
  readonly maxBytes: number;
  /** Bytes of segments that are being written; what would exceed it is not taken in. */
  readonly maxPendingBytes: number;
  /** The same for their number. Default: {@link MAX_PENDING_SEGMENTS}. */
  readonly maxPendingSegments?: number | undefined;
  /** Is told what can be found in the tier. */
  readonly kvEvents?: KvEventLog | undefined;
}

/**
 * What one lower tier holds: segments, found by the hash of each of their blocks. It decides; bytes are moved by others.
 *
 * The segments form trees: the parent of each is in the tier as well. Ends go first when room is needed, and what hangs below
 * a segment that is lost goes with it. So whatever is held can be used, and what is held of a chain is its beginning.
 */
export class TierCache {
  readonly tier: LowerTier;
  readonly #options: TierCacheOptions;
  readonly #forest = new SegmentForest();
  readonly #locked = new LockedRoom();
  readonly #order: EvictionOrder;
  #deletions: Segment[] = [];
  #isOn = true;
  #bytes = 0;
  #pendingBytes = 0;
  #numPending = 0;
  #numUses = 0;
  #hits = 0;
  #misses = 0;
  #evictions = 0;
  #bad = 0;
  #dropped = 0;

  constructor(options: TierCacheOptions) {
    this.tier = options.tier;
    this.#options = options;
    this.#order = new EvictionOrder(options, options.maxBytes * MAX_TENANT_KEPT_SHARE);
    options.kvEvents?.describeWith(() => this.#describe(this.#forest.roots()));
  }

  get isOn(): boolean {
    return this.#isOn;
  }

  get stats(): TierStats {
    return {
      blocks: this.#forest.numBlocks,
      bytes: this.#bytes,
      hits: this.#hits,
      misses: this.#misses,
      evictions: this.#evictions,
      bad: this.#bad,
      dropped: this.#dropped,
    };
  }

  /** Segments whose bytes nobody needs any more, since the last call. */
  takeDeletions(): readonly Segment[] {
    if (this.#deletions.length === 0) return [];
    const deletions = this.#deletions;
    this.#deletions = [];
    return deletions;
  }

  /** How many leading blocks of a chain the tier holds or is about to hold. */
  countHeld(chain: Int32Array, numBlocks: number): number {
    let low = 0;
    let high = numBlocks;
    // What is held of a chain is its beginning.
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#forest.holding(chain, (middle - 1) * HASH_WORDS) !== undefined) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /**
   * The chain that goes through the block with this hash, from its beginning to the end of what is held behind it: of several ways
   * the one used last. Null when the block is not held.
   */
  chainThrough(hash: Int32Array): Int32Array | null {
    let last = this.#forest.holding(hash, 0);
    if (last === undefined) return null;
    for (let next: Entry | null = last; next !== null; ) {
      last = next;
      const end = last.segment.firstBlock + numBlocksOf(last.segment);
      next = null;
      for (const child of last.children)
        if (child.segment.firstBlock === end && (next === null || child.lastUse > next.lastUse)) next = child;
    }
    return this.#forest.chainTo(last);
  }

  /**
   * What the tier could give of blocks [from, to) of a chain, without a gap at the beginning. `hashes` are those of the chain from block
   * `base` on.
   */
  match(hashes: Int32Array, from: number, to: number, base = 0): TierPiece[] {
    const pieces: TierPiece[] = [];
    for (let at = from; at < to; ) {
      const entry = this.#forest.holding(hashes, (at - base) * HASH_WORDS);
      if (entry === undefined || !entry.isStored) break;
      const skipBlocks = at - entry.segment.firstBlock;
      const numBlocks = numEqual(entry.segment.hashes, skipBlocks, hashes, at - base, to - base);
      // Another worker that asks may be wrong about which block of the chain it is.
      if (numBlocks === 0) break;
      pieces.push({ tier: this.tier, segment: entry.segment, skipBlocks, numBlocks });
      at += numBlocks;
    }
    return pieces;
  }

  /** Counts what was looked for and what of it is taken from here. */
  countLookup(numWanted: number, numTaken: number): void {
    this.#hits += numTaken;
    this.#misses += numWanted - numTaken;
  }

  /** Whether the block before a segment is held, and none of its own. */
  canAdd(segment: Segment): boolean {
    return this.#forest.parentOf(segment) !== undefined && !this.#forest.hasAny(segment);
  }

  /** Whether room for so many bytes begins with what is free, or with a segment that nobody is waited for with: see `isNextSpare`. */
  hasSpareRoom(bytes: number): boolean {
    return this.#bytes + bytes <= this.#options.maxBytes || this.#order.isNextSpare;
  }

  /**
   * Makes room for a segment that is about to be written, or returns false, and counts it as dropped. The block before it must
   * be held, and none of its own.
   */
  reserve(segment: Segment, bytes: number): boolean {
    const parent = this.#forest.parentOf(segment);
    const fits =
      parent !== undefined &&
      this.#isOn &&
      bytes <= this.#options.maxBytes &&
      this.#numPending < (this.#options.maxPendingSegments ?? MAX_PENDING_SEGMENTS) &&
      this.#pendingBytes + bytes <= this.#options.maxPendingBytes;
    if (!fits) return this.#drop(segment);
    // Linked first, so that making room does not take the segment's own parent.
    const entry = this.#link(segment, parent, bytes);
    this.#numPending++;
    this.#pendingBytes += bytes;
    const { bytes: lockedBytes, numBlocks } = this.#locked;
    if (lockedBytes <= this.#options.maxBytes && numBlocks <= MAX_TIER_BLOCKS) {
      this.#makeRoom();
      return true;
    }
    // Whatever were evicted, it would not fit.
    this.#forget(entry);
    return this.#drop(segment);
  }

  #drop(segment: Segment): false {
    this.#dropped += numBlocksOf(segment);
    return false;
  }

  /**
   * Takes in what was found at the start, least recently used first. Returns what can't be used, because its beginning is missing
   * or it is there twice; what is too much is evicted. `numBad` were damaged.
   */
  restore(
    found: ReadonlyArray<{ readonly segment: Segment; readonly bytes: number }>,
    numBad: number,
  ): Segment[] {
    this.#bad += numBad;
    const useless: Segment[] = [];
    const entries = new Map<Segment, Entry>();
    for (const { segment, bytes } of found.toSorted((a, b) => a.segment.firstBlock - b.segment.firstBlock)) {
      const parent = this.#forest.parentOf(segment);
      const isTaken = this.#forest.get(segment) !== undefined || this.#forest.hasAny(segment);
      if (!this.#isOn || parent === undefined || isTaken) {
        useless.push(segment);
        continue;
      }
      const entry = this.#link(segment, parent, bytes);
      this.#store(entry);
      entries.set(segment, entry);
    }
    for (const { segment } of found) {
      const entry = entries.get(segment);
      if (entry !== undefined) this.#touch(entry);
    }
    this.#makeRoom();
    return useless;
  }

  /** A segment has been written, in so many bytes. One that has been removed meanwhile is removed once more. */
  written(segment: Segment, bytes: number): void {
    const entry = this.#forest.get(segment);
    if (entry === undefined) {
      this.#deletions.push(segment);
      return;
    }
    assert(!entry.isStored, "a segment is written twice");
    this.#numPending--;
    this.#pendingBytes -= entry.bytes;
    this.#bytes += bytes - entry.bytes;
    this.#locked.grew(bytes - entry.bytes);
    this.#order.resized(entry, bytes);
    entry.bytes = bytes;
    this.#store(entry);
    this.#makeRoom();
  }

  /** A segment could not be written. */
  notWritten(segment: Segment): void {
    const entry = this.#forest.get(segment);
    if (entry !== undefined) this.#forget(entry);
    this.#drop(segment);
  }

  /** A segment could not be read, or its bytes are not what they should be: it goes, with all that hangs below it. */
  discard(segment: Segment): void {
    const entry = this.#forest.get(segment);
    if (entry === undefined) return;
    this.#bad++;
    this.#forget(entry);
  }

  /** Whether the segment can be read. */
  holds(segment: Segment): boolean {
    return this.#forest.get(segment)?.isStored ?? false;
  }

  /** Bytes are being read: until `unpin` the segment stays. Counts as a use of it and of everything before it. */
  pin(segment: Segment): void {
    const pinned = this.#forest.get(segment);
    assert(pinned?.isStored, "only what is stored can be read");
    pinned.numPins++;
    this.#locked.lock(pinned);
    this.#touch(pinned);
  }

  unpin(segment: Segment): void {
    const entry = this.#forest.get(segment);
    if (entry === undefined) return;
    entry.numPins--;
    this.#locked.unlock(entry);
    this.#order.rank(entry);
  }

  /** The store behind the tier has failed: nothing is held any more, and nothing is taken in. */
  turnOff(): void {
    this.#isOn = false;
    for (const root of this.#forest.roots()) this.#forget(root);
  }

  #link(segment: Segment, parent: Entry | null, bytes: number): Entry {
    const entry: Entry = {
      segment,
      bytes,
      isStored: false,
      isReachable: false,
      parent,
      children: new Set(),
      numPins: 0,
      numLocks: 0,
      lastUse: ++this.#numUses,
      numUses: 1,
      rank: 0,
      heapAt: -1,
      outlook: null,
      isQueuedKept: false,
    };
    this.#forest.add(entry);
    this.#locked.lock(entry);
    this.#bytes += bytes;
    if (parent !== null) this.#order.rank(parent);
    return entry;
  }

  #store(entry: Entry): void {
    entry.isStored = true;
    this.#locked.unlock(entry);
    this.#order.rank(entry);
    if (entry.parent?.isReachable ?? true) this.#describe([entry]);
  }

  /** Tells of what is stored at and below the given segments, which can be reached; parents before their children. */
  #describe(entries: readonly Entry[]): void {
    const rest = [...entries];
    for (let entry = rest.pop(); entry !== undefined; entry = rest.pop()) {
      if (!entry.isStored) continue;
      entry.isReachable = true;
      const { parent, hashes } = entry.segment;
      this.#options.kvEvents?.stored(this.tier, parent, hashes);
      rest.push(...entry.children);
    }
  }

  /** It is so late: what was kept until now is like any other, and whoever was due may be late. */
  advance(nowMs: number): void {
    this.#order.advance(nowMs);
  }

  /** The first blocks of a chain go after all others until a time, as far as their owner has room for such. */
  keep(chain: Int32Array, numBlocks: number, owner: string, untilMs: number): void {
    this.#order.keep(this.#forest.along(chain, numBlocks), owner, untilMs);
  }

  /** Bytes that go after all others for an owner. */
  keptBytesOf(owner: string): number {
    return this.#order.keptBytesOf(owner);
  }

  /** The conversation whose chain this is is likely to come back. */
  expect(chain: Int32Array, comesBack: ReturnOutlook): void {
    this.#order.expect(this.#forest.along(chain, chain.length / HASH_WORDS), comesBack);
  }

  /** The end of a chain is used before its beginning, so that the beginning is the more recent one. */
  #touch(last: Entry): void {
    for (let entry: Entry | null = last; entry !== null; entry = entry.parent) {
      entry.lastUse = ++this.#numUses;
      entry.numUses++;
      this.#order.rank(entry);
    }
  }

  #makeRoom(): void {
    while (this.#bytes > this.#options.maxBytes || this.#forest.numBlocks > MAX_TIER_BLOCKS) {
      const entry = this.#order.next();
      if (entry === null) return;
      this.#evictions += numBlocksOf(entry.segment);
      this.#forget(entry);
    }
  }

  /** Removes an entry and everything below it. */
  #forget(root: Entry): void {
    const entries = this.#forest.cut(root);
    this.#locked.removed(entries);
    for (const entry of entries) {
      this.#order.remove(entry);
      this.#bytes -= entry.bytes;
      if (!entry.isStored) {
        // What is still being written is deleted when it has been.
        this.#numPending--;
        this.#pendingBytes -= entry.bytes;
        continue;
      }
      if (entry.isReachable) this.#options.kvEvents?.removed(this.tier, entry.segment.hashes);
      this.#deletions.push(entry.segment);
    }
    if (root.parent !== null) this.#order.rank(root.parent);
  }

  /** Throws unless indexes, trees, sums and the order of eviction agree. Linear in what is held. */
  checkInvariants(): void {
    this.#forest.checkInvariants();
    this.#locked.checkInvariants(this.#forest.all());
    this.#order.checkInvariants(this.#forest.all());
    let bytes = 0;
    let pendingBytes = 0;
    let numPending = 0;
    for (const entry of this.#forest.all()) {
      bytes += entry.bytes;
      assert(entry.numPins >= 0, "more reads ended than began");
      if (entry.isStored) continue;
      pendingBytes += entry.bytes;
      numPending++;
    }
    assert(bytes === this.#bytes && pendingBytes === this.#pendingBytes, "the count of bytes is off");
    assert(numPending === this.#numPending, "the count of segments being written is off");
    assert(this.#pendingBytes <= this.#options.maxPendingBytes, "too much waits to be written");
  }
}
