import { HASH_WORDS } from "../../tokens/block-hash.ts";
import type { KvTier } from "../kv-events.ts";

/** Tiers below the device, nearest first. */
export type LowerTier = Exclude<KvTier, "device">;

/**
 * A run of blocks of one chain that a lower tier keeps, moves and evicts as one piece: a block of a small model has a few
 * kilobytes, and a call of the engine or a file for each would cost more than the bytes.
 */
export interface Segment {
  /** Unique on this worker since it started. */
  readonly id: number;
  /** Which block of its chain it begins with. */
  readonly firstBlock: number;
  /** Hashes of its blocks, `HASH_WORDS` words each. They stand for everything up to the end of each block. */
  readonly hashes: Int32Array;
  /** Hash of the block before, null when the segment begins a prompt. */
  readonly parent: Int32Array | null;
}

/** Blocks of one segment that continue a chain. */
export interface TierPiece {
  readonly tier: LowerTier;
  readonly segment: Segment;
  /** Blocks of the segment before the first one that is wanted. */
  readonly skipBlocks: number;
  readonly numBlocks: number;
}

/** What a tier has done since the worker started; blocks unless it says otherwise. */
export interface TierStats {
  readonly blocks: number;
  readonly bytes: number;
  readonly hits: number;
  readonly misses: number;
  readonly evictions: number;
  /** Segments that could not be read back, or turned out to be damaged or foreign. */
  readonly bad: number;
  /** Blocks that were not taken in: too much waited to be written, or there was no room. */
  readonly dropped: number;
}

export function numBlocksOf(segment: Segment): number {
  return segment.hashes.length / HASH_WORDS;
}

/** The hash at `hashes[at … at + HASH_WORDS)` as a short string, for maps. */
export function hashKey(hashes: Int32Array, at: number): string {
  let key = "";
  for (let i = at; i < at + HASH_WORDS; i++) {
    const word = hashes[i]!;
    key += String.fromCharCode(word & 0xffff, word >>> 16);
  }
  return key;
}

/** The segment of blocks [from, to) of a chain. */
export function segmentOf(id: number, chain: Int32Array, from: number, to: number): Segment {
  return {
    id,
    firstBlock: from,
    hashes: chain.slice(from * HASH_WORDS, to * HASH_WORDS),
    parent: from === 0 ? null : chain.slice((from - 1) * HASH_WORDS, from * HASH_WORDS),
  };
}

/** How many blocks of a segment, from `at` on, equal those of a chain from `chainAt` on, up to block `to` of the chain. */
export function numEqual(
  hashes: Int32Array,
  at: number,
  chain: Int32Array,
  chainAt: number,
  to: number,
): number {
  const most = Math.min(hashes.length / HASH_WORDS - at, to - chainAt);
  let words = 0;
  const from = at * HASH_WORDS;
  const chainFrom = chainAt * HASH_WORDS;
  while (words < most * HASH_WORDS && hashes[from + words] === chain[chainFrom + words]) words++;
  return Math.floor(words / HASH_WORDS);
}
