import { HASH_WORDS } from "../../tokens/block-hash.ts";
import type { PlacementPolicy, PlacementQuery, WorkerView } from "../placement.ts";
import { blockTokensOf } from "./known-caches.ts";
import { leastOf, numRequests, stagedPlacement } from "./select.ts";

/** Prompts that begin with the same so many tokens go together. */
const PREFIX_TOKENS = 256;
/** A worker with more than so many times the average number of requests is passed over. */
const LOAD_FACTOR = 1.25;

/**
 * Consistent hashing of a prompt's beginning with bounded loads: `prefix_hash` of the SGLang gateway (`policies/prefix_hash.rs`, its
 * defaults). The worker that the hash of the first 256 tokens names, unless it is overloaded; then the least loaded. Which worker a
 * hash names is settled by rendezvous (Thaler and Ravishankar, 1998) in place of a ring: it moves as few prefixes when workers come
 * and go, and needs no virtual nodes. A prompt without a full block goes to the least loaded.
 */
export function createPrefixHashPlacement(): PlacementPolicy {
  return stagedPlacement("prefix-hash", (stage, query, workers) => {
    const prefix = stage === "decode" ? null : prefixOf(query);
    if (prefix === null) return leastOf(workers, numRequests)!;
    const named = leastOf(workers, (worker) => mix(prefix, worker.id))!;
    let total = 1;
    for (const worker of workers) total += numRequests(worker);
    const most = (LOAD_FACTOR * total) / workers.length;
    const isOverloaded = (worker: WorkerView) => numRequests(worker) > most;
    if (total === 1 || !isOverloaded(named)) return named;
    const least = leastOf(workers, numRequests)!;
    return isOverloaded(least) ? named : least;
  });
}

/** A word of the hash of the last full block within the first 256 tokens, which stands for everything up to there. */
function prefixOf(query: PlacementQuery): number | null {
  const { promptBlockHashes } = query;
  const numBlocks = (promptBlockHashes?.length ?? 0) / HASH_WORDS;
  if (numBlocks === 0) return null;
  const block = Math.max(1, Math.min(numBlocks, Math.floor(PREFIX_TOKENS / blockTokensOf(query)))) - 1;
  return promptBlockHashes![block * HASH_WORDS]!;
}

/** A score in [0, 2^32) of a prefix on a worker: FNV-1a over the worker's name from the prefix on, then mixed (MurmurHash3). */
function mix(prefix: number, id: string): number {
  let hash = prefix ^ 0x811c9dc5;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
