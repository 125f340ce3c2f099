import { HASH_WORDS } from "../tokens/block-hash.ts";
import { assert } from "../util/assert.ts";
import { BlockRecords, RECORD_WORDS } from "./block-records.ts";

const EMPTY = -1;

/** Words of one place: the block, or {@link EMPTY}, and the first word of its hash. */
const PLACE_WORDS = 2;

/**
 * Finds the block that carries a hash: open addressing over typed arrays, no strings, no garbage.
 *
 * The table has at least twice as many places as blocks, so probes stay short. A place has the first word of the hash beside the
 * block: neither a probe that leads on nor a shift looks into the records, which lie far apart. Memory: 16 bytes of each block's
 * record for the hash and 16 to 32 for its places. Deleting shifts later entries back (Knuth, TAOCP vol. 3, algorithm 6.4R), so no
 * tombstones pile up.
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
    this.#places = new Int32Array(places * PLACE_WORDS).fill(EMPTY);
    this.#mask = places - 1;
  }

  get size(): number {
    return this.#size;
  }

  /** The block with the hash at `hashes[at … at + 4)`, or -1. */
  find(hashes: Int32Array, at: number): number {
    const places = this.#places;
    const mask = this.#mask;
    const first = hashes[at]!;
    for (let place = first & mask; ; place = (place + 1) & mask) {
      const block = places[place * PLACE_WORDS]!;
      if (block === EMPTY) return EMPTY;
      if (places[place * PLACE_WORDS + 1] === first && this.#hasRest(block, hashes, at)) return block;
    }
  }

  /** Files `block` under a hash that no block carries yet. */
  insert(block: number, hashes: Int32Array, at: number): void {
    const places = this.#places;
    const mask = this.#mask;
    const first = hashes[at]!;
    let place = first & mask;
    for (; places[place * PLACE_WORDS] !== EMPTY; place = (place + 1) & mask) {
      if (places[place * PLACE_WORDS + 1] !== first) continue;
      assert(!this.#hasRest(places[place * PLACE_WORDS]!, hashes, at), "a hash is filed twice");
    }
    for (let word = 0; word < HASH_WORDS; word++)
      this.#words[block * RECORD_WORDS + word] = hashes[at + word]!;
    places[place * PLACE_WORDS] = block;
    places[place * PLACE_WORDS + 1] = first;
    this.#size++;
  }

  /** Removes a block that is in the index. */
  remove(block: number): void {
    const places = this.#places;
    const mask = this.#mask;
    let hole = this.#words[block * RECORD_WORDS]! & mask;
    while (places[hole * PLACE_WORDS] !== block) {
      assert(places[hole * PLACE_WORDS] !== EMPTY, "the block is not in the index");
      hole = (hole + 1) & mask;
    }
    for (let place = (hole + 1) & mask; ; place = (place + 1) & mask) {
      const candidate = places[place * PLACE_WORDS]!;
      if (candidate === EMPTY) break;
      const first = places[place * PLACE_WORDS + 1]!;
      // Move back only what may not stand between its home and here otherwise.
      if (((place - (first & mask)) & mask) >= ((place - hole) & mask)) {
        places[hole * PLACE_WORDS] = candidate;
        places[hole * PLACE_WORDS + 1] = first;
        hole = place;
      }
    }
    places[hole * PLACE_WORDS] = EMPTY;
    this.#size--;
  }

  /** Whether a block's hash has these further words. */
  #hasRest(block: number, hashes: Int32Array, at: number): boolean {
    const base = block * RECORD_WORDS;
    const words = this.#words;
    return (
      words[base + 1] === hashes[at + 1] &&
      words[base + 2] === hashes[at + 2] &&
      words[base + 3] === hashes[at + 3]
    );
  }
}
