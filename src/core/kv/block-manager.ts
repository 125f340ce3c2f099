import type { Request, Retention } from "../request.ts";
import type { Sequence } from "../sequence.ts";
import { HASH_WORDS } from "../tokens/block-hash.ts";
import { assert } from "../util/assert.ts";
import { BlockLeases } from "./block-leases.ts";
import type { BlockManagerOptions } from "./block-manager-options.ts";
import { BlockPool } from "./block-pool.ts";
import type { BlockRecords } from "./block-records.ts";
import { CacheShares } from "./cache-shares.ts";
import { CachedChains } from "./cached-chains.ts";
import { HashChains } from "./hash-chains.ts";
import { type KvEffect, KvEffects } from "./kv-effects.ts";
import type { KvEventLog } from "./kv-event-log.ts";
import { forRuns, type KvRange } from "./kv-ops.ts";
import { RetentionWishes } from "./retention-wishes.ts";
import { SlotTable } from "./slot-table.ts";
import type { KvTiers } from "./tiers/kv-tiers.ts";

/** Part of the cached blocks that can be kept after all others, for requests that ask for it. */
const MAX_KEPT_SHARE = 0.5;

type Keep = Retention["keep"];

/**
 * Gives sequences the blocks and the slot that their KV lives in, and finds prefixes that are there already.
 *
 * It decides; the engine follows through {@link takeEffects}, which must reach it in order and before whatever uses the
 * blocks next.
 */
export class BlockManager {
  readonly blockSizeTokens: number;
  /** What changes in the worker's tiers, this one included; null when nobody wants to know. */
  readonly kvEvents: KvEventLog | null;
  readonly #chains: CachedChains | null;
  readonly #pool: BlockPool;
  readonly #slots: SlotTable;
  readonly #hashChains: HashChains;
  readonly #maxCachedBlocks: number;
  readonly #lookaheadTokens: number;
  /** Knows the number of each filed block's filing, and of its parent's: 0 for the first block of a chain. */
  readonly #records: BlockRecords;
  readonly #shares: CacheShares;
  /** Cached blocks that are kept after others until a time. */
  readonly leases: BlockLeases;
  readonly #wishes: RetentionWishes;
  /** Asked when there is not enough room: gives up what is held for nobody who has come yet. */
  yieldRoom: (() => void) | null = null;
  #numFilings = 0;
  readonly #tiers: KvTiers | null;
  readonly #effects = new KvEffects();

