import { type RandomStream, Rng } from "../../util/rng.ts";
import type { PlacementPolicy, PlacementQuery, WorkerView } from "../placement.ts";
import { blockKeys, blockTokensOf, type CachedBlocks, KnownCaches } from "./known-caches.ts";
import { PrefillBooks } from "./prefill-books.ts";
import { leastAtRandom, stagedPlacement } from "./select.ts";

/** What a block on each tier is worth of one that need not be computed. */
const HIT_WEIGHTS: Readonly<CachedBlocks> = { device: 1, host: 0.75, disk: 0.25 };
/** Blocks that are remembered of a worker that sends no events: its approximate mode keeps 2^20 for all. */
const REMEMBERED_BLOCKS = 2 ** 20;
/** Without hashes the size of a block is not known. */
const USUAL_BLOCK_TOKENS = 16;

export interface DynamoOptions {
  readonly seed: number;
  /** 0: the lowest cost. Else costs are scaled to [0, 1] and drawn by `exp(−cost / temperature)`. */
  readonly temperature: number;
}

/**
 * The KV router of NVIDIA Dynamo (`lib/kv-router/src/scheduling/selector/default.rs` and `config.rs`, its defaults). In blocks:
 *
 * ```
 *   cost = max(active prefill + prompt − (device + 0.75 host + 0.25 disk overlap), 0) + decode blocks
 * ```
 *
 * Active prefill is what placed prompts still lack, decode blocks those of the placed requests with the new one's. For the decode
 * half of a split fleet overlap and prefill do not count, so that only the decode blocks remain. Equals at random. Its further terms
 * are off by default: decay of the credit, weight of requests, shared caches, taints.
 */
export function createDynamoPlacement({ seed, temperature }: DynamoOptions): PlacementPolicy {
  const random = new Rng(seed).stream("dynamo");
  const caches = new KnownCaches({ maxBlocksPerWorker: REMEMBERED_BLOCKS });
  const books = new PrefillBooks();
  return stagedPlacement(
    "dynamo",
    (stage, query, workers) => {
      const blockTokens = blockTokensOf(query) || USUAL_BLOCK_TOKENS;
      if (stage === "decode")
        return choose(workers, (worker) => decodeBlocks(worker, query, blockTokens), temperature, random);
      const keys = blockKeys(query.promptBlockHashes);
      const cost = (worker: WorkerView): number => {
        const { device, host, disk } = caches.leading(worker.id, keys);
        const credit = HIT_WEIGHTS.device * device + HIT_WEIGHTS.host * host + HIT_WEIGHTS.disk * disk;
        const raw = (books.outstanding(worker.id) + query.numPromptTokens) / blockTokens;
        const decode = stage === "whole" ? decodeBlocks(worker, query, blockTokens) : prefillBlocks(worker);
        return Math.max(0, raw - credit) + decode;
      };
      // The requests that a prefill worker has are the blocks of their prompts there.
      const prefillBlocks = (worker: WorkerView): number =>
        (worker.outstandingPrefillTokens + query.numPromptTokens) / blockTokens;
      const worker = choose(workers, cost, temperature, random);
      const cached = caches.leading(worker.id, keys).device * blockTokens;
      books.add(query.requestId, worker.id, query.numPromptTokens - cached);
      caches.sent(worker.id, keys);
      return worker;
    },
    (event) => {
      caches.observe(event);
      books.observe(event);
    },
  );
}

/** Blocks of all requests on a worker with this one. Blocks that requests share count for each. */
function decodeBlocks(worker: WorkerView, query: PlacementQuery, blockTokens: number): number {
  return (worker.kvTokensTotal - worker.freeKvTokens + query.numPromptTokens) / blockTokens;
}

function choose(
  workers: readonly WorkerView[],
  cost: (worker: WorkerView) => number,
  temperature: number,
  random: RandomStream,
): WorkerView {
  if (temperature === 0) return leastAtRandom(workers, cost, random);
  const costs = workers.map(cost);
  const least = Math.min(...costs);
  const range = Math.max(...costs) - least;
  const weights = costs.map((value) => (range === 0 ? 1 : Math.exp(-(value - least) / range / temperature)));
  let left = random.nextFloat() * weights.reduce((sum, weight) => sum + weight, 0);
  const at = weights.findIndex((weight) => {
    left -= weight;
    return left <= 0;
  });
  return workers[at === -1 ? workers.length - 1 : at]!;
}
