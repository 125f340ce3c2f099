import { assert } from "../util/assert.ts";
import { HashIndex } from "./hash-index.ts";

const NONE = -1;

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
 * Free and cached blocks form two doubly linked lists; cached ones are in order of their release, and the longest released is
 * reused first, once no block is free. Recency is order, not time, so no clock is needed.
 */
export class BlockPool {
  readonly numBlocks: number;
  readonly #refs: Int32Array;
  readonly #hashed: Uint8Array;
  readonly #previous: Int32Array;
  readonly #next: Int32Array;
  /** Indexes of the lists' sentinels, each of which stands between its list's back and front. */
  readonly #free: number;
  readonly #cached: number;
  readonly #index: HashIndex;
  #numReusable: number;
  #numHashedInUse = 0;

  constructor(numBlocks: number) {
    assert(numBlocks > 0, "a pool needs at least one block");
    this.numBlocks = numBlocks;
    this.#free = numBlocks;
    this.#cached = numBlocks + 1;
    this.#refs = new Int32Array(numBlocks);
    this.#hashed = new Uint8Array(numBlocks);
    this.#previous = new Int32Array(numBlocks + 2).fill(this.#cached);
    this.#next = new Int32Array(numBlocks + 2).fill(this.#cached);
    for (let i = 0; i <= numBlocks; i++) {
      this.#previous[i] = i === 0 ? numBlocks : i - 1;
      this.#next[i] = i === numBlocks ? 0 : i + 1;
    }
    this.#index = new HashIndex(numBlocks);
    this.#numReusable = numBlocks;
  }

  /** Blocks that `allocate` can give out: free ones and cached ones. */
  get numReusable(): number {
    return this.#numReusable;
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
    return this.#refs[block]!;
  }

  isHashed(block: number): boolean {
    return this.#hashed[block] === 1;
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
    const free = this.#next[this.#free]!;
    return free === this.#free ? this.oldestCached() : free;
  }

  /** The cached block that has not been used for longest, or -1. */
  oldestCached(): number {
    const block = this.#next[this.#cached]!;
    return block === this.#cached ? NONE : block;
  }

  /** Takes the block that `peek` named, with one reference. */
  allocate(): number {
    const block = this.peek();
    assert(block !== NONE, "the pool is empty");
    assert(this.#hashed[block] === 0, "a cached block is reused without being unhashed");
    this.#unlink(block);
    this.#refs[block] = 1;
    return block;
  }

  /** Adds a reference, bringing a cached block back into use. */
  retain(block: number): void {
    if (this.#refs[block] === 0) {
      assert(this.#hashed[block] === 1, "a free block is retained");
      this.#unlink(block);
      this.#numHashedInUse++;
    }
    this.#refs[block] = this.#refs[block]! + 1;
  }

  /** Drops a reference. With the last one the block becomes cached (hashed) or free. */
  release(block: number): void {
    assert(this.#refs[block]! > 0, "a block is released that nobody uses");
    this.#refs[block] = this.#refs[block]! - 1;
    if (this.#refs[block] > 0) return;
    this.#numHashedInUse -= this.#hashed[block]!;
    this.#link(block, this.#hashed[block] === 1 ? this.#cached : this.#free);
  }

  /** Files a block in use under a hash that no other block carries. */
  hash(block: number, hashes: Int32Array, at: number): void {
    assert(
      this.#refs[block]! > 0 && this.#hashed[block] === 0,
      "only an unhashed block in use can be hashed",
    );
    this.#index.insert(block, hashes, at);
    this.#hashed[block] = 1;
    this.#numHashedInUse++;
  }

  /** Takes a block out of the prefix cache. If nobody uses it, it is free. */
  unhash(block: number): void {
    assert(this.#hashed[block] === 1, "the block carries no hash");
    this.#index.remove(block);
    this.#hashed[block] = 0;
    if (this.#refs[block]! > 0) this.#numHashedInUse--;
    else {
      this.#unlink(block);
      this.#link(block, this.#free);
    }
  }

  #unlink(block: number): void {
    const previous = this.#previous[block]!;
    const next = this.#next[block]!;
    this.#next[previous] = next;
    this.#previous[next] = previous;
    this.#numReusable--;
  }

  /** Appends a block to the list whose sentinel is given. */
  #link(block: number, sentinel: number): void {
    const previous = this.#previous[sentinel]!;
    this.#previous[block] = previous;
    this.#next[block] = sentinel;
    this.#next[previous] = block;
    this.#previous[sentinel] = block;
    this.#numReusable++;
  }

  /**
   * Throws unless the pool is consistent with itself and with `expectedRefs`, the references that its users hold.
   * Cost: linear in the number of blocks.
   */
  checkInvariants(expectedRefs: ReadonlyMap<number, number>): void {
    let listed = 0;
    for (const sentinel of [this.#free, this.#cached]) {
      const hashed = sentinel === this.#cached ? 1 : 0;
      for (let block = this.#next[sentinel]!; block !== sentinel; block = this.#next[block]!) {
        assert(listed++ < this.numBlocks, "a list has a cycle");
        assert(this.#refs[block] === 0, `block ${block} is in use and listed as reusable`);
        assert(this.#previous[this.#next[block]!] === block, `the links of block ${block} disagree`);
        assert(this.#hashed[block] === hashed, `block ${block} is in the wrong list`);
      }
    }
    assert(listed === this.#numReusable, "the count of reusable blocks is off");
    let used = 0;
    let hashed = 0;
    let hashedInUse = 0;
    for (let block = 0; block < this.numBlocks; block++) {
      if (this.#refs[block]! > 0) used++;
      hashed += this.#hashed[block]!;
      if (this.#refs[block]! > 0) hashedInUse += this.#hashed[block]!;
      const expected = expectedRefs.get(block) ?? 0;
      assert(
        this.#refs[block] === expected,
        `block ${block} has ${this.#refs[block]} references, not ${expected}`,
      );
    }
    assert(used === this.numUsed, "the count of used blocks is off");
    assert(hashedInUse === this.#numHashedInUse, "the count of hashed blocks in use is off");
    assert(hashed === this.#index.size, "the index and the hashed blocks disagree");
  }
}
