import { assert } from "../util/assert.ts";
import { BlockRecords, FIELD, RECORD_WORDS } from "./block-records.ts";
import { HashIndex } from "./hash-index.ts";

const NONE = -1;

/** Records behind those of the blocks: the sentinels of the lists. */
const NUM_SENTINELS = 3;

/**
 * Reference-counted KV blocks with a prefix cache.
 *
 * A block is in one of three states:
 *
 * ```
 *   in use   refs > 0                         may or may not carry a hash
 *   cached   refs = 0, carries a hash         content kept until the block is needed
 *   free     refs = 0, no hash
 * ```
 *
 * Free and cached blocks form doubly linked lists; cached ones are in order of their release, and the longest released is
 * reused first, once no block is free. Recency is order, not time, so no clock is needed. Cached blocks that are to be kept longer
 * have a list of their own, bounded by `maxKept`, and are reused after all others.
 */
export class BlockPool {
  readonly numBlocks: number;
  readonly records: BlockRecords;
  readonly #words: Int32Array;
  /** Indexes of the lists' sentinels, each of which stands between its list's back and front. */
  readonly #free: number;
  readonly #cached: number;
  readonly #kept: number;
  readonly #maxKept: number;
  #numKept = 0;
  readonly #index: HashIndex;
  #numReusable: number;
  #numHashedInUse = 0;

