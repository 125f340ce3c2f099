import { Rng } from "../../util/rng.ts";
import type { PlacementPolicy } from "../placement.ts";
import { stagedPlacement } from "./select.ts";

/** Any worker, all equally likely, for each half by itself. */
export function createRandomPlacement({ seed }: { seed: number }): PlacementPolicy {
  const random = new Rng(seed).stream("random placement");
  return stagedPlacement("random", (_stage, _query, workers) => workers[random.nextBelow(workers.length)]!);
}
