import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { assert } from "../../util/assert.ts";
import { countBits, lowestBit } from "./bits.ts";
import {
  BlockPages,
  CHUNK_PAGES,
  HOLDER_WORDS,
  NONE,
  PAGE,
  PAGE_BLOCKS,
  PAGE_CHUNK_BYTES,
  pageOf,
  refOf,
  slotOf,
} from "./block-pages.ts";
import { BlockTable, TABLE_CHUNK_BYTES } from "./block-table.ts";
import { ByteBudget } from "./byte-budget.ts";
import { PageHolders } from "./page-holders.ts";
import { PageMerger } from "./page-merger.ts";

/** A page with so few blocks may be merged into another one. */
const MERGE_AT_MOST = PAGE_BLOCKS / 2;
/** Free pages that are kept without compacting, besides an eighth of all. */
const SPARE_PAGES = 32;
/** Memory that is made free when something is refused for the lack of it: a chunk of whatever it may be. */
const ROOM_BYTES = 2 * Math.max(PAGE_CHUNK_BYTES, TABLE_CHUNK_BYTES);

/** Places of the masks in a holder: see `HELD`. */
type Held = number;

/**
 * Which worker has which block, and how: pages of blocks, the table that finds them, and the holders of each page, in one budget of
 * bytes. When it is used up, the ends of the prefixes that were used the longest ago go.
 *
 * A block is there as long as somebody has it.
 */
export class BlockStore {
  readonly budget: ByteBudget;
  readonly pages: BlockPages;
  readonly table: BlockTable;
  readonly holders: PageHolders;
  readonly #merger: PageMerger;
  /** Pages that have lost blocks and are half empty. */
  readonly #shrunk: number[] = [];
  #lastMarked = NONE;
  /** (Block, worker) pairs. */
  numEntries = 0;
  numEvictedBlocks = 0;
  numEvictedEntries = 0;
  /** Blocks that could not be noted: no memory, although everything else has been dropped. */
  numRefused = 0;

  constructor(maxBytes: number) {
    this.budget = new ByteBudget(maxBytes);
    this.pages = new BlockPages(this.budget);
    this.table = new BlockTable(this.pages, this.budget);
    this.holders = new PageHolders(this.pages, this.budget);
    this.#merger = new PageMerger(this.pages, this.table, this.holders, this.budget);
  }

  /** Notes that a worker has `count` blocks of a chain. `parent` is the hash before them, null at the beginning of a prompt. */
  mark(worker: number, held: Held, hashes: Int32Array, count: number, parent: Int32Array | null): void {
    let hasRetried = false;
    let previous = this.#parentRef(hashes, 0, parent);
    for (let i = 0; i < count; ) {
      const marked = this.#markRun(worker, held, hashes, i, count, previous);
      if (marked > 0) {
        i += marked;
        previous = this.#lastMarked;
        hasRetried = false;
        continue;
      }
      if (hasRetried || !this.makeRoom(ROOM_BYTES)) {
        this.numRefused += count - i;
        return;
      }
      hasRetried = true;
      // Pages have other numbers now.
      previous = this.#parentRef(hashes, i, parent);
    }
  }

