import type { WorkerId, WorkerRole } from "../request.ts";

/** How one ready worker looks to placement. */
export interface WorkerView {
  readonly id: WorkerId;
  readonly role: WorkerRole;
  /** Prompt tokens placed here whose first token has not come yet. */
  readonly outstandingPrefillTokens: number;
  /** KV capacity less the tokens of the requests placed here. May be negative: workers queue. */
  readonly freeKvTokens: number;
}

/** What placement knows of a request. The length of its output is not among it. */
export interface PlacementQuery {
  readonly numPromptTokens: number;
}

/** Where a request goes and why: data, so that it can be logged, compared and shown. */
export interface PlacementDecision {
  /** The same as `decodeWorker` when no handoff takes place. */
  readonly prefillWorker: WorkerId;
  readonly decodeWorker: WorkerId;
  readonly reason: "no_prefill_workers" | "short_prompt" | "split";
}

/** Chooses workers for requests. Sees only ready workers; returns null when no pair of them can serve. */
export interface PlacementPolicy {
  readonly name: string;
  place(query: PlacementQuery, workers: readonly WorkerView[]): PlacementDecision | null;
}

/**
 * Prefill where the fewest prompt tokens are outstanding, decode where the most KV is free. A prompt below
 * `localPrefillBelowTokens` is not worth a handoff and prefills on its decode worker. Ties go to the worker listed first.
 */
export function createLoadPlacement(options: { localPrefillBelowTokens: number }): PlacementPolicy {
  return {
    name: "load",
    place(query, workers) {
      const decodes = workers.filter((worker) => worker.role !== "prefill");
      const decodeWorker = best(decodes, (worker) => worker.freeKvTokens - worker.outstandingPrefillTokens);
      if (decodeWorker === null) return null;
      const local = { prefillWorker: decodeWorker.id, decodeWorker: decodeWorker.id };
      const prefills = workers.filter((worker) => worker.role === "prefill");
      const prefillWorker = best(prefills, (worker) => -worker.outstandingPrefillTokens);
      if (prefillWorker === null) return { ...local, reason: "no_prefill_workers" };
      if (query.numPromptTokens < options.localPrefillBelowTokens)
        return { ...local, reason: "short_prompt" };
      return { prefillWorker: prefillWorker.id, decodeWorker: decodeWorker.id, reason: "split" };
    },
  };
}

/** The worker with the highest score, the first of equals; null when there is none. */
function best(workers: readonly WorkerView[], score: (worker: WorkerView) => number): WorkerView | null {
  let winner: WorkerView | null = null;
  let winningScore = Number.NEGATIVE_INFINITY;
  for (const worker of workers) {
    const value = score(worker);
    if (value > winningScore) {
      winner = worker;
      winningScore = value;
    }
  }
  return winner;
}