  /** @param maxKept most cached blocks that are reused only after all others */
  constructor(numBlocks: number, maxKept: number = numBlocks) {
    assert(numBlocks > 0, "a pool needs at least one block");
    this.#maxKept = maxKept;
    this.numBlocks = numBlocks;
    this.#free = numBlocks;
    this.#cached = numBlocks + 1;
    this.#kept = numBlocks + 2;
    this.records = new BlockRecords(numBlocks + NUM_SENTINELS);
    this.#words = this.records.words;
    for (let i = 0; i <= numBlocks; i++) this.#join(i, i === numBlocks ? 0 : i + 1);
    for (const list of [this.#cached, this.#kept]) this.#join(list, list);
    this.#index = new HashIndex(numBlocks, this.records);
    this.#numReusable = numBlocks;
  }

  /** Blocks that `allocate` can give out: free ones and cached ones. */
  get numReusable(): number {
    return this.#numReusable;
  }

  /** Cached blocks that could still be made to be reused after all others, and of those that take their turn. */
  get keepable(): { readonly room: number; readonly unkept: number } {
    return { room: this.#maxKept - this.#numKept, unkept: this.#numReusable - this.#numKept };
  }

  get numUsed(): number {
    return this.numBlocks - this.#numReusable;
  }

  /** Blocks that carry a hash, in use or not. */
  get numHashed(): number {
    return this.#index.size;
  }

  get numHashedInUse(): number {
    return this.#numHashedInUse;
  }

  refs(block: number): number {
    return this.#words[block * RECORD_WORDS + FIELD.refs]!;
  }

  isHashed(block: number): boolean {
    return this.#words[block * RECORD_WORDS + FIELD.isHashed] === 1;
  }

  /** The block that carries the hash at `hashes[at … at + 4)`, or -1. */
  find(hashes: Int32Array, at: number): number {
    return this.#index.find(hashes, at);
  }

  /**
   * The block that will be given out next, or -1. When it still carries a hash, the caller takes leave of its content with
   * {@link unhash} before it allocates.
   */
  peek(): number {
    const free = this.#nextOf(this.#free);
    return free === this.#free ? this.oldestCached() : free;
  }

  /** The cached block that is to be reused first: of those that are not kept longer, if there are any, the one unused for longest; or -1. */
  oldestCached(): number {
    const block = this.#nextOf(this.#cached);
    if (block !== this.#cached) return block;
    const kept = this.#nextOf(this.#kept);
    return kept === this.#kept ? NONE : kept;
  }

  /** Whether the last sequence that released the block asked for it to be kept longer than others. */
  isKept(block: number): boolean {
    return this.#words[block * RECORD_WORDS + FIELD.isKept] === 1;
  }

  /** Takes the block that `peek` named, with one reference. */
  allocate(): number {
    const block = this.peek();
    assert(block !== NONE, "the pool is empty");
    assert(!this.isHashed(block), "a cached block is reused without being unhashed");
    this.#unlink(block);
    this.#words[block * RECORD_WORDS + FIELD.refs] = 1;
    return block;
  }

  /** Adds a reference, bringing a cached block back into use. */
  retain(block: number): void {
    if (this.refs(block) === 0) {
      assert(this.isHashed(block), "a free block is retained");
      this.#unlink(block);
      this.#numHashedInUse++;
    }
    this.#words[block * RECORD_WORDS + FIELD.refs]!++;
  }

  /**
   * Drops a reference. With the last one the block becomes cached (hashed) or free. A cached one is reused before the others
   * (`none`), in its turn, or after the others (`long`), of which only some can be: then the first of them takes its turn.
   */
  release(block: number, keep: "none" | "default" | "long" = "default"): void {
    assert(this.refs(block) > 0, "a block is released that nobody uses");
    this.#words[block * RECORD_WORDS + FIELD.refs]!--;
    if (this.refs(block) > 0) return;
    if (!this.isHashed(block)) {
      this.#link(block, this.#free);
      return;
    }
    this.#numHashedInUse--;
    const isKept = keep === "long" && this.#maxKept > 0;
    this.#words[block * RECORD_WORDS + FIELD.isKept] = isKept ? 1 : 0;
    if (!isKept) {
      this.#link(block, keep === "none" ? this.#nextOf(this.#cached) : this.#cached);
      return;
    }
    this.#link(block, this.#kept);
    if (++this.#numKept <= this.#maxKept) return;
    const first = this.#nextOf(this.#kept);
    this.#unlink(first);
    this.#words[first * RECORD_WORDS + FIELD.isKept] = 0;
    this.#link(first, this.#cached);
  }

  /** From now on a filed block is reused after all others, once nobody uses it, those kept earlier too. Returns false when too many are. */
  keep(block: number): boolean {
    assert(this.isHashed(block), "a block without content is kept");
    if (this.refs(block) === 0) {
      if (!this.isKept(block) && this.#numKept >= this.#maxKept) return false;
      this.#unlink(block);
      this.#link(block, this.#kept);
      this.#numKept++;
    }
    this.#words[block * RECORD_WORDS + FIELD.isKept] = 1;
    return true;
  }

  /** A block is like any other again, the next to be reused (`old`) or the last (`recent`) of those that nobody uses. */
  unkeep(block: number, as: "old" | "recent"): void {
    if (!this.isKept(block)) return;
    const isCached = this.refs(block) === 0;
    if (isCached) this.#unlink(block);
    this.#words[block * RECORD_WORDS + FIELD.isKept] = 0;
    if (isCached) this.#link(block, as === "old" ? this.#nextOf(this.#cached) : this.#cached);
  }

  /** Files a block in use under a hash that no other block carries. */
  hash(block: number, hashes: Int32Array, at: number): void {
    assert(this.refs(block) > 0 && !this.isHashed(block), "only an unhashed block in use can be hashed");
    this.#index.insert(block, hashes, at);
    this.#words[block * RECORD_WORDS + FIELD.isHashed] = 1;
    this.#numHashedInUse++;
  }

  /** Takes a block out of the prefix cache. If nobody uses it, it is free. */
  unhash(block: number): void {
    assert(this.isHashed(block), "the block carries no hash");
    this.#index.remove(block);
    this.#words[block * RECORD_WORDS + FIELD.isHashed] = 0;
    if (this.refs(block) > 0) this.#numHashedInUse--;
    else {
      this.#unlink(block);
      this.#link(block, this.#free);
    }
    this.#words[block * RECORD_WORDS + FIELD.isKept] = 0;
  }

  #nextOf(block: number): number {
    return this.#words[block * RECORD_WORDS + FIELD.next]!;
  }

  #previousOf(block: number): number {
    return this.#words[block * RECORD_WORDS + FIELD.previous]!;
  }

  /** Makes two blocks, or a sentinel, neighbours. */
  #join(before: number, after: number): void {
    this.#words[before * RECORD_WORDS + FIELD.next] = after;
    this.#words[after * RECORD_WORDS + FIELD.previous] = before;
  }

  #unlink(block: number): void {
    const previous = this.#previousOf(block);
    const next = this.#nextOf(block);
    this.#join(previous, next);
    this.#numReusable--;
    if (this.isKept(block)) this.#numKept--;
  }

  /** Puts a block before another one of a list; before the sentinel, it is the last. */
  #link(block: number, next: number): void {
    const previous = this.#previousOf(next);
    this.#join(previous, block);
    this.#join(block, next);
    this.#numReusable++;
  }

  /**
   * Throws unless the pool is consistent with itself and with `expectedRefs`, the references that its users hold.
   * Cost: linear in the number of blocks.
   */
  checkInvariants(expectedRefs: ReadonlyMap<number, number>): void {
    let listed = 0;
    let kept = 0;
    for (const sentinel of [this.#free, this.#cached, this.#kept]) {
      const hashed = sentinel === this.#free ? 0 : 1;
      for (let block = this.#nextOf(sentinel); block !== sentinel; block = this.#nextOf(block)) {
        assert(listed++ < this.numBlocks, "a list has a cycle");
        assert(this.refs(block) === 0, `block ${block} is in use and listed as reusable`);
        assert(this.#previousOf(this.#nextOf(block)) === block, `the links of block ${block} disagree`);
        assert(this.isHashed(block) === (hashed === 1), `block ${block} is in the wrong list`);
        assert(this.isKept(block) === (sentinel === this.#kept), `block ${block} is in the wrong list`);
        if (this.isKept(block)) kept++;
      }
    }
    assert(kept === this.#numKept && kept <= this.#maxKept, "the count of kept blocks is off");
    assert(listed === this.#numReusable, "the count of reusable blocks is off");
    let used = 0;
    let hashed = 0;
    let hashedInUse = 0;
    for (let block = 0; block < this.numBlocks; block++) {
      if (this.refs(block) > 0) used++;
      hashed += this.#words[block * RECORD_WORDS + FIELD.isHashed]!;
      if (this.refs(block) > 0) hashedInUse += this.#words[block * RECORD_WORDS + FIELD.isHashed]!;
      const expected = expectedRefs.get(block) ?? 0;
      assert(
        this.refs(block) === expected,
        `block ${block} has ${this.refs(block)} references, not ${expected}`,
      );
    }
    assert(used === this.numUsed, "the count of used blocks is off");
    assert(hashedInUse === this.#numHashedInUse, "the count of hashed blocks in use is off");
    assert(hashed === this.#index.size, "the index and the hashed blocks disagree");
  }
}
