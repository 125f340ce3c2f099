import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { assert } from "../../util/assert.ts";
import { type BlockPages, PAGE, PAGE_BLOCKS, pageOf, refOf, slotOf } from "./block-pages.ts";
import type { ByteBudget } from "./byte-budget.ts";

/** One cache line: twelve places, a byte of each one's hash, and what has run over. */
const BUCKET_WORDS = 16;
const BUCKET_PLACES = 12;
/** Three words with the tags of the twelve places; a tag of 0 means that the place is empty. */
const TAGS = BUCKET_PLACES;
/** Low half: how many blocks of this bucket stand in later ones. High half: how far at most. */
const OVERFLOW = 15;
const BUCKET_BITS = 6;
const BUCKETS = 1 << BUCKET_BITS;
const SEGMENT_BITS = BUCKET_BITS + 4;
const SEGMENT_WORDS = 1 << SEGMENT_BITS;
const SEGMENT_PLACES = BUCKETS * BUCKET_PLACES;
const CHUNK_SEGMENT_BITS = 3;
const CHUNK_SEGMENTS = 1 << CHUNK_SEGMENT_BITS;
/** Memory of eight segments: the least that the table grows by. */
export const TABLE_CHUNK_BYTES = CHUNK_SEGMENTS * SEGMENT_WORDS * 4;
/** A segment splits when 85 % of its places are taken, and joins its twin below 40 % when both together would take 65 %. */
const SPLIT_ABOVE = 652;
const JOIN_BELOW = 307;
const JOIN_AT_MOST = 500;
/** Bits of a hash that choose the segment. Hashes that agree in more of them fill one segment, and then are refused. */
const MAX_DEPTH = 18;
/** Words of a segment's description: blocks in it, its depth, and the bits of the hash that all its blocks share. */
const META_WORDS = 3;
const EVERY_BYTE = 0x01010101;
const EVERY_HIGH_BIT = 0x80808080 | 0;

/**
 * Finds the block that carries a hash: extendible hashing (Fagin et al., 1979) with segments of 768 places. It grows and
 * shrinks by splitting and joining single segments, so no operation rehashes more than one of them, and memory follows the content.
 *
 * A place has the block's number alone; the hash itself is compared in the block's page. Nearly always one cache line of the table and
 * one of the page are read: the tags leave one wrong candidate in twenty searches or so.
 */
export class BlockTable {
  readonly #pages: BlockPages;
  readonly #budget: ByteBudget;
  readonly #chunks: Int32Array[] = [];
  #directory = new Int32Array(1);
  /** Bits of the hash that choose an entry of the directory. */
  #depth = 0;
  #meta = new Int32Array(META_WORDS * CHUNK_SEGMENTS);
  #numSegments = 0;
  #size = 0;
  readonly #movedRefs = new Int32Array(SEGMENT_PLACES);
  readonly #movedKeys = new Int32Array(SEGMENT_PLACES);

