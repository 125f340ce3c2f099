import type { PlacementPolicy } from "../placement.ts";
import { leastOf, pendingTokens } from "./select.ts";

/**
 * Join the shortest queue, in tokens: every request prefills and decodes on the worker with the fewest pending tokens. The
 * aggregated baseline of Splitwise (Patel et al., ISCA 2024).
 */
export function createTokenJsqPlacement(): PlacementPolicy {
  return {
    name: "token-jsq",
    place(_query, workers) {
      const worker = leastOf(
        workers.filter(({ role }) => role !== "prefill"),
        pendingTokens,
      );
      return worker === null
        ? null
        : { prefillWorker: worker.id, decodeWorker: worker.id, reason: "aggregated" };
    },
  };
}
