import type { WorkerId, WorkerRole } from "../request.ts";

/** How one ready worker looks to placement. */
export interface WorkerView {
  readonly id: WorkerId;
  readonly role: WorkerRole;
  /** Prompt tokens placed here whose first token has not come yet. */
  readonly outstandingPrefillTokens: number;
  /** KV capacity. */
  readonly kvTokensTotal: number;
  /** KV capacity less the tokens of the requests placed here. May be negative: workers queue. */
  readonly freeKvTokens: number;
  /** Requests placed here to be prefilled whose first token has not come yet. */
  readonly numPrefills: number;
  /** Requests placed here to be decoded that are not over, whether they have begun or not. */
  readonly numDecodes: number;
  /**
   * KV tokens of the requests placed here if every output becomes as long as it may. A prompt that is handed over counts on
   * both sides until the decode worker has it.
   */
  readonly boundKvTokens: number;
  /** Sequences on the worker that are in no step at the moment, by its latest report; 0 when it does not report. */
  readonly numQueued: number;
  /** How often the worker has run out of work. */
  readonly numIdleSpells: number;
}

/** What placement knows of a request. The length of its output is not among it, only a bound of it. */
export interface PlacementQuery {
  readonly numPromptTokens: number;
  readonly maxOutputTokens: number;
  /** Chained hashes of the prompt's full blocks, `HASH_WORDS` words each, where they are known before placement; null elsewhere. */
  readonly promptBlockHashes: Int32Array | null;
}

/** Where a request goes and why: data, so that it can be logged, compared and shown. */
export interface PlacementDecision {
  /** The same as `decodeWorker` when no handoff takes place. */
  readonly prefillWorker: WorkerId;
  readonly decodeWorker: WorkerId;
  readonly reason: "no_prefill_workers" | "short_prompt" | "split" | "aggregated" | "overload";
}

/** The ends of a fleet by load, kept while it changes: a policy that asks for no more need not look at every worker. */
export interface FleetExtremes {
  /** The worker that only prefills with the fewest outstanding prompt tokens, the first of equals. */
  readonly leastPrefill: WorkerView | null;
  /** The worker that decodes with the most KV free, less its outstanding prompt tokens, the first of equals. */
  readonly mostDecodeRoom: WorkerView | null;
}

/** Chooses workers for requests. Sees only ready workers; returns null when no pair of them can serve. */
export interface PlacementPolicy {
  readonly name: string;
  place(
    query: PlacementQuery,
    workers: readonly WorkerView[],
    extremes: FleetExtremes,
  ): PlacementDecision | null;
}

/**
 * Prefill where the fewest prompt tokens are outstanding, decode where the most KV is free. A prompt below
 * `localPrefillBelowTokens` is not worth a handoff and prefills on its decode worker. Ties go to the worker listed first.
 */
export function createLoadPlacement(options: { localPrefillBelowTokens: number }): PlacementPolicy {
  return {
    name: "load",
    place(query, _, { mostDecodeRoom: decodeWorker, leastPrefill: prefillWorker }) {
      if (decodeWorker === null) return null;
      const local = { prefillWorker: decodeWorker.id, decodeWorker: decodeWorker.id };
      if (prefillWorker === null) return { ...local, reason: "no_prefill_workers" };
      if (query.numPromptTokens < options.localPrefillBelowTokens)
        return { ...local, reason: "short_prompt" };
      return { prefillWorker: prefillWorker.id, decodeWorker: decodeWorker.id, reason: "split" };
    },
  };
}

/** How much room a worker has for another decode; minus infinity when that is not its role. */
export function decodeRoom({ role, freeKvTokens, outstandingPrefillTokens }: WorkerView): number {
  return role === "prefill" ? Number.NEGATIVE_INFINITY : freeKvTokens - outstandingPrefillTokens;
}

/** How little a worker that only prefills has to do; minus infinity for others. */
export function prefillRoom({ role, outstandingPrefillTokens }: WorkerView): number {
  return role === "prefill" ? -outstandingPrefillTokens : Number.NEGATIVE_INFINITY;
}
