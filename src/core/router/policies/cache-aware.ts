import type { WorkerId } from "../../request.ts";
import { HASH_WORDS } from "../../tokens/block-hash.ts";
import type { PlacementPolicy, PlacementQuery, WorkerView } from "../placement.ts";
import { leastOf } from "./select.ts";

export interface CacheAwareOptions {
  /** The most blocks that are remembered per prefill worker; the longest unused is forgotten first. */
  readonly maxBlocksPerWorker: number;
}

/**
 * Mooncake's choice of a prefill instance (Qin et al., FAST 2025, algorithm 1) without its moving of cached KV: where the tokens
 * that wait and those that the worker's cache lacks are fewest, because time to first token is the time of both. Decode where the
 * most KV is free. What a worker has cached is taken to be what was sent there last.
 */
export function createCacheAwarePlacement(options: CacheAwareOptions): PlacementPolicy {
  const caches = new Map<WorkerId, RememberedBlocks>();
  const cacheOf = (id: WorkerId): RememberedBlocks => {
    let cache = caches.get(id);
    if (cache === undefined) {
      cache = new RememberedBlocks(options.maxBlocksPerWorker);
      caches.set(id, cache);
    }
    return cache;
  };
  // The last block of a prompt is partial and has no hash, so that shares of blocks stand for shares of tokens.
  const missingTokens = (
    { numPromptTokens, promptBlockHashes }: PlacementQuery,
    { id }: WorkerView,
  ): number => {
    const numBlocks = (promptBlockHashes?.length ?? 0) / HASH_WORDS;
    if (numBlocks === 0) return numPromptTokens;
    return numPromptTokens * (1 - cacheOf(id).numLeading(promptBlockHashes) / numBlocks);
  };
  return {
    name: "cache-aware",
    place(query, workers) {
      if (caches.size > workers.length) {
        const present = new Set(workers.map(({ id }) => id));
        for (const id of caches.keys()) if (!present.has(id)) caches.delete(id);
      }
      const cost = (worker: WorkerView) => worker.outstandingPrefillTokens + missingTokens(query, worker);
      const decode = leastOf(
        workers.filter(({ role }) => role !== "prefill"),
        ({ freeKvTokens }) => -freeKvTokens,
      );
      const prefill = leastOf(
        workers.filter(({ role }) => role === "prefill"),
        cost,
      );
      if (decode === null) return null;
      if (prefill === null) {
        const both = leastOf(
          workers.filter(({ role }) => role !== "prefill"),
          cost,
        )!;
        cacheOf(both.id).add(query.promptBlockHashes);
        return { prefillWorker: both.id, decodeWorker: both.id, reason: "no_prefill_workers" };
      }
      cacheOf(prefill.id).add(query.promptBlockHashes);
      return { prefillWorker: prefill.id, decodeWorker: decode.id, reason: "split" };
    },
  };
}

/** Blocks that a worker was sent, the latest last. Hashes are chained, so one block's name stands for all before it. */
class RememberedBlocks {
  readonly #names = new Set<string>();
  readonly #maxBlocks: number;

  constructor(maxBlocks: number) {
    this.#maxBlocks = maxBlocks;
  }

  /** How many leading blocks of a prompt are remembered. */
  numLeading(hashes: Int32Array | null): number {
    const numBlocks = hashes === null ? 0 : hashes.length / HASH_WORDS;
    let known = 0;
    while (known < numBlocks && this.#names.has(nameOf(hashes!, known))) known++;
    return known;
  }

  add(hashes: Int32Array | null): void {
    const numBlocks = hashes === null ? 0 : hashes.length / HASH_WORDS;
    for (let block = 0; block < numBlocks; block++) {
      const name = nameOf(hashes!, block);
      this.#names.delete(name);
      this.#names.add(name);
    }
    for (const name of this.#names) {
      if (this.#names.size <= this.#maxBlocks) break;
      this.#names.delete(name);
    }
  }
}

/** 64 bits of a block's hash: a mistaken block costs a little prefill, no more. */
function nameOf(hashes: Int32Array, block: number): string {
  return `${hashes[block * HASH_WORDS]}:${hashes[block * HASH_WORDS + 1]}`;
}
