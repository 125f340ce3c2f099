import { assert } from "../../util/assert.ts";
import { type BlockPages, HOLDER_WORDS, NONE, PAGE } from "./block-pages.ts";
import type { ByteBudget } from "./byte-budget.ts";

/** How a worker has a block: places of the masks in a holder. One block may be held in several of these ways at once. */
export const HELD = { device: 1, host: 2, disk: 3, predicted: 4, inTransfer: 5 } as const;

/** Words of memory that are allocated for groups of one size at a time, or of one group that is larger. */
const POOL_CHUNK_WORDS = 4096;
/** A page's index into its pool has 26 bits, the class of its size the ones above. */
const CLASS_SHIFT = 26;

/** Groups of up to 2^k holders, one after the other without gaps. Each knows its page, so that it can be moved. */
class GroupPool {
  readonly chunks: Int32Array[] = [];
  readonly groupWords: number;
  readonly perChunk: number;
  size = 0;

  constructor(sizeClass: number) {
    this.groupWords = 1 + HOLDER_WORDS * 2 ** sizeClass;
    this.perChunk = Math.max(1, Math.floor(POOL_CHUNK_WORDS / this.groupWords));
  }

  get chunkBytes(): number {
    return this.perChunk * this.groupWords * 4;
  }

  chunkOf(group: number): Int32Array {
    return this.chunks[Math.floor(group / this.perChunk)]!;
  }

  baseOf(group: number): number {
    return (group % this.perChunk) * this.groupWords;
  }
}

/**
 * Which workers have which blocks of a page: one holder for each worker with at least one, ascending by worker, with a mask per tier and
 * provenance. The only holder of a page is in its record; two and more are a group in a pool of its size class.
 */
export class PageHolders {
  readonly #pages: BlockPages;
  readonly #budget: ByteBudget;
  readonly #pools: GroupPool[] = [];
  /** The holders of the page that was opened last: `count` of them from `base` in `words`. Any change of holders closes it. */
  words: Int32Array = new Int32Array(0);
  base = 0;
  count = 0;

  constructor(pages: BlockPages, budget: ByteBudget) {
    this.#pages = pages;
    this.#budget = budget;
  }

  open(page: number): void {
    const chunk = this.#pages.chunkOf(page);
    const record = this.#pages.baseOf(page);
    this.count = chunk[record + PAGE.numHolders]!;
    if (this.count <= 1) {
      this.words = chunk;
      this.base = record + PAGE.onlyHolder;
      return;
    }
    const place = chunk[record + PAGE.holders]!;
    const pool = this.#pools[place >>> CLASS_SHIFT]!;
    const group = place & (2 ** CLASS_SHIFT - 1);
    this.words = pool.chunkOf(group);
    this.base = pool.baseOf(group) + 1;
  }

  /** Opens the page; returns where in `words` the worker's holder is, or -1. */
  find(page: number, worker: number): number {
    this.open(page);
    const at = this.base + this.#rank(worker) * HOLDER_WORDS;
    return at < this.base + this.count * HOLDER_WORDS && this.words[at] === worker ? at : NONE;
  }

