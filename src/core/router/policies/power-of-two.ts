import { Rng } from "../../util/rng.ts";
import type { PlacementPolicy } from "../placement.ts";
import { numRequests, stagedPlacement } from "./select.ts";

/**
 * Two workers at random, of which the one with fewer requests (Mitzenmacher, "The power of two choices in randomized load
 * balancing", 2001), as the SGLang router does with the requests that it has in flight itself (`policies/power_of_two.rs`).
 */
export function createPowerOfTwoPlacement({ seed }: { seed: number }): PlacementPolicy {
  const random = new Rng(seed).stream("power of two");
  return stagedPlacement("power-of-two", (_stage, _query, workers) => {
    if (workers.length === 1) return workers[0]!;
    const first = random.nextBelow(workers.length);
    // Another one than the first, all others equally likely.
    const second = (first + 1 + random.nextBelow(workers.length - 1)) % workers.length;
    const [a, b] = [workers[first]!, workers[second]!];
    return numRequests(b) < numRequests(a) ? b : a;
  });
}
