import type { LeaseKind, LeaseStats } from "../core/kv/block-leases.ts";
import type { PrefetchStats } from "../core/kv/tiers/prefetch-counts.ts";
import type { LowerTier, TierStats } from "../core/kv/tiers/segment.ts";
import type { TimeSource } from "../core/perf/perf-model.ts";
import type { StepLoad } from "../core/perf/step-load.ts";
import type { WorkerId } from "../core/request.ts";
import type { PlacementDecision } from "../core/router/placement.ts";
import type { WorkloadRequest } from "./workload/workload.ts";

/** How a request ended and what its client saw. Times as the client sees them, from the request's arrival. */
export interface RequestOutcome {
  /** `stop` and `length` are good ends; anything else is the dispatcher's failure. */
  readonly end: string;
  readonly isCompleted: boolean;
  readonly ttftMs: number;
  readonly e2eMs: number;
  /** Output tokens that reached the client. */
  readonly numOutputTokens: number;
  /** Longest gap between two tokens; 0 with fewer than two. */
  readonly maxGapMs: number;
  /** Mean of the longest tenth of the gaps, at least one of them (Mooncake's TBT); null unless asked for, or without a gap. */
  readonly worstGapsMs: number | null;
  /** Gaps between its tokens in their order; null unless asked for. */
  readonly gapsMs: readonly number[] | null;
  /** From arrival to the start of the first step that computes the request (scheduling delay); null when none has. */
  readonly queuedMs: number | null;
  /** Prompt tokens found in a prefix cache at the first admission. */
  readonly numCachedTokens: number;
  readonly prefillWorker: WorkerId | null;
  readonly decodeWorker: WorkerId | null;
}

/** Steps of one worker that follow each other without a pause and compute the same sequences; a step alone is a row of one. */
export interface StepRow {
  /** What the first of the steps computes. In each further one every decode attends to one token more. */
  readonly load: StepLoad;
  /** Step `i` of [from, to) lasts from `boundsMs[i]` to `boundsMs[i + 1]`. */
  readonly boundsMs: Float64Array;
  readonly from: number;
  readonly to: number;
  /** Milliseconds of each step that are not the accelerators'. */
  readonly hostMs: number;
  readonly source: TimeSource;
  /** As the last of the steps that were priced with them. */
  readonly isExtrapolated: boolean;
}

/** What the caches of a worker have done since its process began, beside the device's own. */
export interface WorkerCaches {
  readonly tiers: ReadonlyArray<readonly [LowerTier, TierStats]>;
  /** Null: nothing is brought up ahead. */
  readonly prefetch: PrefetchStats | null;
  readonly leases: Readonly<Record<LeaseKind, LeaseStats>>;
}

/**
 * What a run of the twin tells whoever records it. Every call comes in order of virtual time; nothing passed in may be kept
 * (rows and their loads are filled again).
 */
export interface TwinObserver {
  /** Whether outcomes are to have `gapsMs` and `worstGapsMs`: every gap of a request is then kept until its end. Default false. */
  readonly wantsGaps?: boolean;
  requestArrived(request: WorkloadRequest, nowMs: number): void;
  requestPlaced(request: WorkloadRequest, decision: PlacementDecision, nowMs: number): void;
  /** `gapMs` between output tokens of one request, seen `count` times by requests of any kind. */
  tokenGap(gapMs: number, count: number): void;
  /** Gaps between times `from` and `to` of a list, each seen `count` times: what {@link tokenGap} says of them one by one. */
  tokenGaps(timesMs: Float64Array, from: number, to: number, count: number): void;
  requestEnded(request: WorkloadRequest, outcome: RequestOutcome, nowMs: number): void;
  /** A worker has run some steps, of which the last ends now or has ended since the worker was last looked at. */
  stepsDone(worker: WorkerId, row: StepRow): void;
  /** KV has moved from one worker to another. */
  transferDone(from: WorkerId, to: WorkerId, bytes: number, startMs: number, endMs: number): void;
  /** Blocks in use and blocks kept as prefix cache on a worker, whenever a plan ends: its row of steps is looked at as a whole. */
  kvChanged(worker: WorkerId, usedBlocks: number, cachedBlocks: number, nowMs: number): void;
  /** A worker has become ready, has been lost, or is slowed down (`factor` other than 1). */
  workerChanged(worker: WorkerId, state: "ready" | "lost" | "slow", factor: number, nowMs: number): void;
  /** Once for every process of a worker: when it is lost, or when the run is over. */
  cachesDone?(worker: WorkerId, caches: WorkerCaches, isLost: boolean): void;
}
