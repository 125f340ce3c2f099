import type { PlacementPolicy, WorkerView } from "../placement.ts";
import { blockKeys, blockTokensOf, KnownCaches } from "./known-caches.ts";
import { PrefillBooks } from "./prefill-books.ts";
import { leastOf, stagedPlacement } from "./select.ts";

export interface MooncakeOptions {
  /** The most blocks that are remembered of a worker that does not say what it has cached. */
  readonly maxBlocksPerWorker: number;
}

/**
 * Mooncake's choice of a prefill instance (Qin et al., FAST 2025, algorithm 1) without its moving of cached KV: where the tokens
 * that wait and those that the worker's cache lacks are fewest, because time to first token is the time of both. Decode where the
 * most KV is free.
 */
export function createMooncakePlacement(options: MooncakeOptions): PlacementPolicy {
  const caches = new KnownCaches(options);
  const books = new PrefillBooks();
  return stagedPlacement(
    "mooncake",
    (stage, query, workers) => {
      if (stage === "decode") return leastOf(workers, ({ freeKvTokens }) => -freeKvTokens)!;
      const keys = blockKeys(query.promptBlockHashes);
      const blockTokens = blockTokensOf(query);
      const missing = ({ id }: WorkerView): number => {
        const { device, host, disk } = caches.leading(id, keys);
        return query.numPromptTokens - (device + host + disk) * blockTokens;
      };
      const worker = leastOf(workers, (one) => books.outstanding(one.id) + missing(one))!;
      books.add(query.requestId, worker.id, missing(worker));
      caches.sent(worker.id, keys);
      return worker;
    },
    (event) => {
      caches.observe(event);
      books.observe(event);
    },
  );
}
