import type { LeaseStats } from "../../core/kv/block-leases.ts";
import type { PrefetchedBytes, PrefetchStats } from "../../core/kv/tiers/prefetch-counts.ts";
import type { TierStats } from "../../core/kv/tiers/segment.ts";
import type { PoolCaches } from "../../protocol/simulation-cache-schema.ts";
import type { WorkerCaches } from "../observer.ts";

type Leases = PoolCaches["leases"];
type Prefetch = NonNullable<PoolCaches["prefetch"]>;

interface Totals {
  readonly tiers: Map<string, PoolCaches["tiers"][number]>;
  prefetch: Prefetch | null;
  readonly leases: Leases;
}

/** Adds up what the caches of a pool's workers did. */
export class PoolCacheTable {
  readonly #pools = new Map<string, Totals>();

  /** `isLost`: the process is gone, with all that it held and waited for. */
  add(pool: string, { tiers, prefetch, leases }: WorkerCaches, isLost: boolean): void {
    const totals = this.#pools.get(pool) ?? { tiers: new Map(), prefetch: null, leases: noLeases() };
    this.#pools.set(pool, totals);
    for (const [tier, stats] of tiers) {
      const before = totals.tiers.get(tier);
      const now = isLost ? { ...stats, blocks: 0, bytes: 0 } : stats;
      totals.tiers.set(tier, { tier, ...(before === undefined ? now : sum<TierStats>(before, now)) });
    }
    if (prefetch !== null) totals.prefetch = sumPrefetch(totals.prefetch, prefetch, isLost);
    totals.leases.turns = sum<LeaseStats>(totals.leases.turns, leases.turns);
    totals.leases.wishes = sum<LeaseStats>(totals.leases.wishes, leases.wishes);
  }

  /** Pools that have tiers, bring KV up ahead, or gave leases. */
  get results(): PoolCaches[] {
    return [...this.#pools].flatMap(([pool, { tiers, prefetch, leases }]) => {
      const hasLeases = leases.turns.leases + leases.wishes.leases > 0;
      if (tiers.size === 0 && prefetch === null && !hasLeases) return [];
      return [{ pool, tiers: [...tiers.values()], prefetch, leases }];
    });
  }
}

function sumPrefetch(before: Prefetch | null, stats: PrefetchStats, isLost: boolean): Prefetch {
  const { expected: turns, bytes, pending, ...others } = stats;
  const counts = { turns, ...others, pending: isLost ? 0 : pending };
  if (before === null) return { ...counts, bytes: { host: { ...bytes.host }, device: { ...bytes.device } } };
  const { bytes: bytesBefore, ...countsBefore } = before;
  return {
    ...sum<Omit<Prefetch, "bytes">>(countsBefore, counts),
    bytes: {
      host: sum<PrefetchedBytes>(bytesBefore.host, bytes.host),
      device: sum<PrefetchedBytes>(bytesBefore.device, bytes.device),
    },
  };
}

function noLeases(): Leases {
  const none = { leases: 0, blocks: 0, renewed: 0, ended: 0, expired: 0, lost: 0 };
  return { turns: { ...none }, wishes: { ...none } };
}

type Counts<T> = { readonly [key in keyof T]: number };

/** Field by field, over the fields of the second. */
function sum<T extends Counts<T>>(a: T, b: T): Counts<T> {
  const keys = Object.keys(b) as Array<keyof T>;
  return Object.fromEntries(keys.map((key) => [key, a[key] + b[key]])) as Counts<T>;
}