  constructor(options: BlockManagerOptions) {
    this.blockSizeTokens = options.blockSizeTokens;
    this.#hashChains = new HashChains(options);
    this.#maxCachedBlocks = options.maxCachedBlocks ?? options.numBlocks;
    this.#lookaheadTokens = options.lookaheadTokens ?? 0;
    this.#pool = new BlockPool(options.numBlocks, Math.floor(this.#maxCachedBlocks * MAX_KEPT_SHARE));
    this.#shares = new CacheShares(options.numBlocks);
    this.leases = new BlockLeases(this.#pool);
    this.#wishes = new RetentionWishes(this.leases, this.#maxCachedBlocks);
    this.#tiers = options.tiers ?? null;
    this.#records = this.#pool.records;
    this.#slots = new SlotTable({ ...options, records: this.#records });
    this.kvEvents = options.kvEvents ?? null;
    this.#chains =
      this.kvEvents === null ? null : new CachedChains(options.numBlocks, this.#records, this.kvEvents);
  }

  get numBlocks(): number {
    return this.#pool.numBlocks;
  }

  get numUsedBlocks(): number {
    return this.#pool.numUsed;
  }

  /** Blocks that a sequence could be given now: free ones and cached ones. */
  get numReusableBlocks(): number {
    return this.#pool.numReusable;
  }

  /** Blocks that hold a reusable prefix and that no sequence uses. */
  get numCachedBlocks(): number {
    return this.#pool.numHashed - this.#pool.numHashedInUse;
  }

  /** Blocks that a sequence needs to have this many tokens computed. */
  blocksFor(numTokens: number): number {
    return Math.ceil((numTokens + this.#lookaheadTokens) / this.blockSizeTokens);
  }

  /**
   * What the engine has to do, in order, since the last call. Exports stand among the operations: they come before whatever the
   * cells that they read are used for next.
   */
  takeEffects(): readonly KvEffect[] {
    return this.#effects.take();
  }

  /**
   * Gives a waiting sequence a slot, the cached blocks of its prefix and fresh blocks up to `numTokens` positions, or
   * changes nothing and returns false when there is not enough room. `numComputedTokens` becomes the length of the
   * cached prefix, which is at most `reusableTokens`.
   */
  admit(sequence: Sequence, numTokens: number, reusableTokens: number): boolean {
    assert(sequence.slot === -1 && sequence.blocks.length === 0, "the sequence holds KV already");
    const maxShared = this.#maxCachedBlocks > 0 ? Math.floor(reusableTokens / this.blockSizeTokens) : 0;
    if (maxShared > 0) this.#hashChains.upTo(sequence, maxShared);
    const numBlocks = this.blocksFor(numTokens);
    let matched = this.#match(sequence, maxShared);
    if (!this.#hasRoomFor(numBlocks, matched)) {
      this.yieldRoom?.();
      matched = this.#match(sequence, maxShared);
      if (!this.#hasRoomFor(numBlocks, matched)) return false;
    }
    const mustReclaim = this.#slots.numFree === 0;
    const slot = this.#takeSlot();
    if (slot === -1) return false;
    if (mustReclaim) {
      // This may have cost cached blocks that were counted on.
      matched = this.#match(sequence, maxShared);
      if (!this.#hasRoomFor(numBlocks, matched)) {
        this.#slots.leave(slot);
        return false;
      }
    }
    sequence.slot = slot;
    this.#sharePrefix(sequence, matched);
    const grown = this.grow(sequence, numTokens);
    assert(grown, "blocks that were there are gone");
    this.#wishes.admitted(sequence, this.blockSizeTokens);
    return true;
  }

  /** It is so late: what was kept until now is like any other. */
  advance(nowMs: number): void {
    this.leases.expire(nowMs);
    this.#tiers?.advance(nowMs);
  }

  /**
   * What could be filled ahead for somebody who has not come: free blocks, as far as they may stay cached, and cached ones that
   * nobody wants kept; together no more than may be kept. None when it would cost a slot that is not free.
   */
  get prefetchable(): { readonly numFree: number; readonly numEvictable: number } {
    if (this.#slots.numFree <= 1 || this.#maxCachedBlocks === 0) return { numFree: 0, numEvictable: 0 };
    const { room, unkept } = this.#pool.keepable;
    const mayCache = Math.max(0, this.#maxCachedBlocks - this.numCachedBlocks);
    const numFree = Math.min(room, mayCache, this.#pool.numReusable - this.numCachedBlocks);
    return { numFree, numEvictable: Math.min(room, unkept) - numFree };
  }

  /** Extends the block table to `numTokens` positions, or changes nothing and returns false. */
  grow(sequence: Sequence, numTokens: number): boolean {
    const missing = this.blocksFor(numTokens) - sequence.blocks.length;
    if (missing > this.#pool.numReusable) this.yieldRoom?.();
    if (missing > this.#pool.numReusable) return false;
    for (let i = 0; i < missing; i++) sequence.blocks.push(this.#allocate());
    return true;
  }

  /** Files the blocks that have been computed in full, so that later sequences find them. */
  fileComputed(sequence: Sequence): void {
    if (this.#maxCachedBlocks === 0) return;
    const numFull = Math.floor(sequence.numComputedTokens / this.blockSizeTokens);
    if (numFull <= sequence.numFiledBlocks) return;
    const hashes = this.#hashChains.upTo(sequence, numFull);
    for (let depth = sequence.numFiledBlocks; depth < numFull; depth++) this.#file(sequence, depth, hashes);
    sequence.numFiledBlocks = numFull;
  }

  /**
   * Files one block, if its parent in the sequence's own table is filed. A chain in the cache is then always one that some
   * sequence really held: its cells were written one after the other, in order.
   */
  #file(sequence: Sequence, depth: number, hashes: Int32Array): void {
    const parent = depth === 0 ? null : sequence.blocks[depth - 1]!;
    if (parent !== null && !this.#pool.isHashed(parent)) return;
    const parentFiling = parent === null ? 0 : this.#records.filing(parent);
    const other = this.#pool.find(hashes, depth * HASH_WORDS);
    if (other !== -1) {
      // An equal block computed at the same time elsewhere keeps the place, unless nobody can reach it any more.
      if (this.#records.parentFiling(other) === parentFiling) return;
      this.#forget(other);
    }
    const block = sequence.blocks[depth]!;
    this.#pool.hash(block, hashes, depth * HASH_WORDS);
    this.#slots.settle(block, depth, sequence.slot);
    this.#records.setFiling(block, ++this.#numFilings, parentFiling);
    this.#chains?.filed(block, parent);
    const { request } = sequence;
    if (request.cacheShare !== undefined && depth >= (request.publicBlocks ?? 0))
      this.#shares.own(block, request.cacheSalt);
  }

  /**
   * Takes everything from a sequence. What is filed stays cached until its blocks are needed, and goes to the lower tiers unless nobody
   * will come back for it. `comesBack`: the sequence itself will, so that its request's wish for less does not count yet.
   */
  free(sequence: Sequence, comesBack = false): void {
    if (sequence.slot === -1) return;
    const wish = sequence.request.retention?.keep ?? "default";
    const keep = comesBack && wish === "none" ? "default" : wish;
    if (this.#tiers !== null && sequence.numFiledBlocks > 0 && keep !== "none")
      this.#effects.export(
        ...this.#tiers.offload(sequence.slot, sequence.blockHashes!, sequence.numFiledBlocks),
      );
    this.#dropUnfiled(sequence);
    this.#releaseAll(sequence, keep);
    if (!comesBack) this.#keepAsWished(sequence);
    this.#slots.leave(sequence.slot);
    sequence.blocks.length = 0;
    sequence.slot = -1;
    sequence.numComputedTokens = 0;
    sequence.numFiledBlocks = 0;
    this.#trimCache(sequence.request);
  }

  #keepAsWished(sequence: Sequence): void {
    const kept = this.#wishes.released(sequence);
    if (kept !== null) this.#tiers?.keep(sequence.blockHashes!, kept, sequence.request.cacheSalt);
  }

  /** The end of a prefix is reused before its beginning, on which more depends. */
  #releaseAll({ blocks, numCachedTokens }: Sequence, keep: Keep): void {
    const numShared = Math.floor(numCachedTokens / this.blockSizeTokens);
    let end = blocks.length;
    if (keep === "none") {
      // Each goes before all others, so the last one comes last. What was found in the cache others may want: it takes its turn.
      for (let depth = numShared; depth < end; depth++) this.#pool.release(blocks[depth]!, keep);
      end = Math.min(end, numShared);
    }
    for (let depth = end - 1; depth >= 0; depth--) {
      const block = blocks[depth]!;
      // A sequence without a wish, or that nobody comes back for, changes nothing for others who had one.
      const wasKept = depth < numShared && this.#pool.isKept(block);
      this.#pool.release(block, wasKept ? "long" : keep === "none" ? "default" : keep);
    }
    for (let depth = blocks.length - 1; depth >= 0; depth--) {
      const block = blocks[depth]!;
      if (this.#pool.refs(block) === 0 && this.#pool.isHashed(block)) this.#shares.cache(block);
    }
  }

  #trimCache({ cacheSalt, cacheShare }: Request): void {
    if (cacheShare !== undefined) {
      const maxOwn = Math.floor(cacheShare * this.#maxCachedBlocks);
      for (;;) {
        const block = this.#shares.beyond(cacheSalt, maxOwn);
        if (block === -1) break;
        this.#forget(block);
      }
    }
    while (this.numCachedBlocks > this.#maxCachedBlocks) {
      const block = this.#pool.oldestCached();
      this.#forget(block);
    }
  }

  /** The cached blocks of a sequence's prefix, up to `maxShared`: a chain, each filed below the one before. */
  #match(sequence: Sequence, maxShared: number): number[] {
    return maxShared === 0 ? [] : this.find(sequence.blockHashes!, maxShared);
  }

  /** The blocks that hold a chain's beginning, up to `numBlocks` of it, as far as there is no gap. */
  find(chain: Int32Array, numBlocks: number): number[] {
    const matched: number[] = [];
    let parentFiling = 0;
    for (let depth = 0; depth < numBlocks; depth++) {
      const block = this.#pool.find(chain, depth * HASH_WORDS);
      if (block === -1 || this.#records.parentFiling(block) !== parentFiling) break;
      parentFiling = this.#records.filing(block);
      matched.push(block);
    }
    return matched;
  }

  /** Where blocks with these hashes lie, which begin at block `firstBlock` of a chain: as far as there is no gap. */
  locate(firstBlock: number, hashes: Int32Array): KvRange[] {
    const homes: number[] = [];
    for (let at = 0; at < hashes.length; at += HASH_WORDS) {
      const block = this.#pool.find(hashes, at);
      if (block === -1 || this.#slots.depth(block) !== firstBlock + homes.length) break;
      homes.push(this.#slots.home(block));
    }
    const ranges: KvRange[] = [];
    const offset = firstBlock * this.blockSizeTokens;
    forRuns(homes, this.blockSizeTokens, (slot, start, end) =>
      ranges.push({ slot, start: offset + start, end: offset + end }),
    );
    return ranges;
  }

  #hasRoomFor(numBlocks: number, matched: readonly number[]): boolean {
    let numRevived = 0;
    for (const block of matched) if (this.#pool.refs(block) === 0) numRevived++;
    return numBlocks - matched.length <= this.#pool.numReusable - numRevived;
  }

  #sharePrefix(sequence: Sequence, matched: readonly number[]): void {
    if (matched.length === 0) return;
    const formerHomes = matched.map((block) => this.#slots.home(block));
    for (const block of matched) {
      this.#shares.uncache(block);
      this.#pool.retain(block);
      sequence.blocks.push(block);
    }
    forRuns(formerHomes, this.blockSizeTokens, (home, start, end) => {
      this.#effects.op({ kind: "share", slot: home, to: sequence.slot, start, end });
    });
    forRuns(formerHomes, this.blockSizeTokens, (home, start, end) => {
      if (!this.#slots.isActive(home)) this.#effects.drop(home, start, end);
    });
    sequence.blocks.forEach((block, depth) => {
      this.#slots.settle(block, depth, sequence.slot);
    });
    sequence.numFiledBlocks = formerHomes.length;
    sequence.numComputedTokens = formerHomes.length * this.blockSizeTokens;
  }

  #allocate(): number {
    const block = this.#pool.peek();
    if (this.#pool.isHashed(block)) this.#forget(block);
    return this.#pool.allocate();
  }

  /** A block leaves the prefix cache, and its cells leave its home, unless a sequence owns that slot and needs them. */
  #forget(block: number): void {
    const home = this.#slots.home(block);
    if (!this.#slots.isActive(home)) {
      const start = this.#slots.depth(block) * this.blockSizeTokens;
      this.#effects.drop(home, start, start + this.blockSizeTokens);
    }
    this.#chains?.forgotten(block);
    this.#slots.unsettle(block);
    this.leases.drop(block);
    this.#shares.disown(block);
    this.#pool.unhash(block);
  }

  #takeSlot(): number {
    if (this.#slots.numFree === 0) {
      const oldest = this.#slots.oldestRetained();
      if (oldest === -1) return -1;
      // Sequences that use one of these blocks have it in their own slot; it only can't be found any more.
      for (const block of this.#slots.blocksAt(oldest)) this.#forget(block);
    }
    return this.#slots.take();
  }

  /** Ranges of the slot that are no block's home go away with the sequence. */
  #dropUnfiled({ slot, blocks }: Sequence): void {
    const size = this.blockSizeTokens;
    for (let to = 0; to < blocks.length; to++) {
      if (this.#slots.home(blocks[to]!) === slot) continue;
      const from = to;
      while (to < blocks.length && this.#slots.home(blocks[to]!) !== slot) to++;
      this.#effects.drop(slot, from * size, to * size);
    }
  }

  /** Throws unless pool, slots and the given sequences (all that hold blocks) agree. Linear in the number of blocks. */
  checkInvariants(holders: Iterable<Sequence>): void {
    const refs = new Map<number, number>();
    const active = new Set<number>();
    for (const sequence of holders) {
      assert(sequence.slot !== -1, "a holder has no slot");
      assert(!active.has(sequence.slot), "two sequences own one slot");
      active.add(sequence.slot);
      assert(
        sequence.blocks.length >= this.blocksFor(sequence.numComputedTokens),
        "computed tokens have no blocks",
      );
      for (const block of sequence.blocks) refs.set(block, (refs.get(block) ?? 0) + 1);
    }
    assert(this.numCachedBlocks <= this.#maxCachedBlocks, "more blocks are cached than allowed");
    this.#pool.checkInvariants(refs);
    this.#shares.checkInvariants((block) => this.#pool.isHashed(block) && this.#pool.refs(block) === 0);
    this.#slots.checkInvariants(active);
    this.leases.checkInvariants();
    this.#wishes.checkInvariants();
    for (let block = 0; block < this.numBlocks; block++) {
      assert(
        this.#pool.isHashed(block) === (this.#slots.home(block) !== -1),
        `block ${block} is filed without a home`,
      );
    }
    this.#chains?.checkInvariants(this.#records, (block) => this.#pool.isHashed(block));
    this.kvEvents?.checkInvariants();
  }
}