  #parentRef(hashes: Int32Array, i: number, parent: Int32Array | null): number {
    if (i > 0) return this.table.find(hashes, (i - 1) * HASH_WORDS);
    return parent === null ? NONE : this.table.find(parent, 0);
  }

  /** Marks blocks from the i-th on that are in one page; returns how many, or 0 when there is no memory for even one. */
  #markRun(
    worker: number,
    held: Held,
    hashes: Int32Array,
    first: number,
    count: number,
    previous: number,
  ): number {
    let ref = this.#nextInPage(previous, hashes, first * HASH_WORDS);
    if (ref === NONE) ref = this.table.find(hashes, first * HASH_WORDS);
    if (ref === NONE) ref = this.#add(previous, hashes, first * HASH_WORDS);
    if (ref === NONE) return 0;
    const page = pageOf(ref);
    this.pages.touch(page);
    let bits = 1 << slotOf(ref);
    let i = first + 1;
    for (; i < count; i++) {
      let next = this.#nextInPage(ref, hashes, i * HASH_WORDS);
      if (next === NONE) next = this.table.find(hashes, i * HASH_WORDS);
      if (next === NONE && this.pages.get(page, PAGE.live) !== -1) {
        next = this.#insert(page, slotOf(ref), hashes, i * HASH_WORDS);
      }
      if (next === NONE || pageOf(next) !== page) break;
      ref = next;
      bits |= 1 << slotOf(ref);
    }
    this.#lastMarked = ref;
    const at = this.holders.ensure(page, worker);
    if (at === NONE) {
      this.#dropDead(page);
      return 0;
    }
    const before = this.holders.heldAt(at);
    this.holders.words[at + held]! |= bits;
    this.numEntries += countBits(bits & ~before);
    return i - first;
  }

  /** The block in the slot behind `ref` when it carries the hash, else -1. */
  #nextInPage(ref: number, hashes: Int32Array, at: number): number {
    const next = ref + 1;
    if (ref === NONE || slotOf(next) === 0) return NONE;
    if (((this.pages.get(pageOf(next), PAGE.live) >>> slotOf(next)) & 1) === 0) return NONE;
    return this.pages.equals(next, hashes, at) ? next : NONE;
  }

  /** A new block that follows `previous`, as near to it as there is room, held by nobody yet; -1 when there is no memory for it. */
  #add(previous: number, hashes: Int32Array, at: number): number {
    const { pages } = this;
    const before = previous === NONE ? NONE : pageOf(previous);
    if (before !== NONE && pages.get(before, PAGE.live) !== -1)
      return this.#insert(before, slotOf(previous), hashes, at);
    const open = pages.openBelow(before);
    if (open !== NONE && pages.get(open, PAGE.live) !== -1) return this.#insert(open, NONE, hashes, at);
    let page = pages.allocate(before);
    // What follows would be useless without the page before: that one stays.
    if (page === NONE && this.#evict(before)) page = pages.allocate(before);
    if (page === NONE) return NONE;
    pages.setOpenBelow(before, page);
    const ref = this.#insert(page, NONE, hashes, at);
    if (ref === NONE) pages.free(page);
    return ref;
  }

  /** Into a page with room: the first free slot behind `slot`, so that chains ascend, or else the first. */
  #insert(page: number, slot: number, hashes: Int32Array, at: number): number {
    const live = this.pages.get(page, PAGE.live);
    const behind = slot === NONE ? 0 : ~live & ~((2 << slot) - 1);
    const ref = refOf(page, lowestBit(behind === 0 ? ~live : behind));
    this.pages.write(ref, hashes, at);
    if (!this.table.insert(ref)) return NONE;
    this.pages.set(page, PAGE.live, live | (1 << slotOf(ref)));
    return ref;
  }

  /** Notes that a worker does not have blocks [first, count) any more, in any order; returns how many it was not known to have. */
  unmark(worker: number, held: Held, hashes: Int32Array, first: number, count: number): number {
    let numVain = 0;
    let page = NONE;
    let bits = 0;
    let ref = NONE;
    for (let i = first; i < count; i++) {
      ref = this.#findNear(ref, hashes, i * HASH_WORDS);
      if (ref === NONE) {
        numVain++;
        continue;
      }
      if (pageOf(ref) !== page) {
        // Its blocks may be gone afterwards, but nothing moves before `tidy`.
        if (page !== NONE) numVain += this.#release(worker, held, page, bits);
        page = pageOf(ref);
        bits = 0;
      }
      bits |= 1 << slotOf(ref);
    }
    if (page !== NONE) numVain += this.#release(worker, held, page, bits);
    return numVain;
  }

  /** Caches drop chains from their ends, so the next block to go often is the one before. */
  #findNear(ref: number, hashes: Int32Array, at: number): number {
    if (ref !== NONE) {
      const live = this.pages.get(pageOf(ref), PAGE.live);
      const slot = slotOf(ref);
      if (slot > 0 && ((live >>> (slot - 1)) & 1) === 1 && this.pages.equals(ref - 1, hashes, at))
        return ref - 1;
      const next = this.#nextInPage(ref, hashes, at);
      if (next !== NONE) return next;
    }
    return this.table.find(hashes, at);
  }

  #release(worker: number, held: Held, page: number, bits: number): number {
    const at = this.holders.find(page, worker);
    const had = at === NONE ? 0 : this.holders.words[at + held]!;
    if ((had & bits) !== 0) this.#clearBits(page, at, held, bits);
    return countBits(bits & ~had);
  }

  #clearBits(page: number, at: number, held: Held, bits: number): void {
    const before = this.holders.heldAt(at);
    this.holders.words[at + held]! &= ~bits;
    const after = this.holders.heldAt(at);
    this.numEntries -= countBits(before & ~after);
    if (after === 0) this.holders.drop(page, at);
    if (before !== after) this.#dropDead(page);
  }

  /** Notes that a worker has nothing any more in these ways. Looks at every page: see the class of the index for what that costs. */
  clear(worker: number, ways: readonly Held[]): void {
    for (let page = 0; page < this.pages.numPages; page++) {
      if (this.pages.get(page, PAGE.live) === 0) continue;
      for (const held of ways) {
        const at = this.holders.find(page, worker);
        if (at === NONE) break;
        if (this.holders.words[at + held] !== 0) this.#clearBits(page, at, held, -1);
      }
    }
  }

  /** Takes out the blocks of a page that nobody has. */
  #dropDead(page: number): void {
    const { pages } = this;
    const live = pages.get(page, PAGE.live);
    const rest = live & this.holders.union(page);
    if (rest === live) return;
    for (let dead = live & ~rest; dead !== 0; dead &= dead - 1)
      this.table.remove(refOf(page, lowestBit(dead)));
    pages.set(page, PAGE.live, rest);
    if (rest === 0) pages.free(page);
    else if (countBits(rest) <= MERGE_AT_MOST) this.#shrunk.push(page);
  }

  /** Drops the leaf among the pages that was used the longest ago, but not `kept`; false when there is none. */
  #evict(kept: number): boolean {
    const { pages, holders } = this;
    let page = pages.oldest;
    while (page !== NONE && pages.get(page, PAGE.firstChild) !== NONE) {
      // Used later than what goes on from it, or so it counts. One of the pages is a leaf.
      pages.touch(page);
      page = pages.oldest;
    }
    if (page === NONE || page === kept) return false;
    holders.open(page);
    let numEntries = 0;
    for (let i = 0, at = holders.base; i < holders.count; i++, at += HOLDER_WORDS)
      numEntries += countBits(holders.heldAt(at));
    this.numEntries -= numEntries;
    this.numEvictedEntries += numEntries;
    const live = pages.get(page, PAGE.live);
    this.numEvictedBlocks += countBits(live);
    for (let rest = live; rest !== 0; rest &= rest - 1) this.table.remove(refOf(page, lowestBit(rest)));
    holders.dropAll(page);
    pages.free(page);
    return true;
  }

  /** Evicts until `bytes` are free; false when nothing is left to evict. Pages get other numbers. */
  makeRoom(bytes: number): boolean {
    this.#shrunk.length = 0;
    while (!this.budget.has(bytes)) {
      let numEvicted = 0;
      while (numEvicted < CHUNK_PAGES && this.#evict(NONE)) numEvicted++;
      if (numEvicted === 0) return false;
      this.#compact(0);
      this.pages.trim();
    }
    return true;
  }

  /** Merges what has become small and returns memory. Pages get other numbers: to be called between two events. */
  tidy(): void {
    for (const page of this.#shrunk) {
      const live = this.pages.get(page, PAGE.live);
      if (live !== 0 && countBits(live) <= MERGE_AT_MOST) this.#merger.merge(page);
    }
    this.#shrunk.length = 0;
    this.#compact(SPARE_PAGES + (this.pages.numPages >> 3));
  }

  #compact(numSpare: number): void {
    while (this.pages.numFree > numSpare) {
      const from = this.pages.numPages - 1;
      const to = this.pages.compactOne();
      if (to === NONE) continue;
      for (let rest = this.pages.get(to, PAGE.live); rest !== 0; rest &= rest - 1) {
        const slot = lowestBit(rest);
        this.table.move(refOf(from, slot), refOf(to, slot));
      }
      this.holders.pageMoved(to);
    }
  }

  /** Throws unless pages, table, holders and counts agree. Linear in everything. */
  checkInvariants(): void {
    this.pages.checkInvariants();
    this.table.checkInvariants();
    this.holders.checkInvariants();
    let numEntries = 0;
    for (let page = 0; page < this.pages.numPages; page++) {
      if (this.pages.get(page, PAGE.live) === 0) continue;
      this.holders.open(page);
      for (let i = 0, at = this.holders.base; i < this.holders.count; i++, at += HOLDER_WORDS)
        numEntries += countBits(this.holders.heldAt(at));
    }
    assert(numEntries === this.numEntries, "entries are counted wrongly");
  }
}
