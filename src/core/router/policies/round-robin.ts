import type { PlacementPolicy } from "../placement.ts";
import { type Stage, stagedPlacement } from "./select.ts";

/** In turn, for each half by itself: the default of Dynamo's router and the usual baseline. */
export function createRoundRobinPlacement(): PlacementPolicy {
  const turns: Record<Stage, number> = { prefill: 0, decode: 0, whole: 0 };
  return stagedPlacement("round-robin", (stage, _query, workers) => {
    const worker = workers[turns[stage] % workers.length]!;
    turns[stage] = (turns[stage] + 1) % workers.length;
    return worker;
  });
}
