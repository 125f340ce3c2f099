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
import { BlockTable } from "./block-table.ts";
import { ByteBudget } from "./byte-budget.ts";
import { PageHolders } from "./page-holders.ts";
import { PageMerger } from "./page-merger.ts";
import { TABLE_CHUNK_BYTES } from "./table-segments.ts";

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
 * bytes. When it is used up, the ends of prefixes that have not been used for long go.
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
    this.pages.tick();
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
    let ref = previous === NONE ? NONE : this.#nextInPage(previous, hashes, first * HASH_WORDS);
    if (ref === NONE) {
      ref = this.table.find(hashes, first * HASH_WORDS);
      this.#part(previous, ref);
    }
    if (ref === NONE) ref = this.#add(previous, hashes, first * HASH_WORDS);
    if (ref === NONE) return 0;
    const page = pageOf(ref);
    this.pages.touch(page);
    let bits = 1 << slotOf(ref);
    let isWarm = false;
    let i = first + 1;
    for (; i < count; i++) {
      let next = this.#nextInPage(ref, hashes, i * HASH_WORDS);
      if (next === NONE) {
        if (!isWarm) this.#warm(hashes, i, count);
        isWarm = true;
        next = this.#findOrInsert(page, slotOf(ref), hashes, i * HASH_WORDS);
        this.#part(ref, next);
      }
      if (next === NONE || pageOf(next) !== page) break;
      ref = next;
      bits |= 1 << slotOf(ref);
    }
    this.#lastMarked = ref;
    if (this.#hold(worker, held, page, bits)) return i - first;
    this.#dropDead(page);
    return 0;
  }

  /**
   * `next` follows `previous` in a chain. Another worker may have said that it follows the block in the slot before it, which cannot be
   * if hashes are chained: then neither is believed.
   */
  #part(previous: number, next: number): void {
    if (next === NONE || next === previous + 1) return;
    const joined = this.pages.get(pageOf(next), PAGE.joined);
    this.pages.set(pageOf(next), PAGE.joined, joined & ~(1 << slotOf(next)));
  }

  #hold(worker: number, held: Held, page: number, bits: number): boolean {
    const at = this.holders.ensure(page, worker);
    if (at === NONE) return false;
    const before = this.holders.heldAt(at);
    this.holders.words[at + held]! |= bits;
    this.numEntries += countBits(bits & ~before);
    return true;
  }

  /** What follows a block that is not in its page is new, nearly always, and so is everything behind it: all of it will be searched for. */
  #warm(hashes: Int32Array, first: number, count: number): void {
    this.table.warm(hashes, first, Math.min(PAGE_BLOCKS, count - first), 1);
  }

  /** The block in the slot behind `ref` when it carries the hash, else -1. */
  #nextInPage(ref: number, hashes: Int32Array, at: number): number {
    const next = ref + 1;
    const slot = slotOf(next);
    if (slot === 0) return NONE;
    if (((this.pages.get(pageOf(next), PAGE.live) >>> slot) & 1) === 0) return NONE;
    return this.pages.equals(next, hashes, at) ? next : NONE;
  }

  /** A new block that follows `previous`, as near to it as there is room, held by nobody yet; -1 when there is no memory for it. */
  #add(previous: number, hashes: Int32Array, at: number): number {
    const { pages } = this;
    const before = previous === NONE ? NONE : pageOf(previous);
    if (before !== NONE && pages.get(before, PAGE.live) !== -1)
      return this.#findOrInsert(before, slotOf(previous), hashes, at);
    const open = pages.openBelow(before);
    if (open !== NONE && pages.get(open, PAGE.live) !== -1) return this.#findOrInsert(open, NONE, hashes, at);
    let page = pages.allocate(before);
    // What follows would be useless without the page before: that one stays.
    if (page === NONE && this.#evict(before)) page = pages.allocate(before);
    if (page === NONE) return NONE;
    pages.setOpenBelow(before, page);
    const ref = this.#findOrInsert(page, NONE, hashes, at);
    if (ref === NONE) pages.free(page);
    return ref;
  }

  /**
   * The block with the hash, or a new one in `page` if there is room: in the first free slot behind `slot`, so that chains ascend, or
   * else in the first. -1 when there is neither.
   */
  #findOrInsert(page: number, slot: number, hashes: Int32Array, at: number): number {
    const chunk = this.pages.chunkOf(page);
    const base = this.pages.baseOf(page);
    const live = chunk[base + PAGE.live]!;
    if (live === -1) return this.table.find(hashes, at);
    const behind = slot === NONE ? 0 : ~live & ~((2 << slot) - 1);
    const place = lowestBit(behind === 0 ? ~live : behind);
    const ref = refOf(page, place);
    const found = this.table.findOrInsert(ref, hashes, at);
    if (found !== ref) return found;
    const to = base + PAGE.hashes + place * HASH_WORDS;
    chunk[to] = hashes[at]!;
    chunk[to + 1] = hashes[at + 1]!;
    chunk[to + 2] = hashes[at + 2]!;
    chunk[to + 3] = hashes[at + 3]!;
    chunk[base + PAGE.live] = live | (1 << place);
    if (slot !== NONE && place === slot + 1) chunk[base + PAGE.joined]! |= 1 << place;
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
    this.#takeOut(page, live & ~rest);
    pages.set(page, PAGE.live, rest);
    pages.set(page, PAGE.joined, pages.get(page, PAGE.joined) & rest & (rest << 1));
    if (rest === 0) pages.free(page);
    else if (countBits(rest) <= MERGE_AT_MOST) this.#shrunk.push(page);
  }

  #takeOut(page: number, mask: number): void {
    this.table.warmBlocks(page, mask);
    for (let rest = mask; rest !== 0; rest &= rest - 1) this.table.remove(refOf(page, lowestBit(rest)));
  }

  /** Drops a leaf among the pages that has not been used for long, but not `kept`; false when there is none. */
  #evict(kept: number): boolean {
    const { pages, holders } = this;
    const page = pages.findUnused(kept);
    if (page === NONE) return false;
    holders.open(page);
    let numEntries = 0;
    for (let i = 0, at = holders.base; i < holders.count; i++, at += HOLDER_WORDS)
      numEntries += countBits(holders.heldAt(at));
    this.numEntries -= numEntries;
    this.numEvictedEntries += numEntries;
    const live = pages.get(page, PAGE.live);
    this.numEvictedBlocks += countBits(live);
    this.#takeOut(page, live);
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
