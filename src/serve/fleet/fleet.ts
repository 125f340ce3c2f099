import type { FinishReason, Request, RequestId, WorkerId, WorkerRole } from "../../core/request.ts";
import type { SampledToken } from "../../core/scheduler/step-plan.ts";
import type { ServingError } from "../../protocol/errors.ts";
import type { ExplainedRequest } from "../../protocol/explained.ts";

/** Which workers serve a request. They are the same worker when it prefills and decodes in one place. */
export interface Placement {
  readonly prefillWorker: WorkerId;
  readonly decodeWorker: WorkerId;
}

/** How a request ended well, and what it used. */
export interface Completion {
  readonly reason: FinishReason;
  /** Prompt tokens whose KV was found in a cache instead of being computed. */
  readonly numCachedTokens: number;
}

/**
 * Receives what happens to one submitted request. Calls arrive in order on the event loop; after `onFinish` or
 * `onError`, or once `cancel()` has been called on the handle, there are no more.
 */
export interface RequestListener {
  /** The request was placed, or placed again before any token was emitted. */
  onPlaced(placement: Placement): void;
  /** Prompt tokens that were found in a cache; told before the first token, also of requests that are cancelled later. */
  onCached(numTokens: number): void;
  /** The next output tokens, each exactly once, in order. An end-of-generation token is not among them. */
  onTokens(tokens: readonly SampledToken[]): void;
  onFinish(completion: Completion): void;
  /** The request is lost. Also before any token, when no worker could take it. */
  onError(error: ServingError): void;
}

export interface RequestHandle {
  /** Stops the work on every worker within a step. Idempotent; no effect after the end. */
  cancel(): void;
}

/** How one worker looks from the gateway. */
export interface WorkerStatus {
  readonly id: WorkerId;
  readonly role: WorkerRole;
  readonly state: "starting" | "ready" | "draining" | "lost" | "failed";
  readonly pid: number | null;
  readonly numRunning: number;
  readonly numWaiting: number;
  readonly kvTokensUsed: number;
  readonly kvTokensTotal: number;
  /** Completed steps; a worker with work whose count stands still is wedged. */
  readonly numSteps: number;
}

/** What the workers put into every block hash, besides salt and tokens. */
export interface BlockIdentity {
  readonly modelId: string;
  readonly blockSizeTokens: number;
}

/** The workers behind a gateway, as one thing that completes requests. */
export interface Fleet {
  /**
   * Places a request and starts it. Throws a `ServingError` at once when it cannot be queued (`queue_full`,
   * `no_workers`, `draining`).
   */
  submit(request: Request, listener: RequestListener): RequestHandle;
  /** Whether at least one worker of every needed role is ready. */
  readonly isReady: boolean;
  workers(): readonly WorkerStatus[];
  /** How a request, or its choices, were placed; empty when it is not the tenant's whose salt is given, or not kept any more. */
  explain(requestId: RequestId, cacheSalt: string): readonly ExplainedRequest[];
  /** Most tokens (prompt and output) that one request may have. */
  readonly contextTokens: number;
  /** Known from the first worker that joins, and the same from then on; null before. */
  readonly blockIdentity: BlockIdentity | null;
}
