import type { RandomStream } from "../../util/rng.ts";
import type { PlacementDecision, PlacementPolicy, PlacementQuery, WorkerView } from "../placement.ts";

/** The worker with the smallest cost, the first of equals; null when there is none. */
export function leastOf(
  workers: Iterable<WorkerView>,
  cost: (worker: WorkerView) => number,
): WorkerView | null {
  let winner: WorkerView | null = null;
  let winningCost = Number.POSITIVE_INFINITY;
  for (const worker of workers) {
    const value = cost(worker);
    if (value < winningCost) {
      winner = worker;
      winningCost = value;
    }
  }
  return winner;
}

/** As `leastOf`, with every one of equals as likely as the others. `workers` is not empty, costs are no NaN. */
export function leastAtRandom(
  workers: readonly WorkerView[],
  cost: (worker: WorkerView) => number,
  random: RandomStream,
): WorkerView {
  let winner = workers[0]!;
  let winningCost = cost(winner);
  let numEqual = 1;
  for (let i = 1; i < workers.length; i++) {
    const worker = workers[i]!;
    const value = cost(worker);
    if (value > winningCost) continue;
    numEqual = value < winningCost ? 1 : numEqual + 1;
    if (numEqual > 1 && random.nextBelow(numEqual) > 0) continue;
    winner = worker;
    winningCost = value;
  }
  return winner;
}

/** Prompt tokens that have not been computed and one token for each decode: what join-the-shortest-queue compares. */
export function pendingTokens(worker: WorkerView): number {
  return worker.outstandingPrefillTokens + worker.numDecodes;
}

/** Requests that a worker has anything left to do for. One that it prefills and decodes counts once. */
export function numRequests({ role, numPrefills, numDecodes }: WorkerView): number {
  return role === "prefill" ? numPrefills : numDecodes;
}

/** Which half of a request's work a worker is chosen for; `whole`: both, where no worker only prefills. */
export type Stage = "prefill" | "decode" | "whole";

/** Chooses one of `workers`, of which there is at least one, for a stage. */
export type StageChoice = (stage: Stage, query: PlacementQuery, workers: readonly WorkerView[]) => WorkerView;

/**
 * A policy that chooses for each half by itself, as routers do that know pools of prefill and of decode workers: a worker that only
 * prefills, then one that decodes. Where no worker only prefills, one worker does both.
 */
export function stagedPlacement(
  name: string,
  choose: StageChoice,
  observe?: PlacementPolicy["observe"],
): PlacementPolicy {
  return {
    name,
    place: (query, workers) => placeByStages(query, workers, choose),
    ...(observe === undefined ? {} : { observe }),
  };
}

export function placeByStages(
  query: PlacementQuery,
  workers: readonly WorkerView[],
  choose: StageChoice,
): PlacementDecision | null {
  const decoders = workers.filter(({ role }) => role !== "prefill");
  if (decoders.length === 0) return null;
  const prefillers = workers.filter(({ role }) => role === "prefill");
  if (prefillers.length === 0) {
    const { id } = choose("whole", query, decoders);
    return { prefillWorker: id, decodeWorker: id, reason: "no_prefill_workers" };
  }
  const prefill = choose("prefill", query, prefillers);
  const decode = choose("decode", query, decoders);
  return { prefillWorker: prefill.id, decodeWorker: decode.id, reason: "split" };
}
