import { HASH_WORDS } from "../../tokens/block-hash.ts";
import type { KvEventLog } from "../kv-event-log.ts";
import type { KvRange } from "../kv-ops.ts";
import type { KeptUntil } from "../retention-wishes.ts";
import { type EvictionName, evictionPolicy } from "./eviction.ts";
import { OnboardRule, type Otherwise } from "./onboard-rule.ts";
import type { ReturnOutlook } from "./outlooks.ts";
import { type LowerTier, type Segment, segmentOf, type TierPiece, type TierStats } from "./segment.ts";
import { TierCache } from "./tier-cache.ts";

/** Bytes that may wait to be written to one tier. */
export const MAX_PENDING_TIER_BYTES = 64 * 1024 * 1024;
/** Blocks of a segment at most, and bytes, about. */
const MAX_SEGMENT_BLOCKS = 16;
const MAX_SEGMENT_BYTES = 8 * 1024 * 1024;
/** Fewer blocks than this are computed rather than brought up. */
export const MIN_ONBOARD_BLOCKS = 2;

export interface KvTiersOptions {
  /** Nearest first. */
  readonly tiers: ReadonlyArray<{ readonly tier: LowerTier; readonly maxBytes: number }>;
  readonly eviction: EvictionName;
  readonly blockSizeTokens: number;
  readonly bytesPerToken: number;
  /** Is told what can be found in the tiers. */
  readonly kvEvents?: KvEventLog | undefined;
  /** Default: {@link MAX_PENDING_TIER_BYTES}. */
  readonly maxPendingBytes?: number | undefined;
  /** Segments that may wait to be written to one tier. Default: what suits an engine that exports between its steps. */
  readonly maxPendingSegments?: number | undefined;
}

/**
 * Copies the KV of a segment from the device to lower tiers. The range must be exported before any later operation on its cells;
 * each tier's write is reported by itself.
 */
export interface OffloadOp {
  readonly kind: "offload";
  readonly range: KvRange;
  readonly segment: Segment;
  readonly tiers: readonly LowerTier[];
}

/**
 * The tiers of KV below one worker's device. Every tier is written to when a sequence gives up its KV, and read when a prompt
 * continues beyond what the device holds; none moves to another. So what host memory evicts is on disk already, and what is
 * on disk survives the process, however it ends.
 */
export class KvTiers {
  readonly rule: OnboardRule;
  readonly #caches: readonly TierCache[];
  readonly #options: KvTiersOptions;
  readonly #segmentBlocks: number;
  #nextId = 1;

