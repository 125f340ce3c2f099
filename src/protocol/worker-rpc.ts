import type { KvEventBatch } from "../core/kv/kv-events.ts";
import type { LowerTier, TierStats } from "../core/kv/tiers/segment.ts";
import type { FinishReason, Request, RequestId, WorkerId, WorkerRole } from "../core/request.ts";
import type { ObservedStep } from "../core/router/placement.ts";
import type { SampledToken } from "../core/scheduler/step-plan.ts";
import type { EngineInfo } from "../serve/engine/engine.ts";
import type { ErrorCode } from "./errors.ts";

/** Raised with every change to the worker RPC or the KV frames that an older peer would misread. */
export const PROTOCOL_VERSION = 4;

/** What a worker says of itself: `GET /v1/worker`. */
export interface WorkerHello {
  readonly protocolVersion: number;
  readonly workerId: WorkerId;
  readonly role: WorkerRole;
  readonly pid: number;
  readonly engine: EngineInfo;
  readonly blockSizeTokens: number;
  readonly contextTokens: number;
  /** Tokens that one of its steps may hold. */
  readonly tokenBudget: number;
  /** Sequences that take part in steps at once. */
  readonly maxRunning: number;
  /** Where other workers push KV to: `unix:/path` or `tcp:host:port`. */
  readonly kvAddress: string;
}

/** A worker that may have the first `numTokens` of the prompt in its caches. */
export interface FetchSource {
  readonly worker: WorkerId;
  readonly kvAddress: string;
  readonly numTokens: number;
}

/** What a worker is to do with a request. */
export type Assignment =
  /** Prefill and decode here. */
  | { readonly kind: "local"; readonly fetch?: FetchSource | undefined }
  /** Prefill here, push the KV to the decode worker, emit the first token. */
  | {
      readonly kind: "prefill";
      readonly decodeWorker: WorkerId;
      readonly decodeKvAddress: string;
      readonly fetch?: FetchSource | undefined;
    }
  /** Expect the KV from the prefill worker, emit from the second token on. */
  | { readonly kind: "decode"; readonly prefillWorker: WorkerId };

/** Counters of a worker, sent with its heartbeat. All are of this process's life, gauges of this moment. */
export interface WorkerLoad {
  readonly numRunning: number;
  readonly numWaiting: number;
  /** Prompt tokens that are known and not computed, over all sequences. */
  readonly uncomputedTokens: number;
  readonly kvBlocksUsed: number;
  readonly kvBlocksCached: number;
  readonly kvBlocksTotal: number;
  readonly numSteps: number;
  readonly numPreemptions: number;
  readonly prefixTokensHit: number;
  readonly prefixTokensQueried: number;
  readonly handoffs: Readonly<Record<string, number>>;
  readonly handoffBytes: number;
  /** Tiers of KV below the engine, by name. */
  readonly tiers: Readonly<Partial<Record<LowerTier, TierStats>>>;
  readonly rssBytes: number;
}

/** One line of the event stream `GET /v1/events` (newline-delimited JSON). */
export type WorkerEvent =
  /** Tokens of one step, all sequences together. `index` counts output tokens of the request from 0. */
  | { readonly kind: "tokens"; readonly tokens: readonly TokenEvent[] }
  /**
   * The request ends here. For a `prefill` assignment this is sent only when the first token already ends it, or
   * never: a handed-off request is finished by the decode worker.
   */
  | {
      readonly kind: "finish";
      readonly requestId: RequestId;
      readonly epoch: number;
      readonly reason: FinishReason;
      /** Output tokens emitted over the request's life, so that the gateway knows when it has seen all. */
      readonly numOutputTokens: number;
    }
  /** Prompt tokens found in this worker's prefix cache, known when the request is first admitted. */
  | {
      readonly kind: "cached";
      readonly requestId: RequestId;
      readonly epoch: number;
      readonly numTokens: number;
    }
  | {
      readonly kind: "error";
      readonly requestId: RequestId;
      readonly epoch: number;
      readonly code: ErrorCode;
      readonly message: string;
    }
  /** Heartbeat, at least every second. */
  | { readonly kind: "load"; readonly load: WorkerLoad }
  | WorkerReport;

/** What a worker tells of itself to subscribers that ask for reports. */
export type WorkerReport =
  /** Its caches have changed. The first batch after a subscription is a snapshot. */
  | { readonly kind: "kv"; readonly batch: KvEventBatch }
  /** Steps that it has run, in order. */
  | { readonly kind: "steps"; readonly steps: readonly ObservedStep[] }
  /** It has handed KV over: from the last push of a handoff to the ack, the import at the other side included. */
  | { readonly kind: "transfer"; readonly to: WorkerId; readonly bytes: number; readonly ms: number };

export interface TokenEvent {
  readonly requestId: RequestId;
  readonly epoch: number;
  readonly index: number;
  readonly sampled: SampledToken;
}

/** `GET /v1/events`, or `GET /v1/events?reports=1`. By default no reports. */
export interface SubscribeOptions {
  readonly reports: boolean;
}

/** What the RPC server needs from the worker behind it. */
export interface WorkerService {
  hello(): WorkerHello;
  /** Takes a request over, or throws a `ServingError` (`queue_full`, `draining`, `invalid_value`). */
  submit(request: Request, assignment: Assignment): void;
  /** Stops a request within one step; an unknown id or an older epoch is ignored. */
  cancel(requestId: RequestId, epoch: number): void;
  /** Streams events to a gateway, reports among them if asked for. When the gateway goes, the worker drops its requests. */
  subscribe(sink: (event: WorkerEvent) => void, options?: SubscribeOptions): { unsubscribe(): void };
  /** Tells every subscriber that takes reports what the caches hold. */
  snapshotKv(): void;
}
