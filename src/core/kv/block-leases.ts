import { assert } from "../util/assert.ts";
import type { BlockPool } from "./block-pool.ts";
import { FIELD, RECORD_WORDS } from "./block-records.ts";
import { EvictionQueue } from "./tiers/eviction.ts";

/** Leases at a time; a further one is not given. */
const MAX_LEASES = 4096;

/** A tenant, by its salt; null: the worker itself, which no salt can be taken for. */
export type LeaseOwner = string | null;

/** What has become of leases, in blocks but for the leases themselves. What is none of the others is under lease still. */
export interface LeaseStats {
  /** Leases given. */
  readonly leases: number;
  /** Blocks put under them; one that goes from lease to lease counts with each. */
  readonly blocks: number;
  /** Went on under a later lease: they were used again. */
  readonly renewed: number;
  /** Given back because those had come for whom they were kept, or were not waited for any more. */
  readonly ended: number;
  /** Their time was over. */
  readonly expired: number;
  /** Made way for others all the same. */
  readonly lost: number;
}

/** Whose leases: the worker's own for turns that are expected, and those that requests wished for. */
export type LeaseKind = "turns" | "wishes";

type MutableStats = { -readonly [key in keyof LeaseStats]: number };

function noStats(): MutableStats {
  return { leases: 0, blocks: 0, renewed: 0, ended: 0, expired: 0, lost: 0 };
}

/** Some cached blocks of one owner that are kept after all others for a time. */
interface Lease {
  readonly number: number;
  readonly owner: LeaseOwner;
  readonly blocks: readonly number[];
  /** How many of them it still holds: others have been used under a later lease, or are gone. */
  numHeld: number;
  /** When it ends. */
  rank: number;
  heapAt: number;
  readonly lastUse: number;
}

/**
 * Keeps cached blocks after all others until a time, among those that the pool keeps so, and within its bound of them. A block is
 * under one lease at most: the one that ends last.
 */
export class BlockLeases {
  readonly #pool: BlockPool;
  readonly #words: Int32Array;
  readonly #leases = new Map<number, Lease>();
  readonly #byEnd = new EvictionQueue<Lease>();
  readonly #heldBy = new Map<LeaseOwner, number>();
  readonly #stats: Record<LeaseKind, MutableStats> = { turns: noStats(), wishes: noStats() };
  #numLeases = 0;
  #nowMs = 0;

  constructor(pool: BlockPool) {
    this.#pool = pool;
    this.#words = pool.records.words;
  }

  /** Blocks of an owner that are under lease. */
  heldBy(owner: LeaseOwner): number {
    return this.#heldBy.get(owner) ?? 0;
  }