  constructor(pages: BlockPages, budget: ByteBudget) {
    this.#pages = pages;
    this.#budget = budget;
    const fits = budget.takeForTable(4 + this.#meta.byteLength + 2 * this.#movedRefs.byteLength);
    assert(fits && this.#addSegment(0, 0), "the ceiling is too low for an empty table");
  }

  get size(): number {
    return this.#size;
  }

  /** The block with the hash at `hashes[at … at + 4)`, or -1. */
  find(hashes: Int32Array, at: number): number {
    const key = keyOf(hashes, at);
    const segment = this.#directory[this.#entryOf(key)]!;
    const chunk = this.#chunks[segment >> CHUNK_SEGMENT_BITS]!;
    const from = (segment & (CHUNK_SEGMENTS - 1)) << SEGMENT_BITS;
    const home = key & (BUCKETS - 1);
    const pattern = Math.imul(tagOf(key), EVERY_BYTE);
    const reach = chunk[from + home * BUCKET_WORDS + OVERFLOW]! >>> 16;
    for (let distance = 0; distance <= reach; distance++) {
      const bucket = from + ((home + distance) & (BUCKETS - 1)) * BUCKET_WORDS;
      for (let group = 0; group < 3; group++) {
        for (
          let matches = zeroBytes(chunk[bucket + TAGS + group]! ^ pattern);
          matches !== 0;
          matches &= matches - 1
        ) {
          const ref = chunk[bucket + group * 4 + firstByte(matches)]!;
          if (this.#pages.equals(ref, hashes, at)) return ref;
        }
      }
    }
    return -1;
  }

  /** Files a block under the hash that its page has of it; false when there is no place for it. No block may have that hash already. */
  insert(ref: number): boolean {
    const key = this.#keyOfBlock(ref);
    let segment = this.#directory[this.#entryOf(key)]!;
    while (this.#meta[segment * META_WORDS]! >= SPLIT_ABOVE && this.#split(segment))
      segment = this.#directory[this.#entryOf(key)]!;
    if (this.#meta[segment * META_WORDS] === SEGMENT_PLACES) return false;
    this.#put(segment, key, ref);
    this.#size++;
    return true;
  }

  /** Takes out a block whose page still has its hash. */
  remove(ref: number): void {
    const key = this.#keyOfBlock(ref);
    const segment = this.#directory[this.#entryOf(key)]!;
    const chunk = this.#chunks[segment >> CHUNK_SEGMENT_BITS]!;
    const from = (segment & (CHUNK_SEGMENTS - 1)) << SEGMENT_BITS;
    const place = this.#placeOf(chunk, from, key, ref);
    const bucket = place & ~(BUCKET_WORDS - 1);
    const index = place & (BUCKET_WORDS - 1);
    chunk[bucket + TAGS + (index >> 2)]! &= ~(0xff << ((index & 3) * 8));
    const home = from + (key & (BUCKETS - 1)) * BUCKET_WORDS;
    if (bucket !== home) {
      const rest = chunk[home + OVERFLOW]! - 1;
      chunk[home + OVERFLOW] = (rest & 0xffff) === 0 ? 0 : rest;
    }
    this.#size--;
    if (--this.#meta[segment * META_WORDS]! < JOIN_BELOW) this.#join(segment);
  }

  /** A block has moved; its old or its new page has its hash at `to` already. */
  move(from: number, to: number): void {
    const key = this.#keyOfBlock(to);
    const segment = this.#directory[this.#entryOf(key)]!;
    const chunk = this.#chunks[segment >> CHUNK_SEGMENT_BITS]!;
    const place = this.#placeOf(chunk, (segment & (CHUNK_SEGMENTS - 1)) << SEGMENT_BITS, key, from);
    chunk[place] = to;
  }

  #entryOf(key: number): number {
    return this.#depth === 0 ? 0 : key >>> (32 - this.#depth);
  }

  #keyOfBlock(ref: number): number {
    const page = pageOf(ref);
    return keyOf(
      this.#pages.chunkOf(page),
      this.#pages.baseOf(page) + PAGE.hashes + slotOf(ref) * HASH_WORDS,
    );
  }

  #placeOf(chunk: Int32Array, from: number, key: number, ref: number): number {
    const home = key & (BUCKETS - 1);
    const pattern = Math.imul(tagOf(key), EVERY_BYTE);
    const reach = chunk[from + home * BUCKET_WORDS + OVERFLOW]! >>> 16;
    for (let distance = 0; distance <= reach; distance++) {
      const bucket = from + ((home + distance) & (BUCKETS - 1)) * BUCKET_WORDS;
      for (let group = 0; group < 3; group++) {
        for (
          let matches = zeroBytes(chunk[bucket + TAGS + group]! ^ pattern);
          matches !== 0;
          matches &= matches - 1
        ) {
          const place = bucket + group * 4 + firstByte(matches);
          if (chunk[place] === ref) return place;
        }
      }
    }
    assert(false, `block ${ref} is not in the table`);
  }

  #tagAt(chunk: Int32Array, place: number): number {
    const index = place & (BUCKET_WORDS - 1);
    const bucket = place - index;
    return (chunk[bucket + TAGS + (index >> 2)]! >>> ((index & 3) * 8)) & 0xff;
  }

  /** Into a segment that has a free place. */
  #put(segment: number, key: number, ref: number): void {
    const chunk = this.#chunks[segment >> CHUNK_SEGMENT_BITS]!;
    const from = (segment & (CHUNK_SEGMENTS - 1)) << SEGMENT_BITS;
    const home = key & (BUCKETS - 1);
    this.#meta[segment * META_WORDS]!++;
    for (let distance = 0; ; distance++) {
      const bucket = from + ((home + distance) & (BUCKETS - 1)) * BUCKET_WORDS;
      for (let group = 0; group < 3; group++) {
        const empty = zeroBytes(chunk[bucket + TAGS + group]!);
        if (empty === 0) continue;
        const byte = firstByte(empty);
        chunk[bucket + group * 4 + byte] = ref;
        chunk[bucket + TAGS + group]! |= tagOf(key) << (byte * 8);
        if (distance > 0) this.#runOver(chunk, from + home * BUCKET_WORDS + OVERFLOW, distance);
        return;
      }
    }
  }

  #runOver(chunk: Int32Array, at: number, distance: number): void {
    const word = chunk[at]!;
    chunk[at] = (Math.max(word >>> 16, distance) << 16) | ((word & 0xffff) + 1);
  }

