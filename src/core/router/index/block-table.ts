import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { assert } from "../../util/assert.ts";
import { lowestBit } from "./bits.ts";
import { type BlockPages, PAGE, PAGE_BLOCKS, pageOf, refOf, slotOf } from "./block-pages.ts";
import type { ByteBudget } from "./byte-budget.ts";
import {
  BUCKET_PLACES,
  BUCKET_WORDS,
  BUCKETS,
  SEGMENT_PLACES,
  SEGMENT_WORDS,
  TableSegments,
} from "./table-segments.ts";

/** The tag is above the bits of the bucket. */
const TAG_SHIFT = 6;
/**
 * A bucket begins with three words of tags of its twelve places; a tag of 0 means that the place is empty. They and what has run over
 * are first, since arrays begin anywhere in a cache line: places are filled in order, so most searches end in the line they began in.
 */
const TAGS = 0;
/** Low half: how many blocks of this bucket stand in later ones. High half: how far at most. */
const OVERFLOW = 3;
/** The blocks in the places. */
const REFS = 4;
/** A segment splits when 85 % of its places are taken, and joins its twin below 40 % when both together would take 65 %. */
const SPLIT_ABOVE = 652;
const JOIN_BELOW = 307;
const JOIN_AT_MOST = 500;
const EVERY_BYTE = 0x01010101;
const EVERY_HIGH_BIT = 0x80808080 | 0;

/**
 * Finds the block that carries a hash: a hash table in segments of 768 places. It grows and shrinks by splitting and joining single
 * segments, so no operation rehashes more than one of them, and memory follows the content.
 *
 * A place has the block's number alone; the hash itself is compared in the block's page. Nearly always one bucket of the table and
 * one line of the page are read: the tags leave one wrong candidate in twenty searches or so.
 */
export class BlockTable {
  readonly #pages: BlockPages;
  readonly #segments: TableSegments;
  #size = 0;
  readonly #movedRefs = new Int32Array(SEGMENT_PLACES);
  readonly #movedKeys = new Int32Array(SEGMENT_PLACES);
  /** Keeps the compiler from leaving out reads whose results nobody uses. */
  warmed = 0;

  constructor(pages: BlockPages, budget: ByteBudget) {
    this.#pages = pages;
    this.#segments = new TableSegments(budget);
    budget.take(2 * this.#movedRefs.byteLength);
  }

  get size(): number {
    return this.#size;
  }

  /** The block with the hash at `hashes[at … at + 4)`, or -1. */
  find(hashes: Int32Array, at: number): number {
    return this.#search(keyOf(hashes, at), hashes, at);
  }

  #search(key: number, hashes: Int32Array, at: number): number {
    const segment = this.#segmentOf(key);
    const chunk = this.#segments.wordsOf(segment);
    const from = this.#segments.baseOf(segment);
    const pattern = Math.imul(tagOf(key), EVERY_BYTE);
    let bucket = from + (key & (BUCKETS - 1)) * BUCKET_WORDS;
    for (let left = chunk[bucket + OVERFLOW]! >>> 16; ; left--) {
      for (let at4 = 0; at4 < BUCKET_PLACES; at4 += 4) {
        let matches = zeroBytes(chunk[bucket + TAGS + (at4 >> 2)]! ^ pattern);
        for (; matches !== 0; matches &= matches - 1) {
          const ref = chunk[bucket + REFS + at4 + firstByte(matches)]!;
          if (this.#pages.equals(ref, hashes, at)) return ref;
        }
      }
      if (left === 0) return -1;
      bucket = from + ((bucket + BUCKET_WORDS) & (SEGMENT_WORDS - 1));
    }
  }

  /**
   * Reads the buckets of `count` blocks, each `step` after the one before, and what they have of the blocks. A processor waits for
   * main memory once for all of them, since none of these reads depends on another; the searches that follow find everything in its
   * caches. Changes nothing.
   */
  warm(hashes: Int32Array, first: number, count: number, step: number): void {
    let sum = 0;
    for (let i = 0; i < count; i++) sum ^= this.#warmBucket(keyOf(hashes, (first + i * step) * HASH_WORDS));
    this.warmed = sum;
  }

  /** As {@link warm}, for blocks of a page that are about to be removed. */
  warmBlocks(page: number, mask: number): void {
    let sum = 0;
    for (let rest = mask; rest !== 0; rest &= rest - 1)
      sum ^= this.#warmBucket(this.#keyOfBlock(refOf(page, lowestBit(rest))));
    this.warmed = sum;
  }

  /** The tags alone: see {@link TAGS}. */
  #warmBucket(key: number): number {
    const segment = this.#segmentOf(key);
    const chunk = this.#segments.wordsOf(segment);
    const bucket = this.#segments.baseOf(segment) + (key & (BUCKETS - 1)) * BUCKET_WORDS;
    return chunk[bucket + TAGS]!;
  }