  get stats(): Readonly<Record<LeaseKind, LeaseStats>> {
    return { turns: { ...this.#stats.turns }, wishes: { ...this.#stats.wishes } };
  }

  #statsOf(owner: LeaseOwner): MutableStats {
    return owner === null ? this.#stats.turns : this.#stats.wishes;
  }

  /** The time that `expire` was told last. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /**
   * Keeps the given filed blocks, the first of them first, until `untilMs`, as far as the pool keeps more and the owner has fewer
   * than `maxHeld`. Those under a lease that ends later stay under that one. Returns the lease's number, or 0 when there is none.
   */
  take(blocks: readonly number[], options: { owner: LeaseOwner; untilMs: number; maxHeld: number }): number {
    if (this.#leases.size >= MAX_LEASES) return 0;
    const number = ++this.#numLeases;
    const { owner, untilMs } = options;
    const taken: number[] = [];
    // The end of a chain goes before its beginning, also among those that are kept.
    for (const block of this.#keepable(blocks, options).toReversed()) {
      if (!this.#pool.keep(block)) continue;
      const earlier = this.#leaseOf(block);
      if (earlier !== undefined && earlier.rank >= untilMs) continue;
      this.drop(block, "renewed");
      this.#setLease(block, number);
      this.#heldBy.set(owner, this.heldBy(owner) + 1);
      taken.push(block);
    }
    if (taken.length === 0) return 0;
    taken.reverse();
    const stats = this.#statsOf(owner);
    stats.leases++;
    stats.blocks += taken.length;
    const lease = {
      number,
      owner,
      blocks: taken,
      numHeld: taken.length,
      heapAt: -1,
      rank: 0,
      lastUse: number,
    };
    this.#leases.set(number, lease);
    this.#byEnd.add(lease, untilMs);
    return number;
  }

  /** The leading blocks that can be kept. */
  #keepable(blocks: readonly number[], { owner, maxHeld }: { owner: LeaseOwner; maxHeld: number }): number[] {
    let room = this.#pool.keepable.room;
    let held = this.heldBy(owner);
    const chosen: number[] = [];
    for (const block of blocks) {
      if (!this.#pool.isHashed(block)) break;
      if (this.#leaseOf(block)?.owner !== owner) held++;
      if (!this.#pool.isKept(block) && this.#pool.refs(block) === 0) room--;
      if (held > maxHeld || room < 0) break;
      chosen.push(block);
    }
    return chosen;
  }

  /** Ends a lease before its time: its blocks are like any others that were used just now. One that is over already is no error. */
  end(number: number): void {
    const lease = this.#leases.get(number);
    if (lease !== undefined) this.#close(lease, "recent");
  }

  /** Ends leases whose time is over: their blocks go before others, for their turn was when they were taken. */
  expire(nowMs: number): void {
    this.#nowMs = Math.max(this.#nowMs, nowMs);
    for (let lease = this.#byEnd.first(); lease !== null && lease.rank <= nowMs; lease = this.#byEnd.first())
      this.#close(lease, "old");
  }

  /** A block is under no lease any more: it is not filed, or another one takes it. */
  drop(block: number, as: "renewed" | "lost" = "lost"): void {
    const lease = this.#leaseOf(block);
    if (lease === undefined) return;
    this.#statsOf(lease.owner)[as]++;
    this.#setLease(block, 0);
    this.#release(lease, 1);
    if (lease.numHeld === 0) this.#remove(lease);
  }

  #close(lease: Lease, as: "recent" | "old"): void {
    // The first block of a chain is the one that is needed longest.
    const blocks = as === "recent" ? lease.blocks.toReversed() : lease.blocks;
    for (const block of blocks) {
      if (this.#leaseOf(block) !== lease) continue;
      this.#setLease(block, 0);
      this.#pool.unkeep(block, as);
    }
    this.#statsOf(lease.owner)[as === "recent" ? "ended" : "expired"] += lease.numHeld;
    this.#release(lease, lease.numHeld);
    this.#remove(lease);
  }

  #release(lease: Lease, count: number): void {
    lease.numHeld -= count;
    const held = this.heldBy(lease.owner) - count;
    if (held === 0) this.#heldBy.delete(lease.owner);
    else this.#heldBy.set(lease.owner, held);
  }

  #remove(lease: Lease): void {
    this.#leases.delete(lease.number);
    this.#byEnd.remove(lease);
  }

  #leaseOf(block: number): Lease | undefined {
    const number = this.#words[block * RECORD_WORDS + FIELD.lease]!;
    return number === 0 ? undefined : this.#leases.get(number);
  }

  #setLease(block: number, number: number): void {
    this.#words[block * RECORD_WORDS + FIELD.lease] = number;
  }

  /** Throws unless counts and queue agree with the blocks' records. Linear in the blocks under lease. */
  checkInvariants(): void {
    const held = new Map<LeaseOwner, number>();
    for (const [number, lease] of this.#leases) {
      assert(lease.number === number && lease.heapAt !== -1, "a lease would never end");
      const count = lease.blocks.filter((block) => this.#leaseOf(block) === lease).length;
      assert(count === lease.numHeld && count > 0, "a lease's blocks are miscounted");
      held.set(lease.owner, (held.get(lease.owner) ?? 0) + count);
      for (const block of lease.blocks)
        assert(this.#leaseOf(block) !== lease || this.#pool.isHashed(block), "a lease is on nothing");
    }
    assert(held.size === this.#heldBy.size, "owners of leases are miscounted");
    for (const [owner, count] of held)
      assert(this.heldBy(owner) === count, "an owner's blocks are miscounted");
    assert(this.#byEnd.size === this.#leases.size, "leases and their ends disagree");
    for (const kind of ["turns", "wishes"] as const) {
      let open = 0;
      for (const [owner, count] of held) if ((owner === null) === (kind === "turns")) open += count;
      const { blocks, renewed, ended, expired, lost } = this.#stats[kind];
      assert(
        blocks === renewed + ended + expired + lost + open,
        `blocks under lease for ${kind} are miscounted`,
      );
    }
    this.#byEnd.checkInvariants();
  }
}