  /** As {@link find}, but adds a holder that is missing; -1 when there is no memory for it. */
  ensure(page: number, worker: number): number {
    const found = this.find(page, worker);
    if (found !== NONE) return found;
    const { count } = this;
    const rank = this.#rank(worker);
    if (!this.#grow(page)) return NONE;
    this.#pages.set(page, PAGE.numHolders, count + 1);
    this.open(page);
    const at = this.base + rank * HOLDER_WORDS;
    this.words.copyWithin(at + HOLDER_WORDS, at, this.base + count * HOLDER_WORDS);
    this.words.fill(0, at, at + HOLDER_WORDS);
    this.words[at] = worker;
    return at;
  }

  /** Takes out the holder that {@link find} has found at `at`. */
  drop(page: number, at: number): void {
    const { count } = this;
    this.words.copyWithin(at, at + HOLDER_WORDS, this.base + count * HOLDER_WORDS);
    if (count === 2) this.#takeBack(page);
    this.#pages.set(page, PAGE.numHolders, count - 1);
    if (count <= 2) return;
    const place = this.#pages.get(page, PAGE.holders);
    const sizeClass = place >>> CLASS_SHIFT;
    // A class below only when a quarter is left: a holder that comes and goes does not move the group each time.
    if (sizeClass === 1 || count - 1 > 2 ** (sizeClass - 2)) return;
    const smaller = this.#allocate(sizeClass - 1, page);
    if (smaller === NONE) return;
    this.#moveGroup(page, place, smaller);
  }

  /** The only holder left in a group returns to the page's record. */
  #takeBack(page: number): void {
    const record = this.#pages.baseOf(page) + PAGE.onlyHolder;
    this.#pages.chunkOf(page).set(this.words.subarray(this.base, this.base + HOLDER_WORDS), record);
    this.#release(this.#pages.get(page, PAGE.holders));
  }

  dropAll(page: number): void {
    if (this.#pages.get(page, PAGE.numHolders) > 1) this.#release(this.#pages.get(page, PAGE.holders));
    this.#pages.set(page, PAGE.numHolders, 0);
  }

  /** Makes room for another holder; false when there is no memory for it. */
  #grow(page: number): boolean {
    const count = this.#pages.get(page, PAGE.numHolders);
    if (count === 0) return true;
    if (count > 1) {
      const place = this.#pages.get(page, PAGE.holders);
      const sizeClass = place >>> CLASS_SHIFT;
      if (count < 2 ** sizeClass) return true;
      const larger = this.#allocate(sizeClass + 1, page);
      if (larger === NONE) return false;
      this.#moveGroup(page, place, larger);
      return true;
    }
    const place = this.#allocate(1, page);
    if (place === NONE) return false;
    const record = this.#pages.baseOf(page) + PAGE.onlyHolder;
    this.#fill(place, this.#pages.chunkOf(page).subarray(record, record + HOLDER_WORDS));
    this.#pages.set(page, PAGE.holders, place);
    return true;
  }

  /** Gives a page other holders, ascending by worker, at least one; false, and nothing changed, when there is no memory for them. */
  replace(page: number, holders: Int32Array): boolean {
    const count = holders.length / HOLDER_WORDS;
    const place = count > 1 ? this.#allocate(32 - Math.clz32(count - 1), page) : 0;
    if (place === NONE) return false;
    const numOld = this.#pages.get(page, PAGE.numHolders);
    const old = this.#pages.get(page, PAGE.holders);
    this.#pages.set(page, PAGE.numHolders, count);
    if (count === 1) this.#pages.chunkOf(page).set(holders, this.#pages.baseOf(page) + PAGE.onlyHolder);
    else {
      this.#fill(place, holders);
      this.#pages.set(page, PAGE.holders, place);
    }
    // Last: it may move the new group, and then says so to the page.
    if (numOld > 1) this.#release(old);
    return true;
  }

