import { assert } from "../util/assert.ts";

/** Salts whose share of the cache can be bounded; blocks of further ones are not. More than there are tenants. */
const MAX_OWNERS = 4096;
/** A queue is cleared of what is not true any more when it is so much longer than what it should hold. */
const MAX_STALE_SHARE = 2;

/** One salt with a bounded share. */
interface Owner {
  numCached: number;
  /** Its blocks in the order in which they became unused, and some that have been used or forgotten since. */
  queue: Array<{ readonly block: number; readonly stamp: number }>;
  /** Where the queue begins. */
  first: number;
}

/**
 * Counts the cached blocks of salts that may have only a part of the cache: those that carry a hash and that no sequence uses. Blocks
 * of other salts cost nothing here.
 */
export class CacheShares {
  readonly #owners = new Map<string, Owner>();
  readonly #ownerOf: Array<Owner | undefined>;
  /** When a block became cached, as a count; 0 while it is not. */
  readonly #stamps: Float64Array;
  #numStamps = 0;

  constructor(numBlocks: number) {
    this.#ownerOf = new Array(numBlocks);
    this.#stamps = new Float64Array(numBlocks);
  }

  /** A block is filed under a hash of this salt, whose share is bounded. */
  own(block: number, cacheSalt: string): void {
    let owner = this.#owners.get(cacheSalt);
    if (owner === undefined) {
      if (this.#owners.size >= MAX_OWNERS) return;
      owner = { numCached: 0, queue: [], first: 0 };
      this.#owners.set(cacheSalt, owner);
    }
    this.#ownerOf[block] = owner;
  }

  /** A block is not filed any more. */
  disown(block: number): void {
    if (this.#owners.size === 0) return;
    this.uncache(block);
    this.#ownerOf[block] = undefined;
  }

  /** A filed block is not used any more. */
  cache(block: number): void {
    if (this.#owners.size === 0) return;
    const owner = this.#ownerOf[block];
    if (owner === undefined) return;
    const stamp = ++this.#numStamps;
    this.#stamps[block] = stamp;
    owner.numCached++;
    owner.queue.push({ block, stamp });
    if (owner.queue.length > MAX_STALE_SHARE * owner.numCached + MAX_STALE_SHARE) {
      owner.queue = owner.queue.slice(owner.first).filter((entry) => this.#isTrue(entry, owner));
      owner.first = 0;
    }
  }

  /** A block is used again, or forgotten. */
  uncache(block: number): void {
    if (this.#stamps[block] === 0) return;
    this.#stamps[block] = 0;
    this.#ownerOf[block]!.numCached--;
  }

  /** The block of a salt that has been unused for longest, if more than `maxBlocks` of its blocks are; or -1. */
  beyond(cacheSalt: string, maxBlocks: number): number {
    const owner = this.#owners.get(cacheSalt);
    if (owner === undefined || owner.numCached <= maxBlocks) return -1;
    while (!this.#isTrue(owner.queue[owner.first]!, owner)) owner.first++;
    return owner.queue[owner.first]!.block;
  }

  #isTrue({ block, stamp }: Owner["queue"][number], owner: Owner): boolean {
    return this.#stamps[block] === stamp && this.#ownerOf[block] === owner;
  }

  /** Throws unless this agrees with `isCached`, what the pool says of each block. Linear in the number of blocks. */
  checkInvariants(isCached: (block: number) => boolean): void {
    if (this.#owners.size === 0) return;
    const counts = new Map<Owner, number>();
    for (let block = 0; block < this.#stamps.length; block++) {
      const owner = this.#ownerOf[block];
      assert(
        (this.#stamps[block] !== 0) === (owner !== undefined && isCached(block)),
        `block ${block} is counted wrongly`,
      );
      if (owner !== undefined && isCached(block)) counts.set(owner, (counts.get(owner) ?? 0) + 1);
    }
    for (const owner of this.#owners.values()) {
      assert(owner.numCached === (counts.get(owner) ?? 0), "a salt's cached blocks are miscounted");
      const numTrue = owner.queue.slice(owner.first).filter((entry) => this.#isTrue(entry, owner)).length;
      assert(numTrue === owner.numCached, "a salt's queue does not have its cached blocks");
    }
  }
}
