import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { assert } from "../../util/assert.ts";
import { leadingRun } from "./bits.ts";
import type { ByteBudget } from "./byte-budget.ts";

/** Blocks of a page: the bits of a mask. */
export const PAGE_BLOCKS = 32;
const SLOT_BITS = 5;

/** Words of one holder: its dense worker number, then a mask of the page's blocks for each {@link HELD} kind. */
export const HOLDER_WORDS = 6;

/** Words of a page's record; its hashes follow. Nine cache lines in all. */
export const PAGE = {
  /** Mask of the slots that have a block. A page with none is free. */
  live: 0,
  numHolders: 1,
  /** Where the holders are when there are two or more: see `PageHolders`. */
  holders: 2,
  /** Page that has the blocks from which this one's chains go on, or -1. */
  parent: 3,
  firstChild: 4,
  next: 5,
  previous: 6,
  /** When the page was used last, by {@link BlockPages.tick}. */
  used: 7,
  /** Mask of the slots whose block follows the one in the slot before in its chain. */
  joined: 8,
  /** Neighbours of a free page in the list of free pages. */
  previousFree: 7,
  nextFree: 8,
  /** A child with room, where what does not fit here goes on; or -1. */
  open: 9,
  /** The only holder of a page that has one. */
  onlyHolder: 10,
  hashes: 16,
} as const;

const PAGE_WORDS = PAGE.hashes + PAGE_BLOCKS * HASH_WORDS;
const CHUNK_PAGE_BITS = 6;
/** Pages are allocated this many at a time. */
export const CHUNK_PAGES = 1 << CHUNK_PAGE_BITS;
/** Memory of so many pages. */
export const PAGE_CHUNK_BYTES = CHUNK_PAGES * PAGE_WORDS * 4;
/** What the hash table needs for a full page at most: 64 bytes for 12 places that are at least 42 % in use. */
const TABLE_BYTES_PER_PAGE = 13 * PAGE_BLOCKS;
/** A place in the hash table has 27 bits for a block. */
const MAX_PAGES = 2 ** 22;

/** Leaves that are looked at for each one that is evicted. */
const EVICTION_SAMPLES = 16;
/** Pages between two of them, and how often that is tried. */
const SAMPLE_STEP = 7919;
const MAX_STEPS = 64;

export const NONE = -1;

/** A block's place: page and slot in one number. */
export function refOf(page: number, slot: number): number {
  return (page << SLOT_BITS) | slot;
}

export function pageOf(ref: number): number {
  return ref >> SLOT_BITS;
}

export function slotOf(ref: number): number {
  return ref & (PAGE_BLOCKS - 1);
}

/**
 * The blocks of the index, in pages of 32: hashes one after the other, so that a chain that was stored together is compared from
 * front to back in memory. Pages form a tree as their chains do.
 *
 * A page holds any blocks that hang together closely enough: the slots of a chain ascend where there was room. Which neighbours follow
 * each other in a chain is noted, for searches by halves; nothing else depends on the order.
 */
export class BlockPages {
  /** Words of page p: from `baseOf(p)` in `chunks[p >> 6]`. */
  readonly chunks: Int32Array[] = [];
  readonly #budget: ByteBudget;
  /** Pages in use and free ones: all below this number. */
  #numPages = 0;
  #numFree = 0;
  #firstFree = NONE;
  /** Where the search for a page to evict goes on. */
  #hand = 0;
  #now = 0;
  /** Keeps the compiler from leaving out reads whose results nobody uses. */
  warmed = 0;
  /** A page without parent that has room, or -1. */
  openRoot = NONE;

  constructor(budget: ByteBudget) {
    this.#budget = budget;
  }

  get numPages(): number {
    return this.#numPages;
  }

  get numFree(): number {
    return this.#numFree;
  }

  chunkOf(page: number): Int32Array {
    return this.chunks[page >> CHUNK_PAGE_BITS]!;
  }

  baseOf(page: number): number {
    return (page & (CHUNK_PAGES - 1)) * PAGE_WORDS;
  }

  get(page: number, field: number): number {
    return this.chunkOf(page)[this.baseOf(page) + field]!;
  }

