import type { WorkerView } from "../placement.ts";

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

/** Prompt tokens that have not been computed and one token for each decode: what join-the-shortest-queue compares. */
export function pendingTokens(worker: WorkerView): number {
  return worker.outstandingPrefillTokens + worker.numDecodes;
}
