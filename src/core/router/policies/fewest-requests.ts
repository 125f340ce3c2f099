import type { PlacementPolicy } from "../placement.ts";
import { leastOf } from "./select.ts";

/**
 * Prefill where the fewest prompts wait, decode where the fewest requests decode: first come, first served at both, as DistServe's
 * controller does (Zhong et al., OSDI 2024, section 4.3). Without prefill workers every request stays on one worker.
 */
export function createFewestRequestsPlacement(): PlacementPolicy {
  return {
    name: "fewest-requests",
    place(_query, workers) {
      const decode = leastOf(
        workers.filter(({ role }) => role !== "prefill"),
        ({ numDecodes }) => numDecodes,
      );
      if (decode === null) return null;
      const prefill = leastOf(
        workers.filter(({ role }) => role === "prefill"),
        ({ numPrefills }) => numPrefills,
      );
      if (prefill === null)
        return { prefillWorker: decode.id, decodeWorker: decode.id, reason: "no_prefill_workers" };
      return { prefillWorker: prefill.id, decodeWorker: decode.id, reason: "split" };
    },
  };
}