  #fill(place: number, holders: Int32Array): void {
    const pool = this.#pools[place >>> CLASS_SHIFT]!;
    const group = place & (2 ** CLASS_SHIFT - 1);
    pool.chunkOf(group).set(holders, pool.baseOf(group) + 1);
  }

  /** Union of everything that any holder of the page has. */
  union(page: number): number {
    this.open(page);
    let union = 0;
    const end = this.base + this.count * HOLDER_WORDS;
    for (let at = this.base; at < end; at += HOLDER_WORDS) union |= this.heldAt(at);
    return union;
  }

  /** What the holder at `at` has in any way. */
  heldAt(at: number): number {
    const { words } = this;
    return words[at + 1]! | words[at + 2]! | words[at + 3]! | words[at + 4]! | words[at + 5]!;
  }

  /** A page has a new number. */
  pageMoved(page: number): void {
    if (this.#pages.get(page, PAGE.numHolders) <= 1) return;
    const place = this.#pages.get(page, PAGE.holders);
    const pool = this.#pools[place >>> CLASS_SHIFT]!;
    const group = place & (2 ** CLASS_SHIFT - 1);
    pool.chunkOf(group)[pool.baseOf(group)] = page;
  }

  /** Rank of the first holder whose worker is not below `worker`. */
  #rank(worker: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.words[this.base + middle * HOLDER_WORDS]! < worker) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #moveGroup(page: number, from: number, to: number): void {
    const sizeClass = from >>> CLASS_SHIFT;
    const source = this.#pools[sizeClass]!;
    const group = from & (2 ** CLASS_SHIFT - 1);
    const toClass = to >>> CLASS_SHIFT;
    const target = this.#pools[toClass]!;
    const toGroup = to & (2 ** CLASS_SHIFT - 1);
    const base = source.baseOf(group) + 1;
    const count = this.#pages.get(page, PAGE.numHolders);
    target
      .chunkOf(toGroup)
      .set(source.chunkOf(group).subarray(base, base + count * HOLDER_WORDS), target.baseOf(toGroup) + 1);
    this.#pages.set(page, PAGE.holders, to);
    this.#release(from);
  }

  /** A group of a class for a page, as it is named in {@link PAGE.holders}; -1 when there is no memory for it. */
  #allocate(sizeClass: number, page: number): number {
    while (this.#pools.length <= sizeClass) this.#pools.push(new GroupPool(this.#pools.length));
    const pool = this.#pools[sizeClass]!;
    if (pool.size === pool.chunks.length * pool.perChunk) {
      if (!this.#budget.has(pool.chunkBytes)) return NONE;
      this.#budget.take(pool.chunkBytes);
      pool.chunks.push(new Int32Array(pool.perChunk * pool.groupWords));
    }
    const group = pool.size++;
    pool.chunkOf(group)[pool.baseOf(group)] = page;
    return (sizeClass << CLASS_SHIFT) | group;
  }

  /** The last group of the class takes the place of the released one. */
  #release(place: number): void {
    const pool = this.#pools[place >>> CLASS_SHIFT]!;
    const hole = place & (2 ** CLASS_SHIFT - 1);
    const last = --pool.size;
    if (last !== hole) {
      const words = pool.chunkOf(last);
      const base = pool.baseOf(last);
      pool.chunkOf(hole).set(words.subarray(base, base + pool.groupWords), pool.baseOf(hole));
      this.#pages.set(words[base]!, PAGE.holders, place);
    }
    const spare = pool.chunks.length * pool.perChunk - pool.size;
    // The last chunk is kept until another half of one is unused.
    if (pool.size > 0 && spare < pool.perChunk + (pool.perChunk >> 1)) return;
    while (pool.chunks.length * pool.perChunk - pool.size >= pool.perChunk) {
      pool.chunks.pop();
      this.#budget.give(pool.chunkBytes);
    }
  }

  /** Throws unless every group belongs to one page and holders are in order. */
  checkInvariants(): void {
    let numGroups = 0;
    for (let page = 0; page < this.#pages.numPages; page++) {
      const live = this.#pages.get(page, PAGE.live);
      if (live === 0) continue;
      this.open(page);
      if (this.count > 1) numGroups++;
      let union = 0;
      let before = NONE;
      for (let i = 0, at = this.base; i < this.count; i++, at += HOLDER_WORDS) {
        assert(this.words[at]! > before, `holders of page ${page} are out of order`);
        before = this.words[at]!;
        assert(this.heldAt(at) !== 0, `page ${page} has a holder of nothing`);
        union |= this.heldAt(at);
      }
      assert(union === live, `page ${page} has blocks without holder, or the other way round`);
      if (this.count > 1) assert(this.words[this.base - 1] === page, `page ${page}: its group is another's`);
    }
    const numPooled = this.#pools.reduce((sum, { size }) => sum + size, 0);
    assert(numGroups === numPooled, "a group belongs to no page");
  }
}
