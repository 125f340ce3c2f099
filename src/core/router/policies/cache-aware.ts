import type { WorkerId } from "../../request.ts";
import { Rng } from "../../util/rng.ts";
import type { PlacementPolicy, WorkerView } from "../placement.ts";
import { blockKeys, RememberedBlocks } from "./known-caches.ts";
import { leastOf, numRequests, stagedPlacement } from "./select.ts";

/** A worker whose cache has more than this share of a prompt gets it. */
const CACHE_THRESHOLD = 0.3;
/** Load is out of balance when the largest number of requests exceeds the smallest by more than this … */
const BALANCE_ABSOLUTE = 64;
/** … and is more than so many times as large. */
const BALANCE_RELATIVE = 1.5;

export interface CacheAwareOptions {
  readonly seed: number;
  /** The most blocks that are remembered per worker: the tree of the original has 2^26 characters or tokens. */
  readonly maxBlocksPerWorker: number;
}

/**
 * Cache-aware balancing of the SGLang router (`sgl-model-gateway`, `policies/cache_aware.rs`, defaults of its command line): while
 * load is in balance, the worker that was sent the longest part of this prompt if that is more than 0.3 of it, else the one with the
 * fewest requests; out of balance, the one with the fewest requests. It goes by a tree of what it has sent, with a tenant per
 * worker; here by blocks. For decode, two at random of which the one with fewer requests, as its guide to split serving sets it.
 */
export function createCacheAwarePlacement(options: CacheAwareOptions): PlacementPolicy {
  const sent = new Map<WorkerId, RememberedBlocks>();
  const random = new Rng(options.seed).stream("cache-aware decode");
  return stagedPlacement(
    "cache-aware",
    (stage, query, workers) => {
      if (stage === "decode") {
        const [a, b] = [
          workers[random.nextBelow(workers.length)]!,
          workers[random.nextBelow(workers.length)]!,
        ];
        return numRequests(b) < numRequests(a) ? b : a;
      }
      const keys = blockKeys(query.promptBlockHashes);
      const matched = ({ id }: WorkerView) => sent.get(id)?.numLeading(keys) ?? 0;
      const longest = isImbalanced(workers) ? null : leastOf(workers, (worker) => -matched(worker))!;
      const isWarm = longest !== null && matched(longest) > CACHE_THRESHOLD * keys.length;
      const worker = isWarm ? longest : leastOf(workers, numRequests)!;
      let blocks = sent.get(worker.id);
      if (blocks === undefined) {
        blocks = new RememberedBlocks(options.maxBlocksPerWorker);
        sent.set(worker.id, blocks);
      }
      blocks.add(keys);
      return worker;
    },
    (event) => {
      if (event.kind === "gone") sent.delete(event.worker);
    },
  );
}

function isImbalanced(workers: readonly WorkerView[]): boolean {
  let least = Number.POSITIVE_INFINITY;
  let most = 0;
  for (const worker of workers) {
    const load = numRequests(worker);
    least = Math.min(least, load);
    most = Math.max(most, load);
  }
  return most - least > BALANCE_ABSOLUTE && most > BALANCE_RELATIVE * least;
}