  constructor(options: KvTiersOptions) {
    this.#options = options;
    const { blockSizeTokens } = options;
    this.rule = new OnboardRule(MIN_ONBOARD_BLOCKS * blockSizeTokens);
    const fitting = Math.floor(MAX_SEGMENT_BYTES / (blockSizeTokens * options.bytesPerToken));
    this.#segmentBlocks = Math.max(1, Math.min(MAX_SEGMENT_BLOCKS, fitting));
    this.#caches = options.tiers.map(
      ({ tier, maxBytes }) =>
        new TierCache({
          tier,
          maxBytes,
          maxPendingBytes: options.maxPendingBytes ?? MAX_PENDING_TIER_BYTES,
          maxPendingSegments: options.maxPendingSegments,
          eviction: evictionPolicy(options.eviction),
          recomputeMs: (start, end) => this.rule.prefill.ms(start, end) ?? end - start,
          blockSizeTokens,
          kvEvents: options.kvEvents,
        }),
    );
  }

  get bytesPerToken(): number {
    return this.#options.bytesPerToken;
  }

  get stats(): ReadonlyArray<readonly [LowerTier, TierStats]> {
    return this.#caches.map((cache) => [cache.tier, cache.stats]);
  }

  /** Segments whose bytes are to be deleted, since the last call. */
  takeDeletions(): Array<{ readonly tier: LowerTier; readonly segment: Segment }> {
    return this.#caches.flatMap((cache) =>
      cache.takeDeletions().map((segment) => ({ tier: cache.tier, segment })),
    );
  }

  /**
   * Takes over what a tier held when the worker started, least recently used first; returns what can't be used. `numBad` were not
   * even readable.
   */
  restore(
    tier: LowerTier,
    found: ReadonlyArray<{ readonly segment: Segment; readonly bytes: number }>,
    numBad: number,
  ): Segment[] {
    for (const { segment } of found) this.#nextId = Math.max(this.#nextId, segment.id + 1);
    return this.#cache(tier).restore(found, numBad);
  }

  /**
   * A sequence gives up its KV, whose first `numBlocks` blocks lie in `slot`: what has to be copied, and where to. Room is taken
   * in the tiers.
   */
  offload(slot: number, chain: Int32Array, numBlocks: number): OffloadOp[] {
    const ops: OffloadOp[] = [];
    const wanting = this.#caches
      .filter(({ isOn }) => isOn)
      .map((cache) => ({ cache, from: cache.countHeld(chain, numBlocks) }));
    const first = Math.min(numBlocks, ...wanting.map(({ from }) => from));
    for (const [from, to] of this.#cut(first, numBlocks, new Set(wanting.map((tier) => tier.from)))) {
      const segment = segmentOf(this.#nextId++, chain, from, to);
      const bytes = this.#bytesOf(to - from);
      const tiers = wanting
        .filter((tier) => tier.from <= from && tier.cache.reserve(segment, bytes))
        .map(({ cache }) => cache.tier);
      if (tiers.length > 0)
        ops.push({ kind: "offload", range: this.#rangeOf(slot, from, to), segment, tiers });
    }
    return ops;
  }

  /** Cuts blocks [from, to) where a tier's part begins, and at multiples of a segment's length. */
  *#cut(from: number, to: number, places: ReadonlySet<number>): Generator<[number, number]> {
    let start = from;
    for (let end = from + 1; end <= to; end++) {
      if (end < to && end % this.#segmentBlocks !== 0 && !places.has(end)) continue;
      yield [start, end];
      start = end;
    }
  }

  /** What to bring up for blocks [from, to) of a chain, each part from the nearest tier that has it; empty when the other way is quicker. */
  plan(chain: Int32Array, from: number, to: number, otherwise: Otherwise): TierPiece[] {
    const pieces: TierPiece[] = [];
    let at = from;
    for (;;) {
      const next = this.find(chain, at, to);
      if (next.length === 0) break;
      pieces.push(...next);
      for (const { numBlocks } of next) at += numBlocks;
    }
    const { blockSizeTokens } = this.#options;
    const costs = pieces.map(({ tier, numBlocks }) => ({ tier, numTokens: numBlocks * blockSizeTokens }));
    const chosen = pieces.slice(0, this.rule.choose(from * blockSizeTokens, costs, otherwise));
    for (const cache of this.#caches) {
      const taken = chosen.filter(({ tier }) => tier === cache.tier);
      cache.countLookup(
        to - from,
        taken.reduce((sum, { numBlocks }) => sum + numBlocks, 0),
      );
    }
    return chosen;
  }

  /** What the nearest tier that holds block `from` holds from there on. `hashes` are those of the chain from block `base` on. */
  find(hashes: Int32Array, from: number, to: number, base = 0): TierPiece[] {
    for (const cache of this.#caches) {
      const pieces = cache.match(hashes, from, to, base);
      if (pieces.length > 0) return pieces;
    }
    return [];
  }

  /** It is so late. */
  advance(nowMs: number): void {
    for (const cache of this.#caches) cache.advance(nowMs);
  }

  /** The first blocks of an owner's chain go after all others until a time, in every tier. */
  keep(chain: Int32Array, { numBlocks, untilMs }: KeptUntil, owner: string): void {
    for (const cache of this.#caches) cache.keep(chain, numBlocks, owner, untilMs);
  }

  /** The conversation that goes through the block with this hash is likely to come back. */
  expect(lastHash: Int32Array, comesBack: ReturnOutlook): void {
    const chain = this.chainThrough(lastHash);
    if (chain !== null) for (const cache of this.#caches) cache.expect(chain, comesBack);
  }

  /** Bytes of a block, about. */
  get bytesPerBlock(): number {
    return this.#bytesOf(1);
  }

  /** The most bytes that a tier may hold; 0 when there is none. */
  maxBytes(tier: LowerTier): number {
    return this.#options.tiers.find((each) => each.tier === tier)?.maxBytes ?? 0;
  }

  /** How many leading blocks of a chain a tier holds or is about to hold. */
  numHeld(tier: LowerTier, chain: Int32Array): number {
    const cache = this.#caches.find((each) => each.tier === tier);
    return cache?.countHeld(chain, chain.length / HASH_WORDS) ?? 0;
  }

  /** The longest chain of a tier that goes through the block with this hash; null when no tier has it. */
  chainThrough(hash: Int32Array): Int32Array | null {
    let longest: Int32Array | null = null;
    for (const cache of this.#caches) {
      const chain = cache.chainThrough(hash);
      if (chain !== null && chain.length > (longest?.length ?? 0)) longest = chain;
    }
    return longest;
  }

  /** What host memory lacks of a chain and the disk has. Empty when one of them is not there. */
  raiseable(chain: Int32Array): TierPiece[] {
    const [host, disk] = (["host", "disk"] as const).map((tier) =>
      this.#caches.find((cache) => cache.tier === tier && cache.isOn),
    );
    if (host === undefined || disk === undefined) return [];
    const numBlocks = chain.length / HASH_WORDS;
    return disk.match(chain, host.countHeld(chain, numBlocks), numBlocks);
  }

  /** Whether a piece of the disk would take none of the host memory's KV that somebody else is expected to come back for about now. */
  hasSpareRoomFor({ numBlocks }: TierPiece): boolean {
    return this.#cache("host").hasSpareRoom(this.#bytesOf(numBlocks));
  }

  /** Takes room in host memory for a piece of the disk. Null when there is none, or no place for it. */
  raise({ segment, skipBlocks, numBlocks }: TierPiece): Segment | null {
    const [from, to] = [skipBlocks * HASH_WORDS, (skipBlocks + numBlocks) * HASH_WORDS];
    const raised: Segment = {
      id: this.#nextId++,
      firstBlock: segment.firstBlock + skipBlocks,
      hashes: segment.hashes.slice(from, to),
      parent: skipBlocks === 0 ? segment.parent : segment.hashes.slice(from - HASH_WORDS, from),
    };
    const host = this.#cache("host");
    return host.canAdd(raised) && host.reserve(raised, this.#bytesOf(numBlocks)) ? raised : null;
  }

  /** Milliseconds that bringing so many blocks from the lowest tier to the device takes, as far as that has been measured. */
  raiseMs(numBlocks: number): number {
    const numTokens = numBlocks * this.#options.blockSizeTokens;
    return this.#caches.reduce((sum, { tier }) => sum + numTokens * this.rule.msPerToken(tier), 0);
  }

  /** Whether a piece that was planned is still there. */
  holds({ tier, segment }: TierPiece): boolean {
    return this.#cache(tier).holds(segment);
  }

  pin({ tier, segment }: TierPiece): void {
    this.#cache(tier).pin(segment);
  }

  unpin({ tier, segment }: TierPiece): void {
    this.#cache(tier).unpin(segment);
  }

  discard({ tier, segment }: TierPiece): void {
    this.#cache(tier).discard(segment);
  }

  /** A write has ended, in so many bytes, or has not come about: null. */
  written(tier: LowerTier, segment: Segment, bytes: number | null): void {
    if (bytes === null) this.#cache(tier).notWritten(segment);
    else this.#cache(tier).written(segment, bytes);
  }

  turnOff(tier: LowerTier): void {
    this.#cache(tier).turnOff();
  }

  /** Bytes that blocks will take, about; the store tells exactly. */
  #bytesOf(numBlocks: number): number {
    return numBlocks * this.#options.blockSizeTokens * this.#options.bytesPerToken;
  }

  #rangeOf(slot: number, from: number, to: number): KvRange {
    const { blockSizeTokens } = this.#options;
    return { slot, start: from * blockSizeTokens, end: to * blockSizeTokens };
  }

  #cache(tier: LowerTier): TierCache {
    return this.#caches.find((cache) => cache.tier === tier)!;
  }

  checkInvariants(): void {
    for (const cache of this.#caches) cache.checkInvariants();
  }
}