  /** Takes all blocks out of a segment into the scratch arrays; returns how many. */
  #empty(segment: number): number {
    const chunk = this.#chunks[segment >> CHUNK_SEGMENT_BITS]!;
    const from = (segment & (CHUNK_SEGMENTS - 1)) << SEGMENT_BITS;
    let count = 0;
    for (let bucket = from; bucket < from + SEGMENT_WORDS; bucket += BUCKET_WORDS) {
      for (let index = 0; index < BUCKET_PLACES; index++) {
        if (this.#tagAt(chunk, bucket + index) === 0) continue;
        const ref = chunk[bucket + index]!;
        this.#movedRefs[count] = ref;
        this.#movedKeys[count++] = this.#keyOfBlock(ref);
      }
    }
    chunk.fill(0, from, from + SEGMENT_WORDS);
    this.#meta[segment * META_WORDS] = 0;
    return count;
  }

  #putMoved(count: number): void {
    for (let i = 0; i < count; i++) {
      const key = this.#movedKeys[i]!;
      this.#put(this.#directory[this.#entryOf(key)]!, key, this.#movedRefs[i]!);
    }
  }

  #split(segment: number): boolean {
    const depth = this.#meta[segment * META_WORDS + 1]!;
    if (depth === MAX_DEPTH || (depth === this.#depth && !this.#doubleDirectory())) return false;
    const prefix = this.#meta[segment * META_WORDS + 2]!;
    if (!this.#addSegment(depth + 1, prefix * 2 + 1)) return false;
    this.#describe(segment, depth + 1, prefix * 2);
    this.#pointTo(this.#numSegments - 1);
    this.#putMoved(this.#empty(segment));
    return true;
  }

  /** Joins a segment with its twin when they fit into one, and the directory's halves when none needs them apart. */
  #join(segment: number): void {
    const depth = this.#meta[segment * META_WORDS + 1]!;
    if (depth === 0) return;
    const prefix = this.#meta[segment * META_WORDS + 2]!;
    const twin = this.#directory[(prefix ^ 1) << (this.#depth - depth)]!;
    if (this.#meta[twin * META_WORDS + 1] !== depth) return;
    if (this.#meta[segment * META_WORDS]! + this.#meta[twin * META_WORDS]! > JOIN_AT_MOST) return;
    const count = this.#empty(segment);
    this.#describe(twin, depth - 1, prefix >> 1);
    this.#pointTo(twin);
    this.#putMoved(count);
    this.#dropSegment(segment);
    if (depth === this.#depth) this.#halveDirectory();
  }

  #describe(segment: number, depth: number, prefix: number): void {
    this.#meta[segment * META_WORDS + 1] = depth;
    this.#meta[segment * META_WORDS + 2] = prefix;
  }

  /** Makes the directory's entries for a segment's bits name it. */
  #pointTo(segment: number): void {
    const free = this.#depth - this.#meta[segment * META_WORDS + 1]!;
    const from = this.#meta[segment * META_WORDS + 2]! << free;
    this.#directory.fill(segment, from, from + 2 ** free);
  }

  #doubleDirectory(): boolean {
    if (!this.#budget.takeForTable(this.#directory.byteLength * 2)) return false;
    const old = this.#directory;
    this.#directory = Int32Array.from({ length: old.length * 2 }, (_, entry) => old[entry >> 1]!);
    this.#depth++;
    this.#budget.giveFromTable(old.byteLength);
    return true;
  }

  #halveDirectory(): void {
    for (let segment = 0; segment < this.#numSegments; segment++)
      if (this.#meta[segment * META_WORDS + 1] === this.#depth) return;
    const old = this.#directory;
    this.#directory = Int32Array.from({ length: old.length / 2 }, (_, entry) => old[entry * 2]!);
    this.#depth--;
    this.#budget.giveFromTable(old.byteLength / 2);
  }

  #addSegment(depth: number, prefix: number): boolean {
    const segment = this.#numSegments;
    if ((segment + 1) * META_WORDS > this.#meta.length && !this.#growMeta()) return false;
    if (segment >> CHUNK_SEGMENT_BITS === this.#chunks.length) {
      if (!this.#budget.takeForTable(TABLE_CHUNK_BYTES)) return false;
      this.#chunks.push(new Int32Array(CHUNK_SEGMENTS * SEGMENT_WORDS));
    }
    this.#numSegments++;
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
  #dropSegment(hole: number): void {
    const last = --this.#numSegments;
    if (last !== hole) {
      const from = (last & (CHUNK_SEGMENTS - 1)) << SEGMENT_BITS;
      const words = this.#chunks[last >> CHUNK_SEGMENT_BITS]!.subarray(from, from + SEGMENT_WORDS);
      this.#chunks[hole >> CHUNK_SEGMENT_BITS]!.set(words, (hole & (CHUNK_SEGMENTS - 1)) << SEGMENT_BITS);
      words.fill(0);
      this.#meta.copyWithin(hole * META_WORDS, last * META_WORDS, (last + 1) * META_WORDS);
      this.#pointTo(hole);
    }
    const spare = this.#chunks.length * CHUNK_SEGMENTS - this.#numSegments;
    if (spare < CHUNK_SEGMENTS + CHUNK_SEGMENTS / 2) return;
    this.#chunks.pop();
    this.#budget.giveFromTable(TABLE_CHUNK_BYTES);
  }

  /** Throws unless exactly the live blocks are in the table, each once, where a search finds it. */
  checkInvariants(): void {
    let numLive = 0;
    for (let page = 0; page < this.#pages.numPages; page++) {
      const live = this.#pages.get(page, PAGE.live);
      for (let slot = 0; slot < PAGE_BLOCKS; slot++) {
        if (((live >>> slot) & 1) === 0) continue;
        numLive++;
        const at = this.#pages.baseOf(page) + PAGE.hashes + slot * HASH_WORDS;
        assert(this.find(this.#pages.chunkOf(page), at) === refOf(page, slot), "a block is not found");
      }
    }
    assert(numLive === this.#size, "the table has other blocks than the pages");
    let numPlaced = 0;
    for (let segment = 0; segment < this.#numSegments; segment++) {
      numPlaced += this.#meta[segment * META_WORDS]!;
      const free = this.#depth - this.#meta[segment * META_WORDS + 1]!;
      const from = this.#meta[segment * META_WORDS + 2]! << free;
      for (let entry = from; entry < from + 2 ** free; entry++)
        assert(this.#directory[entry] === segment, "the directory names another segment");
    }
    assert(numPlaced === this.#size, "counts of segments disagree");
  }
}

/**
 * 32 bits of a hash, mixed, since what comes from elsewhere may not be spread evenly over all of its bits (finalizer `lowbias32` of
 * C. Wellons). The bucket is in the low 6 bits, the tag in the next 8, the entry of the directory in the highest 18.
 */
function keyOf(hashes: Int32Array, at: number): number {
  let key =
    hashes[at]! ^
    Math.imul(hashes[at + 1]!, 0x85ebca6b) ^
    Math.imul(hashes[at + 2]!, 0xc2b2ae35) ^
    Math.imul(hashes[at + 3]!, 0x27d4eb2f);
  key = Math.imul(key ^ (key >>> 16), 0x7feb352d);
  key = Math.imul(key ^ (key >>> 15), 0x846ca68b);
  return key ^ (key >>> 16);
}

/** 2 to 255: next to a true match a byte of 1 may look like one ({@link zeroBytes}), and an empty place must never. */
function tagOf(key: number): number {
  const tag = (key >>> BUCKET_BITS) & 0xff;
  return tag < 2 ? tag + 2 : tag;
}

/** The high bit of each byte that is 0, and perhaps of ones above the lowest such byte that are 1 (Anderson, Bit Twiddling Hacks). */
function zeroBytes(word: number): number {
  return (word - EVERY_BYTE) & ~word & EVERY_HIGH_BIT;
}

/** Which byte the lowest bit is in. */
function firstByte(bits: number): number {
  return (31 - Math.clz32(bits & -bits)) >> 3;
}
