import type { PoolCaches } from "../../../protocol/simulation-cache-schema.ts";
import type { FleetResult } from "../../../protocol/simulation-schema.ts";
import { formatNumber } from "../format.ts";
import { type Cell, htmlTable } from "./escape.ts";

const number = (count: number): Cell => ({ number: count.toLocaleString("en-US") });
const gigabytes = (bytes: number): Cell => ({ number: formatNumber(bytes / 1e9) });

/** What the lower tiers, prefetch and leases of a fleet did in its first run; nothing where there was none of it. */
export function cacheTables(fleet: FleetResult): string {
  const [run] = fleet.runs;
  if (run === undefined) return "";
  const of = (what: string): string => `${fleet.name}: ${what}, seed ${run.seed}`;
  return [
    table(of("KV below the device"), TIER_HEAD, run.caches.flatMap(tierRows)),
    table(of("KV brought up ahead of turns"), PREFETCH_HEAD, run.caches.flatMap(prefetchRows)),
    table(of("cached blocks kept after others"), LEASE_HEAD, run.caches.flatMap(leaseRows)),
  ].join("\n");
}

function table(caption: string, head: readonly string[], rows: readonly Cell[][]): string {
  return rows.length === 0 ? "" : htmlTable(caption, head, rows);
}

const TIER_HEAD = [
  ...["pool", "tier", "blocks brought up", "not found", "evicted", "not taken in", "bad segments"],
  ...["blocks at the end", "GB"],
];

function tierRows({ pool, tiers }: PoolCaches): Cell[][] {
  return tiers.map(({ tier, blocks, bytes, hits, misses, evictions, bad, dropped }) => [
    ...[pool, tier],
    ...[hits, misses, evictions, dropped, bad, blocks].map(number),
    gigabytes(bytes),
  ]);
}

const PREFETCH_HEAD = [
  ...["pool", "to", "turns waited for", "came", "waited for at the end", "prefetches", "broken off"],
  ...["GB brought up", "used", "not used", "of it gone before"],
];

/** What is said of the turns stands once, beside the first place that KV is brought to. */
function prefetchRows({ pool, prefetch }: PoolCaches): Cell[][] {
  if (prefetch === null) return [];
  const { turns, came, pending, begun, stopped, bytes } = prefetch;
  return (["host", "device"] as const).map((to, index) => {
    const { started, used, wasted, gone } = bytes[to];
    const counts = [turns, came, pending, begun, stopped].map((count) => (index === 0 ? number(count) : ""));
    return [
      pool,
      to === "host" ? "host memory" : to,
      ...counts,
      ...[started, used, wasted, gone].map(gigabytes),
    ];
  });
}

const LEASE_HEAD = [
  ...["pool", "kept", "leases", "blocks", "used again", "given back", "in vain", "lost to others"],
  "kept at the end",
];

function leaseRows({ pool, leases }: PoolCaches): Cell[][] {
  const kinds = [
    ["for turns", leases.turns],
    ["as wished", leases.wishes],
  ] as const;
  return kinds.flatMap(([kept, stats]) => {
    const { leases: numLeases, blocks, renewed, ended, expired, lost } = stats;
    const left = blocks - renewed - ended - expired - lost;
    const counts = [numLeases, blocks, renewed, ended, expired, lost, left].map(number);
    return numLeases === 0 ? [] : [[pool, kept, ...counts]];
  });
}