  set(page: number, field: number, value: number): void {
    this.chunkOf(page)[this.baseOf(page) + field] = value;
  }

  /** Whether the block carries the hash at `hashes[at … at + 4)`: all 128 bits. */
  equals(ref: number, hashes: Int32Array, at: number): boolean {
    const chunk = this.chunks[ref >> (SLOT_BITS + CHUNK_PAGE_BITS)]!;
    const from = this.baseOf(ref >> SLOT_BITS) + PAGE.hashes + (ref & (PAGE_BLOCKS - 1)) * HASH_WORDS;
    return (
      chunk[from] === hashes[at] &&
      chunk[from + 1] === hashes[at + 1] &&
      chunk[from + 2] === hashes[at + 2] &&
      chunk[from + 3] === hashes[at + 3]
    );
  }

  /**
   * How many blocks from `ref` on are, one after the other, those at `hashes[at …]`, at most `limit`; the first one is known to be. The
   * blocks have been stored as one chain, and a hash stands for everything before it: so the last one is compared, all 128 bits, and
   * when it differs a search by halves finds where the chains part.
   */
  matchRun(ref: number, hashes: Int32Array, at: number, limit: number): number {
    const slot = ref & (PAGE_BLOCKS - 1);
    const joined = this.get(ref >> SLOT_BITS, PAGE.joined);
    // Shifted twice: by 32 would be by 0.
    const length = Math.min(limit, 1 + leadingRun((joined >>> slot) >>> 1, 0, PAGE_BLOCKS));
    if (this.equals(ref + length - 1, hashes, at + (length - 1) * HASH_WORDS)) return length;
    let same = 1;
    let different = length - 1;
    while (same < different) {
      const middle = (same + different) >> 1;
      if (this.equals(ref + middle, hashes, at + middle * HASH_WORDS)) same = middle + 1;
      else different = middle;
    }
    return same;
  }

  /**
   * The first block of the page's latest child when it carries the hash, else -1. Where a chain is a conversation's and not a prompt's that
   * many begin with, it goes on there nearly always, and the table need not be asked.
   */
  onward(page: number, hashes: Int32Array, at: number): number {
    const child = this.get(page, PAGE.firstChild);
    if (child === NONE) return NONE;
    const ref = child << SLOT_BITS;
    return (this.get(child, PAGE.live) & 1) !== 0 && this.equals(ref, hashes, at) ? ref : NONE;
  }

