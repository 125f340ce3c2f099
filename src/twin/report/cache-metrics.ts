import type { LeaseKind } from "../../core/kv/block-leases.ts";
import type { PrefetchTarget } from "../../core/kv/tiers/prefetch-counts.ts";
import type { LowerTier } from "../../core/kv/tiers/segment.ts";
import type { PoolCaches } from "../../protocol/simulation-cache-schema.ts";
import type { RunResult } from "../../protocol/simulation-schema.ts";
import type { Metric } from "./metrics.ts";

/** A sum over a run's pools; null when nothing of the kind happened, so that tables leave it out. */
function total(of: (caches: PoolCaches) => number): (run: RunResult) => number | null {
  return ({ caches }) => caches.reduce((sum, pool) => sum + of(pool), 0) || null;
}

function share(
  part: (caches: PoolCaches) => number,
  whole: (caches: PoolCaches) => number,
): (run: RunResult) => number | null {
  return (run) => {
    const all = total(whole)(run);
    return all === null ? null : (total(part)(run) ?? 0) / all;
  };
}

function tierMetric(tier: LowerTier): Metric {
  const hits = ({ tiers }: PoolCaches): number => tiers.find((each) => each.tier === tier)?.hits ?? 0;
  return {
    name: `tierHits.${tier}`,
    label: `KV up from ${tier}`,
    unit: "blocks",
    better: null,
    of: total(hits),
  };
}

function prefetchMetrics(target: PrefetchTarget): Metric[] {
  const bytes = (field: "started" | "used") => (caches: PoolCaches) =>
    caches.prefetch?.bytes[target][field] ?? 0;
  return [
    {
      name: `prefetchGB.${target}`,
      label: `prefetched to ${target}`,
      unit: "GB",
      better: null,
      of: total((caches) => bytes("started")(caches) / 1e9),
    },
    {
      name: `prefetchUsedShare.${target}`,
      label: `prefetched to ${target}, used`,
      unit: "share",
      better: "more",
      of: share(bytes("used"), bytes("started")),
    },
  ];
}

function leaseMetrics(kind: LeaseKind, label: string): Metric[] {
  return [
    {
      name: `leasedBlocks.${kind}`,
      label: `kept ${label}`,
      unit: "blocks",
      better: null,
      of: total(({ leases }) => leases[kind].blocks),
    },
    {
      name: `leaseExpiredShare.${kind}`,
      label: `kept ${label}, in vain`,
      unit: "share",
      better: "less",
      of: share(
        ({ leases }) => leases[kind].expired,
        ({ leases }) => leases[kind].blocks,
      ),
    },
  ];
}

/** What lower tiers, prefetch for coming turns, and leases did; absent where there was nothing of it. */
export const CACHE_METRICS: readonly Metric[] = [
  tierMetric("host"),
  tierMetric("disk"),
  {
    name: "prefetchTurns",
    label: "turns waited for",
    unit: "turns",
    better: null,
    of: total(({ prefetch }) => prefetch?.turns ?? 0),
  },
  {
    name: "prefetchCameShare",
    label: "turns that came",
    unit: "share",
    better: "more",
    of: share(
      ({ prefetch }) => prefetch?.came ?? 0,
      ({ prefetch }) => prefetch?.turns ?? 0,
    ),
  },
  ...prefetchMetrics("host"),
  ...prefetchMetrics("device"),
  ...leaseMetrics("turns", "for turns"),
  ...leaseMetrics("wishes", "as wished"),
];
