import { HASH_WORDS } from "../tokens/block-hash.ts";

/** 32-bit words of one block's record: 64 bytes, a cache line. */
export const RECORD_WORDS = 16;

/** Places of the fields in a record. The hash comes first, in {@link HASH_WORDS} words. */
export const FIELD = {
  hash: 0,
  /** Neighbours in the list of free or of cached blocks. */
  previous: HASH_WORDS,
  next: HASH_WORDS + 1,
  refs: HASH_WORDS + 2,
  /** 1 when the block is filed under its hash. */
  isHashed: HASH_WORDS + 3,
  /** Home slot, or -1. */
  home: HASH_WORDS + 4,
  /** Position of the block in its chain. */
  depth: HASH_WORDS + 5,
  /** Number of the block's filing, and of its parent's: a double each. */
  filing: HASH_WORDS + 6,
  parentFiling: HASH_WORDS + 8,
  /** 1 when the last sequence that released the block asked for it to be kept longer than others. */
  isKept: HASH_WORDS + 10,
  /** Number of the lease that the block is under, or was; 0 for none. */
  lease: HASH_WORDS + 11,
} as const;

/**
 * Everything that is known of every block, record by record. Pool, hash index and slot table each keep their own fields in it: what is
 * done to a block touches several of them at once, and with an array per field each would be a cache miss of its own.
 */
export class BlockRecords {
  readonly words: Int32Array;
  readonly #doubles: Float64Array;

  constructor(numRecords: number) {
    const buffer = new ArrayBuffer(numRecords * RECORD_WORDS * Int32Array.BYTES_PER_ELEMENT);
    this.words = new Int32Array(buffer);
    this.#doubles = new Float64Array(buffer);
    for (let record = 0; record < numRecords; record++) this.words[record * RECORD_WORDS + FIELD.home] = -1;
  }

  filing(block: number): number {
    return this.#doubles[(block * RECORD_WORDS + FIELD.filing) >> 1]!;
  }

  parentFiling(block: number): number {
    return this.#doubles[(block * RECORD_WORDS + FIELD.parentFiling) >> 1]!;
  }

  setFiling(block: number, filing: number, parentFiling: number): void {
    this.#doubles[(block * RECORD_WORDS + FIELD.filing) >> 1] = filing;
    this.#doubles[(block * RECORD_WORDS + FIELD.parentFiling) >> 1] = parentFiling;
  }
}
