import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { countBits, lowestBit } from "./bits.ts";
import { type BlockPages, HOLDER_WORDS, NONE, PAGE, PAGE_BLOCKS, refOf } from "./block-pages.ts";
import type { BlockTable } from "./block-table.ts";
import type { ByteBudget } from "./byte-budget.ts";
import type { PageHolders } from "./page-holders.ts";

/** Pages with more holders than this together are left as they are. */
const MAX_MERGED_HOLDERS = 1024;

/** Joins pages that have become half empty with the one before, one beside or one behind them, whichever has room. */
export class PageMerger {
  readonly #pages: BlockPages;
  readonly #table: BlockTable;
  readonly #holders: PageHolders;
  readonly #scratch = new Int32Array(MAX_MERGED_HOLDERS * HOLDER_WORDS);
  /** Where each slot of the page that is taken in goes. */
  readonly #slots = new Int32Array(PAGE_BLOCKS);

  constructor(pages: BlockPages, table: BlockTable, holders: PageHolders, budget: ByteBudget) {
    this.#pages = pages;
    this.#table = table;
    this.#holders = holders;
    budget.take(this.#scratch.byteLength + this.#slots.byteLength);
  }

  /** Merges a page if there is one that it fits with. Every page keeps its number, but one is free afterwards. */
  merge(page: number): void {
    const parent = this.#pages.get(page, PAGE.parent);
    if (parent !== NONE && this.#fit(page, parent)) {
      this.#moveInto(page, parent);
      return;
    }
    const beside = this.#pages.openBelow(parent);
    if (beside !== NONE && beside !== page && this.#fit(page, beside)) {
      // The blocks of both count as used when the later ones were.
      if (this.#moveInto(page, beside)) this.#pages.touch(beside);
      return;
    }
    const behind = this.#pages.get(page, PAGE.open);
    if (behind !== NONE && this.#fit(behind, page)) this.#moveInto(behind, page);
    if (beside === NONE || this.#size(page) < this.#size(beside)) this.#pages.setOpenBelow(parent, page);
  }

  #size(page: number): number {
    return countBits(this.#pages.get(page, PAGE.live));
  }

  #fit(page: number, other: number): boolean {
    return this.#size(page) + this.#size(other) <= PAGE_BLOCKS;
  }

  #moveInto(from: number, to: number): boolean {
    const live = this.#pages.get(from, PAGE.live);
    let room = ~this.#pages.get(to, PAGE.live);
    for (let rest = live; rest !== 0; rest &= rest - 1, room &= room - 1)
      this.#slots[lowestBit(rest)] = lowestBit(room);
    const count = this.#uniteHolders(from, to);
    if (count === NONE) return false;
    if (!this.#holders.replace(to, this.#scratch.subarray(0, count * HOLDER_WORDS))) return false;
    this.#moveBlocks(from, to);
    this.#holders.dropAll(from);
    const open = this.#pages.get(from, PAGE.open);
    this.#pages.bequeath(from, to);
    if (this.#pages.openBelow(to) === NONE || this.#pages.openBelow(to) === from)
      this.#pages.setOpenBelow(to, open);
    this.#pages.free(from);
    return true;
  }

  #moveBlocks(from: number, to: number): void {
    const source = this.#pages.chunkOf(from);
    const base = this.#pages.baseOf(from) + PAGE.hashes;
    let live = this.#pages.get(to, PAGE.live);
    for (let rest = this.#pages.get(from, PAGE.live); rest !== 0; rest &= rest - 1) {
      const slot = lowestBit(rest);
      const ref = refOf(to, this.#slots[slot]!);
      this.#pages.write(ref, source, base + slot * HASH_WORDS);
      this.#table.move(refOf(from, slot), ref);
      live |= 1 << this.#slots[slot]!;
    }
    this.#pages.set(to, PAGE.live, live);
  }

  /** Writes the holders of both pages, with the masks of `from` in their new slots, to the scratch array; returns how many, or -1. */
  #uniteHolders(from: number, to: number): number {
    const holders = this.#holders;
    holders.open(to);
    const { words: toWords, base: toBase, count: toCount } = holders;
    holders.open(from);
    if (toCount + holders.count > MAX_MERGED_HOLDERS) return NONE;
    let count = 0;
    for (let i = 0, j = 0; i < holders.count || j < toCount; count++) {
      const at = count * HOLDER_WORDS;
      const fromAt = holders.base + i * HOLDER_WORDS;
      const toAt = toBase + j * HOLDER_WORDS;
      const fromWorker = i < holders.count ? holders.words[fromAt]! : Number.POSITIVE_INFINITY;
      const toWorker = j < toCount ? toWords[toAt]! : Number.POSITIVE_INFINITY;
      this.#scratch[at] = Math.min(fromWorker, toWorker);
      for (let word = 1; word < HOLDER_WORDS; word++) {
        const taken = fromWorker <= toWorker ? this.#inNewSlots(holders.words[fromAt + word]!) : 0;
        this.#scratch[at + word] = taken | (toWorker <= fromWorker ? toWords[toAt + word]! : 0);
      }
      if (fromWorker <= toWorker) i++;
      if (toWorker <= fromWorker) j++;
    }
    return count;
  }

  #inNewSlots(mask: number): number {
    let moved = 0;
    for (let rest = mask; rest !== 0; rest &= rest - 1) moved |= 1 << this.#slots[lowestBit(rest)]!;
    return moved;
  }
}