  /**
   * Reads what a look-up reads first of `count` pages behind a page: chains that were stored at once are in pages one behind the other.
   * See `BlockTable.warm`.
   */
  warmBehind(page: number, count: number): void {
    const to = Math.min(page + count, this.#numPages - 1);
    let sum = 0;
    for (let next = page + 1; next <= to; next++) {
      const chunk = this.chunks[next >> CHUNK_PAGE_BITS]!;
      const base = this.baseOf(next);
      sum ^= chunk[base + PAGE.firstChild]! ^ chunk[base + PAGE.hashes]! ^ chunk[base + PAGE_WORDS - 1]!;
    }
    this.warmed = sum;
  }

  /** Writes a block's hash. */
  write(ref: number, hashes: Int32Array, at: number): void {
    const chunk = this.chunkOf(ref >> SLOT_BITS);
    const to = this.baseOf(ref >> SLOT_BITS) + PAGE.hashes + (ref & (PAGE_BLOCKS - 1)) * HASH_WORDS;
    for (let word = 0; word < HASH_WORDS; word++) chunk[to + word] = hashes[at + word]!;
  }

  /** An empty page below `parent`, in use; -1 when there is no memory for it. */
  allocate(parent: number): number {
    let page = this.#firstFree;
    if (page !== NONE) this.#unlinkFree(page);
    else {
      page = this.#numPages;
      if (page >> CHUNK_PAGE_BITS === this.chunks.length && !this.#addChunk()) return NONE;
      this.#numPages++;
    }
    const chunk = this.chunkOf(page);
    const base = this.baseOf(page);
    chunk.fill(0, base, base + PAGE.hashes);
    for (const field of [PAGE.firstChild, PAGE.open, PAGE.parent]) chunk[base + field] = NONE;
    this.touch(page);
    this.adopt(parent, page);
    return page;
  }

  /** A page without blocks goes; its children go on below its parent. */
  free(page: number): void {
    const parent = this.get(page, PAGE.parent);
    this.bequeath(page, parent);
    this.#orphan(page);
    this.set(page, PAGE.live, 0);
    this.set(page, PAGE.numHolders, 0);
    this.set(page, PAGE.previousFree, NONE);
    this.set(page, PAGE.nextFree, this.#firstFree);
    if (this.#firstFree !== NONE) this.set(this.#firstFree, PAGE.previousFree, page);
    this.#firstFree = page;
    this.#numFree++;
  }

  #addChunk(): boolean {
    const promise = CHUNK_PAGES * TABLE_BYTES_PER_PAGE;
    if (this.#numPages >= MAX_PAGES || !this.#budget.has(PAGE_CHUNK_BYTES, promise)) return false;
    this.#budget.take(PAGE_CHUNK_BYTES, promise);
    this.chunks.push(new Int32Array(CHUNK_PAGES * PAGE_WORDS));
    return true;
  }

  /** Something else begins that may use pages. */
  tick(): void {
    this.#now = (this.#now + 1) | 0;
  }

  /** Notes that a page is used. One word of a record that whoever uses it has read: a list in order of use would cost three more. */
  touch(page: number): void {
    this.set(page, PAGE.used, this.#now);
  }

  /** How many ticks ago a page was used. */
  age(page: number): number {
    return (this.#now - this.get(page, PAGE.used)) >>> 0;
  }

  /** The least recently used of {@link EVICTION_SAMPLES} leaves, or of as many as there are, without `kept`; -1 when there is none. */
  findUnused(kept: number): number {
    let oldest = NONE;
    let numSeen = 0;
    for (let i = 0; i < this.#numPages && numSeen < EVICTION_SAMPLES; i++) {
      // In steps at first, since neighbours are of one age. Where leaves are few, one after the other until there is one.
      const isSparse = i >= MAX_STEPS;
      if (isSparse && oldest !== NONE) break;
      this.#hand = (this.#hand + (isSparse ? 1 : SAMPLE_STEP)) % this.#numPages;
      const page = this.#hand;
      if (this.get(page, PAGE.live) === 0 || this.get(page, PAGE.firstChild) !== NONE || page === kept)
        continue;
      numSeen++;
      if (oldest === NONE || this.age(page) > this.age(oldest)) oldest = page;
    }
    return oldest;
  }

  #unlinkFree(page: number): void {
    const previous = this.get(page, PAGE.previousFree);
    const next = this.get(page, PAGE.nextFree);
    if (previous === NONE) this.#firstFree = next;
    else this.set(previous, PAGE.nextFree, next);
    if (next !== NONE) this.set(next, PAGE.previousFree, previous);
    this.#numFree--;
  }

  /** Puts a page without parent below `parent`, -1 for none. */
  adopt(parent: number, page: number): void {
    this.set(page, PAGE.parent, parent);
    if (parent === NONE) return;
    const first = this.get(parent, PAGE.firstChild);
    this.set(page, PAGE.previous, NONE);
    this.set(page, PAGE.next, first);
    if (first !== NONE) this.set(first, PAGE.previous, page);
    this.set(parent, PAGE.firstChild, page);
  }

  #orphan(page: number): void {
    const parent = this.get(page, PAGE.parent);
    if (this.openBelow(parent) === page) this.setOpenBelow(parent, NONE);
    if (parent === NONE) return;
    const next = this.get(page, PAGE.next);
    const previous = this.get(page, PAGE.previous);
    if (previous === NONE) this.set(parent, PAGE.firstChild, next);
    else this.set(previous, PAGE.next, next);
    if (next !== NONE) this.set(next, PAGE.previous, previous);
  }

  /** Gives a page's children to `heir`, -1 for none. */
  bequeath(page: number, heir: number): void {
    for (let child = this.get(page, PAGE.firstChild); child !== NONE; ) {
      const next = this.get(child, PAGE.next);
      this.adopt(heir, child);
      child = next;
    }
    this.set(page, PAGE.firstChild, NONE);
    this.set(page, PAGE.open, NONE);
  }

  /** The child of `parent` with room, of pages without parent for -1; or -1. */
  openBelow(parent: number): number {
    return parent === NONE ? this.openRoot : this.get(parent, PAGE.open);
  }

  setOpenBelow(parent: number, page: number): void {
    if (parent === NONE) this.openRoot = page;
    else this.set(parent, PAGE.open, page);
  }

  /**
   * Moves the last page into a free one's place, or drops it when it is free itself; returns the new number of a moved page, which
   * had been `numPages`, or -1. What else knows pages by number has to be told by the caller.
   */
  compactOne(): number {
    const last = this.#numPages - 1;
    if (this.get(last, PAGE.live) === 0) {
      this.#unlinkFree(last);
      this.#numPages--;
      this.#dropChunks();
      return NONE;
    }
    const hole = this.#firstFree;
    this.#unlinkFree(hole);
    const chunk = this.chunkOf(last);
    const base = this.baseOf(last);
    this.chunkOf(hole).set(chunk.subarray(base, base + PAGE_WORDS), this.baseOf(hole));
    this.#relink(last, hole);
    this.#numPages--;
    this.#dropChunks();
    return hole;
  }

  #relink(from: number, to: number): void {
    for (let child = this.get(to, PAGE.firstChild); child !== NONE; child = this.get(child, PAGE.next))
      this.set(child, PAGE.parent, to);
    const parent = this.get(to, PAGE.parent);
    if (this.openBelow(parent) === from) this.setOpenBelow(parent, to);
    if (parent === NONE) return;
    const next = this.get(to, PAGE.next);
    const previous = this.get(to, PAGE.previous);
    if (previous === NONE) this.set(parent, PAGE.firstChild, to);
    else this.set(previous, PAGE.next, to);
    if (next !== NONE) this.set(next, PAGE.previous, to);
  }

  #dropChunks(): void {
    // Not while half a chunk or less would be left over: the next pages would need it back.
    while (this.chunks.length * CHUNK_PAGES - this.#numPages >= CHUNK_PAGES + CHUNK_PAGES / 2)
      this.#dropChunk();
  }

  /** Returns memory behind the last page, all of it. */
  trim(): void {
    while (this.chunks.length * CHUNK_PAGES - this.#numPages >= CHUNK_PAGES) this.#dropChunk();
  }

  #dropChunk(): void {
    this.chunks.pop();
    this.#budget.give(PAGE_CHUNK_BYTES, CHUNK_PAGES * TABLE_BYTES_PER_PAGE);
  }

  /** Throws unless list, tree and counts agree. */
  checkInvariants(): void {
    let numUsed = 0;
    let numChildren = 0;
    for (let page = 0; page < this.#numPages; page++) {
      if (this.get(page, PAGE.live) === 0) continue;
      numUsed++;
      const joined = this.get(page, PAGE.joined);
      const live = this.get(page, PAGE.live);
      assert((joined & ~(live & (live << 1))) === 0, `page ${page} joins blocks that are not there`);
      const parent = this.get(page, PAGE.parent);
      assert(parent === NONE || this.get(parent, PAGE.live) !== 0, `page ${page} hangs below a free one`);
      const open = this.get(page, PAGE.open);
      assert(open === NONE || this.get(open, PAGE.parent) === page, `page ${page}: open is no child`);
      for (let child = this.get(page, PAGE.firstChild); child !== NONE; child = this.get(child, PAGE.next)) {
        assert(this.get(child, PAGE.parent) === page, `page ${child} is another one's child`);
        numChildren++;
      }
      if (parent !== NONE) numChildren--;
    }
    assert(numChildren === 0, "parents and children disagree");
    assert(numUsed + this.#numFree === this.#numPages, "pages are neither in use nor free");
    let numListed = 0;
    for (let page = this.#firstFree; page !== NONE; page = this.get(page, PAGE.nextFree)) {
      assert(this.get(page, PAGE.live) === 0, "a page in use is in the list of free ones");
      numListed++;
    }
    assert(numListed === this.#numFree, "free pages are counted wrongly");
  }
}
