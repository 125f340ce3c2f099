import { assert } from "../../util/assert.ts";

/**
 * Counts the bytes of an index's typed arrays against its ceiling.
 *
 * The hash table cannot be told to stay small: it has to have a place for whatever the pages hold. So each page promises the
 * table its share, and nobody else may have those bytes.
 */
export class ByteBudget {
  readonly maxBytes: number;
  #usedBytes = 0;
  #peakBytes = 0;
  #tableBytes = 0;
  #promisedBytes = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** The most that was ever in use at once. */
  get peakBytes(): number {
    return this.#peakBytes;
  }

  /** Whether `bytes` may be taken, `promise` of further ones for the table included. */
  has(bytes: number, promise = 0): boolean {
    const table = Math.max(this.#tableBytes, this.#promisedBytes + promise);
    return this.#usedBytes - this.#tableBytes + table + bytes <= this.maxBytes;
  }

  /** Takes bytes that are there, see {@link has}. */
  take(bytes: number, promise = 0): void {
    this.#promisedBytes += promise;
    this.#use(bytes);
  }

  give(bytes: number, promise = 0): void {
    this.#promisedBytes -= promise;
    this.#usedBytes -= bytes;
  }

  /** Takes bytes for the table, promised ones first; false when there are not so many. */
  takeForTable(bytes: number): boolean {
    const table = Math.max(this.#tableBytes + bytes, this.#promisedBytes);
    if (this.#usedBytes - this.#tableBytes + table > this.maxBytes) return false;
    this.#tableBytes += bytes;
    this.#use(bytes);
    return true;
  }

  giveFromTable(bytes: number): void {
    this.#tableBytes -= bytes;
    this.#usedBytes -= bytes;
  }

  #use(bytes: number): void {
    this.#usedBytes += bytes;
    this.#peakBytes = Math.max(this.#peakBytes, this.#usedBytes);
    assert(this.#usedBytes <= this.maxBytes, "the index has outgrown its ceiling");
  }
}