  /**
   * Files a block that is to get the hash at `hashes[at … at + 4)`, unless there is one with it. Returns the one that is filed now, or
   * -1 when there is no place for it. Its page must have the hash before anything else is asked of the table.
   */
  findOrInsert(ref: number, hashes: Int32Array, at: number): number {
    const key = keyOf(hashes, at);
    const found = this.#search(key, hashes, at);
    if (found !== -1) return found;
    let segment = this.#segmentOf(key);
    while (this.#segments.countOf(segment) >= SPLIT_ABOVE && this.#split(segment))
      segment = this.#segmentOf(key);
    if (this.#segments.countOf(segment) === SEGMENT_PLACES) return -1;
    this.#put(segment, key, ref);
    this.#size++;
    return ref;
  }

  /** Takes out a block whose page still has its hash. */
  remove(ref: number): void {
    const key = this.#keyOfBlock(ref);
    const segment = this.#segmentOf(key);
    const chunk = this.#segments.wordsOf(segment);
    const from = this.#segments.baseOf(segment);
    const place = this.#placeOf(chunk, from, key, ref);
    const bucket = place & ~(BUCKET_WORDS - 1);
    const index = (place & (BUCKET_WORDS - 1)) - REFS;
    chunk[bucket + TAGS + (index >> 2)]! &= ~(0xff << ((index & 3) * 8));
    const home = from + (key & (BUCKETS - 1)) * BUCKET_WORDS;
    if (bucket !== home) {
      const rest = chunk[home + OVERFLOW]! - 1;
      chunk[home + OVERFLOW] = (rest & 0xffff) === 0 ? 0 : rest;
    }
    this.#size--;
    if (this.#segments.addToCount(segment, -1) < JOIN_BELOW) this.#join(segment);
  }

  /** A block has moved; its old or its new page has its hash at `to` already. */
  move(from: number, to: number): void {
    const key = this.#keyOfBlock(to);
    const segment = this.#segmentOf(key);
    const chunk = this.#segments.wordsOf(segment);
    const place = this.#placeOf(chunk, this.#segments.baseOf(segment), key, from);
    chunk[place] = to;
  }

  #segmentOf(key: number): number {
    return this.#segments.directory[key >>> this.#segments.shift]!;
  }

  #keyOfBlock(ref: number): number {
    const page = pageOf(ref);
    return keyOf(
      this.#pages.chunkOf(page),
      this.#pages.baseOf(page) + PAGE.hashes + slotOf(ref) * HASH_WORDS,
    );
  }

  #placeOf(chunk: Int32Array, from: number, key: number, ref: number): number {
    const pattern = Math.imul(tagOf(key), EVERY_BYTE);
    let bucket = from + (key & (BUCKETS - 1)) * BUCKET_WORDS;
    for (let left = chunk[bucket + OVERFLOW]! >>> 16; left >= 0; left--) {
      for (let at4 = 0; at4 < BUCKET_PLACES; at4 += 4) {
        let matches = zeroBytes(chunk[bucket + TAGS + (at4 >> 2)]! ^ pattern);
        for (; matches !== 0; matches &= matches - 1) {
          const place = bucket + REFS + at4 + firstByte(matches);
          if (chunk[place] === ref) return place;
        }
      }
      bucket = from + ((bucket + BUCKET_WORDS) & (SEGMENT_WORDS - 1));
    }
    assert(false, `block ${ref} is not in the table`);
  }

  #tagAt(chunk: Int32Array, bucket: number, index: number): number {
    return (chunk[bucket + TAGS + (index >> 2)]! >>> ((index & 3) * 8)) & 0xff;
  }

  /** Into a segment that has a free place. */
  #put(segment: number, key: number, ref: number): void {
    const chunk = this.#segments.wordsOf(segment);
    const from = this.#segments.baseOf(segment);
    const home = key & (BUCKETS - 1);
    this.#segments.addToCount(segment, 1);
    for (let distance = 0; ; distance++) {
      const bucket = from + ((home + distance) & (BUCKETS - 1)) * BUCKET_WORDS;
      for (let group = 0; group < 3; group++) {
        const empty = zeroBytes(chunk[bucket + TAGS + group]!);
        if (empty === 0) continue;
        const byte = firstByte(empty);
        chunk[bucket + REFS + group * 4 + byte] = ref;
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
    const chunk = this.#segments.wordsOf(segment);
    const from = this.#segments.baseOf(segment);
    let count = 0;
    for (let bucket = from; bucket < from + SEGMENT_WORDS; bucket += BUCKET_WORDS) {
      for (let index = 0; index < BUCKET_PLACES; index++) {
        if (this.#tagAt(chunk, bucket, index) === 0) continue;
        this.#movedRefs[count++] = chunk[bucket + REFS + index]!;
      }
    }
    // By themselves, so that the processor reads many pages at once.
    for (let i = 0; i < count; i++) this.#movedKeys[i] = this.#keyOfBlock(this.#movedRefs[i]!);
    chunk.fill(0, from, from + SEGMENT_WORDS);
    this.#segments.addToCount(segment, -count);
    return count;
  }

  #putMoved(count: number): void {
    for (let i = 0; i < count; i++) {
      const key = this.#movedKeys[i]!;
      this.#put(this.#segmentOf(key), key, this.#movedRefs[i]!);
    }
  }

  #split(segment: number): boolean {
    if (!this.#segments.split(segment)) return false;
    this.#putMoved(this.#empty(segment));
    return true;
  }

  /** Joins a segment with its twin when they fit into one. */
  #join(segment: number): void {
    const twin = this.#segments.twinOf(segment);
    if (twin === -1) return;
    if (this.#segments.countOf(segment) + this.#segments.countOf(twin) > JOIN_AT_MOST) return;
    const count = this.#empty(segment);
    this.#segments.joinInto(twin);
    this.#putMoved(count);
    this.#segments.drop(segment);
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
    this.#segments.checkInvariants();
    let numPlaced = 0;
    for (let segment = 0; segment < this.#segments.size; segment++)
      numPlaced += this.#segments.countOf(segment);
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
  const tag = (key >>> TAG_SHIFT) & 0xff;
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
