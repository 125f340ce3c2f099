import { Rng } from "../../util/rng.ts";
import type { PlacementPolicy, WorkerView } from "../placement.ts";
import { blockKeys, KnownCaches } from "./known-caches.ts";
import { kvUsage } from "./least-loaded.ts";
import { leastAtRandom } from "./select.ts";

/** Weights of the scorers in the guides. */
const WEIGHTS = { prefix: 2, queue: 2, kv: 1 };
/** Blocks of 16 tokens that are remembered of a worker that says nothing: 31,250 of at least 64 tokens in the original. */
const REMEMBERED_BLOCKS = 125_000;
/** A prompt is handed over when at least so many of its tokens are not in the decode worker's cache: the documented example. */
const NON_CACHED_TOKENS = 512;

/**
 * llm-d's endpoint picker: weighted scorers and the maximum, equals at random, `2 × matched share of the prompt + 2 × (max queue −
 * queue) / (max queue − min queue) + 1 × free share of KV`, for the decode worker first; then its prefix-based decider, prefill
 * elsewhere when at least 512 tokens are not in the decode worker's cache (llm-d-router, `pkg/epp/framework/plugins/scheduling`: scorer,
 * picker, profilehandler/disagg). Caches are known by events where workers send them (its precise mode), else by what was sent (its
 * approximate one).
 */
export function createLlmDPlacement({ seed }: { seed: number }): PlacementPolicy {
  const caches = new KnownCaches({ maxBlocksPerWorker: REMEMBERED_BLOCKS });
  const random = new Rng(seed).stream("llm-d ties");
  return {
    name: "llm-d",
    place(query, workers) {
      const decoders = workers.filter(({ role }) => role !== "prefill");
      if (decoders.length === 0) return null;
      const keys = blockKeys(query.promptBlockHashes);
      const shareOf = ({ id }: WorkerView): number => {
        if (keys.length === 0) return 0;
        const { device, host, disk } = caches.leading(id, keys);
        return (device + host + disk) / keys.length;
      };
      const choose = (pool: readonly WorkerView[]) =>
        leastAtRandom(pool, negativeScore(pool, shareOf), random);
      const decode = choose(decoders);
      const prefillers = workers.filter(({ role }) => role === "prefill");
      const isWarm = query.numPromptTokens * (1 - shareOf(decode)) < NON_CACHED_TOKENS;
      const prefill = prefillers.length === 0 || isWarm ? decode : choose(prefillers);
      caches.sent(prefill.id, keys);
      caches.sent(decode.id, keys);
      const reason =
        prefillers.length === 0 ? "no_prefill_workers" : prefill === decode ? "short_prompt" : "split";
      return { prefillWorker: prefill.id, decodeWorker: decode.id, reason };
    },
    observe: (event) => caches.observe(event),
  };
}

function negativeScore(
  pool: readonly WorkerView[],
  shareOf: (worker: WorkerView) => number,
): (worker: WorkerView) => number {
  let shortest = Number.POSITIVE_INFINITY;
  let longest = 0;
  for (const { numQueued } of pool) {
    shortest = Math.min(shortest, numQueued);
    longest = Math.max(longest, numQueued);
  }
  return (worker) => {
    const queue = longest === shortest ? 1 : (longest - worker.numQueued) / (longest - shortest);
    return -(WEIGHTS.prefix * shareOf(worker) + WEIGHTS.queue * queue + WEIGHTS.kv * (1 - kvUsage(worker)));
  };
}
