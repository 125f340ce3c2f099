import type { PlacementPolicy, WorkerView } from "../placement.ts";
import { leastOf, stagedPlacement } from "./select.ts";

/** Tokens per second that a worker is taken to work off. */
const THROUGHPUT = 2000;
/** Seconds that KV pressure is worth at half of the memory. */
const KV_PRESSURE_SECONDS = 0.15;
/** KV usage beyond it counts as this much: the pressure has a pole at 1. */
const MOST_USAGE = 0.999;

/**
 * Where waiting work and KV pressure are least: `least_load` of the SGLang router and gateway (`policies/least_load.rs`), with its
 * defaults, `(queued + in-flight tokens) / throughput + 0.15 × k / (1 − k)` for the KV usage k. It learns tokens from polls and
 * counts what it has sent since; here the prompt tokens that are not computed yet are known at any time.
 */
export function createLeastLoadedPlacement(): PlacementPolicy {
  return stagedPlacement("least-loaded", (_stage, _query, workers) => leastOf(workers, drainSeconds)!);
}

function drainSeconds(worker: WorkerView): number {
  const usage = Math.min(MOST_USAGE, kvUsage(worker));
  return worker.outstandingPrefillTokens / THROUGHPUT + (KV_PRESSURE_SECONDS * usage) / (1 - usage);
}

/** Share of a worker's KV that placed requests take, in [0, 1]. */
export function kvUsage({ kvTokensTotal, freeKvTokens }: WorkerView): number {
  if (kvTokensTotal === 0) return 1;
  return Math.min(1, Math.max(0, 1 - freeKvTokens / kvTokensTotal));
}
