import type { KvEventBatch } from "../kv/kv-events.ts";
import type { PerfModel } from "../perf/perf-model.ts";
import type { RequestId, WorkerId, WorkerRole } from "../request.ts";

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
  readonly requestId: RequestId;
  readonly nowMs: number;
  readonly numPromptTokens: number;
  readonly maxOutputTokens: number;
  /** Chained hashes of the prompt's full blocks, `HASH_WORDS` words each, where they are known before placement; null elsewhere. */
  readonly promptBlockHashes: Int32Array | null;
  /** Smaller is more urgent. */
  readonly priority: number;
  /** When the first token should be there, on the clock of `nowMs`; null when nobody has said. */
  readonly firstTokenDeadlineMs: number | null;
  /** How many requests are expected to begin with this prompt, this one included. Absent: nobody has said. */
  readonly expectedFanOut?: number;
}

/** Where a request goes and why: data, so that it can be logged, compared and shown. */
export interface PlacementDecision {
  /** The same as `decodeWorker` when no handoff takes place. */
  readonly prefillWorker: WorkerId;
  readonly decodeWorker: WorkerId;
  readonly reason: PlacementReason;
  /** KV of the prompt's beginning that the prefill worker fetches before it computes the rest. */
  readonly fetch?: PrefixFetch;
  /** What was weighed, the winner first. Absent when the policy weighs nothing in figures. */
  readonly candidates?: readonly PlacementCandidate[];
}

export type PlacementReason =
  | "no_prefill_workers"
  | "short_prompt"
  | "split"
  | "aggregated"
  | "overload"
  /** The cheapest of the priced options. */
  | "cheapest";

/** The leading `numTokens` of a prompt, whole blocks, from the caches of another worker. */
export interface PrefixFetch {
  readonly from: WorkerId;
  readonly numTokens: number;
}

/** One option and what it would cost. */
export interface PlacementCandidate {
  readonly prefillWorker: WorkerId;
  readonly decodeWorker: WorkerId;
  readonly fetch: PrefixFetch | null;
  /** Terms by name, in seconds unless the policy's own unit is another one; they sum up to `cost`. */
  readonly terms: Readonly<Record<string, number>>;
  readonly cost: number;
}

/** What placement is told of a worker when it becomes ready. */
export interface WorkerFacts {
  readonly id: WorkerId;
  readonly role: WorkerRole;
  readonly kvTokensTotal: number;
  /** Prices its steps; null where nothing is known but what is observed. */
  readonly perf: PerfModel | null;
  /** Token budget of one step. */
  readonly tokenBudget: number;
  readonly maxRunning: number;
  readonly kvBytesPerToken: number;
}

/** One step that a worker has run. */
export interface ObservedStep {
  readonly numPrefillTokens: number;
  /** Sum over prefill chunks of tokens × (context before the chunk + half of the chunk): what attention reads. */
  readonly prefillAttention: number;
  readonly numDecodes: number;
  readonly decodeContextTokens: number;
  readonly ms: number;
}

/** What a policy with books of its own is told, in order. Everything that it decides on follows from these and its queries. */
export type FleetEvent =
  | { readonly kind: "ready"; readonly worker: WorkerFacts }
  | { readonly kind: "gone"; readonly worker: WorkerId }
  /** A worker's caches have changed. */
  | { readonly kind: "kv"; readonly worker: WorkerId; readonly batch: KvEventBatch }
  | { readonly kind: "steps"; readonly worker: WorkerId; readonly steps: readonly ObservedStep[] }
  /** KV has gone from one worker to another, waiting for the link included. */
  | {
      readonly kind: "transfer";
      readonly from: WorkerId;
      readonly to: WorkerId;
      readonly bytes: number;
      readonly ms: number;
    }
  /** What became of a placed request. `prefilled`: its first token has come. `over`: nothing of it is left to do. */
  | {
      readonly kind: "prefilled" | "over";
      readonly requestId: RequestId;
      /** Prompt tokens that came from a cache; null when the worker has not said. */
      readonly numCachedTokens: number | null;
    };

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
  /** Whether decisions may name a prefix to fetch. Default false. */
  readonly fetches?: boolean;
  place(
    query: PlacementQuery,
    workers: readonly WorkerView[],
    extremes: FleetExtremes,
  ): PlacementDecision | null;
  /** Absent: the policy decides by the views alone. */
  observe?(event: FleetEvent, nowMs: number): void;
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
      const { id } = decodeWorker;
      if (prefillWorker === null)
        return { prefillWorker: id, decodeWorker: id, reason: "no_prefill_workers" };
      if (query.numPromptTokens < options.localPrefillBelowTokens)
        return { prefillWorker: id, decodeWorker: id, reason: "short_prompt" };
      return { prefillWorker: prefillWorker.id, decodeWorker: id, reason: "split" };
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
