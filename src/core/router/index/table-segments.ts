import { assert } from "../../util/assert.ts";
import type { ByteBudget } from "./byte-budget.ts";

/** One cache line: twelve places, a byte of each one's hash, and what has run over. */
export const BUCKET_WORDS = 16;
export const BUCKET_PLACES = 12;
const BUCKET_BITS = 6;
const SEGMENT_BITS = BUCKET_BITS + 4;
export const BUCKETS = 1 << BUCKET_BITS;
export const SEGMENT_WORDS = 1 << SEGMENT_BITS;
export const SEGMENT_PLACES = BUCKETS * BUCKET_PLACES;
const CHUNK_SEGMENT_BITS = 3;
const CHUNK_SEGMENTS = 1 << CHUNK_SEGMENT_BITS;
/** Memory of eight segments: the least that the table grows by. */
export const TABLE_CHUNK_BYTES = CHUNK_SEGMENTS * SEGMENT_WORDS * 4;
/** Bits of a hash that choose the segment. Hashes that agree in more of them fill one segment, and then are refused. */
const MAX_DEPTH = 18;
/** Words of a segment's description: blocks in it, its depth, and the bits of the hash that all its blocks share. */
const META_WORDS = 3;

/**
 * The segments of a hash table and the directory that finds them: extendible hashing (Fagin et al., 1979). The highest bits of a hash are
 * an entry of the directory, which names a segment; a segment of lower depth is named by several.
 */
export class TableSegments {
  readonly #budget: ByteBudget;
  readonly #chunks: Int32Array[] = [];
  directory = Int32Array.of(0, 1);
  /** How far a hash is shifted for its entry in the directory. */
  shift = 31;
  /** Bits of the hash that choose an entry of the directory. At least one. */
  #depth = 1;
  #meta = new Int32Array(META_WORDS * CHUNK_SEGMENTS);
  size = 0;

  constructor(budget: ByteBudget) {
    this.#budget = budget;
    const fits = budget.takeForTable(this.directory.byteLength + this.#meta.byteLength);
    assert(fits && this.#add(1, 0) && this.#add(1, 1), "the ceiling is too low for an empty table");
  }

  /** The array that a segment is in. */
  wordsOf(segment: number): Int32Array {
    return this.#chunks[segment >> CHUNK_SEGMENT_BITS]!;
  }

  /** Where it begins there. */
  baseOf(segment: number): number {
    return (segment & (CHUNK_SEGMENTS - 1)) << SEGMENT_BITS;
  }

  /** Blocks in a segment. */
  countOf(segment: number): number {
    return this.#meta[segment * META_WORDS]!;
  }

  addToCount(segment: number, change: number): number {
    this.#meta[segment * META_WORDS]! += change;
    return this.#meta[segment * META_WORDS]!;
  }

  /** A segment that takes over one half of another's hashes; false when there can be none. The blocks are still to be moved. */
  split(segment: number): boolean {
    const depth = this.#depthOf(segment);
    if (depth === MAX_DEPTH || (depth === this.#depth && !this.#doubleDirectory())) return false;
    const prefix = this.#prefixOf(segment);
    if (!this.#add(depth + 1, prefix * 2 + 1)) return false;
    this.#describe(segment, depth + 1, prefix * 2);
    this.#pointTo(this.size - 1);
    return true;
  }

  /** The segment that was split from the same one, if it is still whole; or -1. */
  twinOf(segment: number): number {
    const depth = this.#depthOf(segment);
    if (depth === 1) return -1;
    const twin = this.directory[(this.#prefixOf(segment) ^ 1) << (this.#depth - depth)]!;
    return this.#depthOf(twin) === depth ? twin : -1;
  }

  /** Gives the hashes of a segment, which is to be dropped, to its twin. */
  joinInto(twin: number): void {
    this.#describe(twin, this.#depthOf(twin) - 1, this.#prefixOf(twin) >> 1);
    this.#pointTo(twin);
  }

  #depthOf(segment: number): number {
    return this.#meta[segment * META_WORDS + 1]!;
  }

  #prefixOf(segment: number): number {
    return this.#meta[segment * META_WORDS + 2]!;
  }

  #describe(segment: number, depth: number, prefix: number): void {
    this.#meta[segment * META_WORDS + 1] = depth;
    this.#meta[segment * META_WORDS + 2] = prefix;
  }

  /** Makes the directory's entries for a segment's bits name it. */
  #pointTo(segment: number): void {
    const free = this.#depth - this.#depthOf(segment);
    const from = this.#prefixOf(segment) << free;
    this.directory.fill(segment, from, from + 2 ** free);
  }

  #doubleDirectory(): boolean {
    if (!this.#budget.takeForTable(this.directory.byteLength * 2)) return false;
    const old = this.directory;
    this.directory = Int32Array.from({ length: old.length * 2 }, (_, entry) => old[entry >> 1]!);
    this.#depth++;
    this.shift--;
    this.#budget.giveFromTable(old.byteLength);
    return true;
  }

  /** Unless a segment needs both halves. */
  #halveDirectory(): void {
    for (let segment = 0; segment < this.size; segment++) if (this.#depthOf(segment) === this.#depth) return;
    const old = this.directory;
    this.directory = Int32Array.from({ length: old.length / 2 }, (_, entry) => old[entry * 2]!);
    this.#depth--;
    this.shift++;
    this.#budget.giveFromTable(old.byteLength / 2);
  }

  #add(depth: number, prefix: number): boolean {
    const segment = this.size;
    if ((segment + 1) * META_WORDS > this.#meta.length && !this.#growMeta()) return false;
    if (segment >> CHUNK_SEGMENT_BITS === this.#chunks.length) {
      if (!this.#budget.takeForTable(TABLE_CHUNK_BYTES)) return false;
      this.#chunks.push(new Int32Array(CHUNK_SEGMENTS * SEGMENT_WORDS));
    }
    this.size++;
    this.#meta[segment * META_WORDS] = 0;
    this.#describe(segment, depth, prefix);
    return true;
  }

  #growMeta(): boolean {
    const old = this.#meta;
    if (!this.#budget.takeForTable(old.byteLength * 2)) return false;
    this.#meta = new Int32Array(old.length * 2);
    this.#meta.set(old);
    this.#budget.giveFromTable(old.byteLength);
    return true;
  }

  /** An empty segment goes; the last one takes its place. */
  drop(hole: number): void {
    const depth = this.#depthOf(hole);
    const last = --this.size;
    if (last !== hole) {
      const from = this.baseOf(last);
      const words = this.wordsOf(last).subarray(from, from + SEGMENT_WORDS);
      this.wordsOf(hole).set(words, this.baseOf(hole));
      words.fill(0);
      this.#meta.copyWithin(hole * META_WORDS, last * META_WORDS, (last + 1) * META_WORDS);
      this.#pointTo(hole);
    }
    if (depth === this.#depth) this.#halveDirectory();
    const spare = this.#chunks.length * CHUNK_SEGMENTS - this.size;
    if (spare < CHUNK_SEGMENTS + CHUNK_SEGMENTS / 2) return;
    this.#chunks.pop();
    this.#budget.giveFromTable(TABLE_CHUNK_BYTES);
  }

  /** Throws unless the directory names every segment where it should. */
  checkInvariants(): void {
    for (let segment = 0; segment < this.size; segment++) {
      const free = this.#depth - this.#depthOf(segment);
      const from = this.#prefixOf(segment) << free;
      for (let entry = from; entry < from + 2 ** free; entry++)
        assert(this.directory[entry] === segment, "the directory names another segment");
    }
  }
}
