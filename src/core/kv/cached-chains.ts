import { assert } from "../util/assert.ts";
import { type BlockRecords, RECORD_WORDS } from "./block-records.ts";
import type { KvEventLog } from "./kv-event-log.ts";

/** No block; as a parent: the block begins a prompt. */
const NONE = -1;
/** As a parent: the block is in no chain. */
const ABSENT = -2;

/**
 * The blocks that a lookup can reach, as a forest, and the reports of its growth and decay for the device tier.
 *
 * A filed block is reachable while the very block that it was filed below is. When a slot is reclaimed the middle of a chain may
 * go first; what was filed below it stays in the pool but is found by nobody, so it is reported as removed at once. Memory: 16
 * bytes per block.
 */
export class CachedChains {
  readonly #log: KvEventLog;
  readonly #words: Int32Array;
  readonly #parents: Int32Array;
  /** First child of each block; that of the last entry begins the list of all prompts' first blocks. */
  readonly #firstChild: Int32Array;
  /** Neighbours among the children of one parent. */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;

  constructor(numBlocks: number, records: BlockRecords, log: KvEventLog) {
    this.#log = log;
    this.#words = records.words;
    this.#parents = new Int32Array(numBlocks).fill(ABSENT);
    this.#firstChild = new Int32Array(numBlocks + 1).fill(NONE);
    this.#next = new Int32Array(numBlocks).fill(NONE);
    this.#previous = new Int32Array(numBlocks).fill(NONE);
    log.describeWith(() => this.#describe());
  }

  has(block: number): boolean {
    return this.#parents[block] !== ABSENT;
  }

  /** A block has been filed under its hash, below `parent`, or at the beginning of a prompt when that is null. */
  filed(block: number, parent: number | null): void {
    if (parent !== null && !this.has(parent)) return;
    this.#link(block, parent ?? NONE);
    this.#report(block);
  }

  /** A block loses its hash, which it still carries. Whatever was filed below it can't be reached any more. */
  forgotten(block: number): void {
    if (!this.has(block)) return;
    this.#unlink(block);
    const rest = [block];
    for (let gone = rest.pop(); gone !== undefined; gone = rest.pop()) {
      for (let child = this.#firstChild[gone]!; child !== NONE; child = this.#next[child]!) rest.push(child);
      this.#firstChild[gone] = NONE;
      this.#parents[gone] = ABSENT;
      this.#log.removedBlock("device", this.#words, gone * RECORD_WORDS);
    }
  }

  #report(block: number): void {
    const parent = this.#parents[block]!;
    const parents = parent === NONE ? null : this.#words;
    this.#log.storedBlock("device", parents, parent * RECORD_WORDS, this.#words, block * RECORD_WORDS);
  }

  /** Reports every block, each chain to its end before the next one. */
  #describe(): void {
    const rest: number[] = [];
    const visit = (first: number) => {
      for (let child = first; child !== NONE; child = this.#next[child]!) rest.push(child);
    };
    visit(this.#firstChild[this.#listOf(NONE)]!);
    for (let block = rest.pop(); block !== undefined; block = rest.pop()) {
      this.#report(block);
      visit(this.#firstChild[block]!);
    }
  }

  #listOf(parent: number): number {
    return parent === NONE ? this.#firstChild.length - 1 : parent;
  }

  #link(block: number, parent: number): void {
    const list = this.#listOf(parent);
    const next = this.#firstChild[list]!;
    this.#parents[block] = parent;
    this.#previous[block] = NONE;
    this.#next[block] = next;
    if (next !== NONE) this.#previous[next] = block;
    this.#firstChild[list] = block;
  }

  #unlink(block: number): void {
    const next = this.#next[block]!;
    const previous = this.#previous[block]!;
    if (next !== NONE) this.#previous[next] = previous;
    if (previous !== NONE) this.#next[previous] = next;
    else this.#firstChild[this.#listOf(this.#parents[block]!)] = next;
  }

  /** Throws unless the forest is what follows from the filings. Linear in the number of blocks. */
  checkInvariants(records: BlockRecords, isHashed: (block: number) => boolean): void {
    const blockOf = new Map<number, number>();
    for (let block = 0; block < this.#parents.length; block++) {
      if (isHashed(block)) blockOf.set(records.filing(block), block);
      else assert(!this.has(block), `block ${block} is in a chain without being filed`);
    }
    for (const block of blockOf.values()) {
      const filing = records.parentFiling(block);
      const parent = filing === 0 ? NONE : (blockOf.get(filing) ?? ABSENT);
      const reachable = parent === NONE || (parent !== ABSENT && this.has(parent));
      assert(this.#parents[block] === (reachable ? parent : ABSENT), `block ${block} is in the wrong chain`);
    }
  }
}
