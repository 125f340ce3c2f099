import { HASH_WORDS } from "../tokens/block-hash.ts";
import { assert } from "../util/assert.ts";
import { BlockRecords, RECORD_WORDS } from "./block-records.ts";

const EMPTY = -1;

/**
 * Finds the block that carries a hash: open addressing over typed arrays, no strings, no garbage.
 *
 * The table has at least twice as many places as blocks, so probes stay short. Memory: 16 bytes of each block's record for the hash
 * and 8 to 16 for its places. Deleting shifts later entries back (Knuth, TAOCP vol. 3, algorithm 6.4R), so no tombstones pile up.
 */
export class HashIndex {
  readonly #words: Int32Array;
  readonly #places: Int32Array;
  readonly #mask: number;
  #size = 0;

  /** The hashes are kept in the records of the blocks. */
  constructor(numBlocks: number, records: BlockRecords = new BlockRecords(numBlocks)) {
    let places = 4;
    while (places < numBlocks * 2) places *= 2;
    this.#words = records.words;
    this.#places = new Int32Array(places).fill(EMPTY);
    this.#mask = places - 1;
  }

  get size(): number {
    return this.#size;
  }

  /** The block with the hash at `hashes[at … at + 4)`, or -1. */
  find(hashes: Int32Array, at: number): number {
    let place = hashes[at]! & this.#mask;
    for (;;) {
      const block = this.#places[place]!;
      if (block === EMPTY || this.#equals(block, hashes, at)) return block;
      place = (place + 1) & this.#mask;
    }
  }

  /** Files `block` under a hash that no block carries yet. */
  insert(block: number, hashes: Int32Array, at: number): void {
    for (let word = 0; word < HASH_WORDS; word++)
      this.#words[block * RECORD_WORDS + word] = hashes[at + word]!;
    let place = hashes[at]! & this.#mask;
    while (this.#places[place] !== EMPTY) {
      assert(!this.#equals(this.#places[place]!, hashes, at), "a hash is filed twice");
      place = (place + 1) & this.#mask;
    }
    this.#places[place] = block;
    this.#size++;
  }

  /** Removes a block that is in the index. */
  remove(block: number): void {
    let hole = this.#words[block * RECORD_WORDS]! & this.#mask;
    while (this.#places[hole] !== block) {
      assert(this.#places[hole] !== EMPTY, "the block is not in the index");
      hole = (hole + 1) & this.#mask;
    }
    for (let place = (hole + 1) & this.#mask; ; place = (place + 1) & this.#mask) {
      const candidate = this.#places[place]!;
      if (candidate === EMPTY) break;
      const home = this.#words[candidate * RECORD_WORDS]! & this.#mask;
      // Move back only what may not stand between its home and here otherwise.
      if (((place - home) & this.#mask) >= ((place - hole) & this.#mask)) {
        this.#places[hole] = candidate;
        hole = place;
      }
    }
    this.#places[hole] = EMPTY;
    this.#size--;
  }

  #equals(block: number, hashes: Int32Array, at: number): boolean {
    const base = block * RECORD_WORDS;
    const words = this.#words;
    return (
      words[base] === hashes[at] &&
      words[base + 1] === hashes[at + 1] &&
      words[base + 2] === hashes[at + 2] &&
      words[base + 3] === hashes[at + 3]
    );
  }
}
