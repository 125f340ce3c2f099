import type { KvEventBatch } from "../kv/kv-events.ts";
import { GREEDY, type Request, type RequestId, type WorkerId } from "../request.ts";
import type { ObservedStep, PlacementDecision, WorkerFacts } from "../router/placement.ts";
import { HASH_WORDS } from "../tokens/block-hash.ts";
import { promptBlockHashesOf } from "../tokens/prompt-hashes.ts";
import { assertNever } from "../util/assert.ts";
import type { RequestEvent } from "../worker-effects.ts";
import {
  type DispatchEffect,
  Dispatcher,
  type DispatcherOptions,
  type DispatchFailure,
} from "./dispatcher.ts";

/** What a dispatcher decides on of a request: lengths, bounds and identities, no text and no tokens. */
export interface RecordedRequest {
  readonly id: RequestId;
  readonly numPromptTokens: number;
  readonly numResumedTokens: number;
  readonly maxOutputTokens: number;
  readonly priority: number;
  /** Absent: nobody has said. */
  readonly firstTokenGoalMs?: number;
  readonly expectedFanOut?: number;
  /** Of the prompt's full blocks; null where they are not known before placement. */
  readonly promptBlockHashes: Int32Array | null;
}

/** One call of a dispatcher, as data. */
export type DispatchInput =
  | { readonly kind: "submit"; readonly request: RecordedRequest; readonly nowMs: number }
  | { readonly kind: "cancel"; readonly requestId: RequestId; readonly nowMs: number }
  | { readonly kind: "ready"; readonly worker: Omit<WorkerFacts, "perf">; readonly nowMs: number }
  | { readonly kind: "draining"; readonly worker: WorkerId }
  | { readonly kind: "queue"; readonly worker: WorkerId; readonly numQueued: number }
  | { readonly kind: "lost"; readonly worker: WorkerId; readonly nowMs: number }
  | { readonly kind: "kv"; readonly worker: WorkerId; readonly batch: KvEventBatch; readonly nowMs: number }
  | {
      readonly kind: "steps";
      readonly worker: WorkerId;
      readonly steps: readonly ObservedStep[];
      readonly nowMs: number;
    }
  | {
      readonly kind: "transfer";
      readonly from: WorkerId;
      readonly to: WorkerId;
      readonly bytes: number;
      readonly ms: number;
      readonly nowMs: number;
    }
  | {
      readonly kind: "failed";
      readonly requestId: RequestId;
      readonly epoch: number;
      readonly failure: DispatchFailure;
      readonly nowMs: number;
    }
  /** Tokens and their log probabilities do not matter. */
  | {
      readonly kind: "events";
      readonly worker: WorkerId;
      readonly events: readonly RequestEvent[];
      readonly nowMs: number;
    }
  | { readonly kind: "tick"; readonly nowMs: number };

/** What a recording consists of, in order: each decision follows the input that it was made on. */
export type DispatchEntry =
  | DispatchInput
  | { readonly kind: "decision"; readonly requestId: RequestId; readonly decision: PlacementDecision };

/**
 * A dispatcher that tells everything it is told, and every decision. What can't be written down is not decided on: placement gets no
 * perf model. It listens to reports whatever its policy, so that a recording can be run with another one.
 */
export class RecordedDispatcher extends Dispatcher {
  readonly #record: (entry: DispatchEntry) => void;
  #effects: DispatchEffect[] = [];
  /** Latest report of each worker's queue: most of them say what the last one said. */
  readonly #queues = new Map<WorkerId, number>();

  constructor(options: DispatcherOptions, record: (entry: DispatchEntry) => void) {
    super(options);
    this.#record = record;
  }

  override get observes(): boolean {
    return true;
  }

  override takeEffects(): DispatchEffect[] {
    const effects = this.#effects;
    if (effects.length > 0) this.#effects = [];
    return effects;
  }

  override submit(request: Request, nowMs: number): "accepted" | "queue_full" {
    this.#record({ kind: "submit", request: recordedRequest(request), nowMs });
    const outcome = super.submit(request, nowMs);
    this.#decided();
    return outcome;
  }

  override cancel(requestId: RequestId, nowMs: number): void {
    this.#record({ kind: "cancel", requestId, nowMs });
    super.cancel(requestId, nowMs);
    this.#decided();
  }

  override workerReady(worker: WorkerFacts, nowMs: number): void {
    const { perf: _, ...facts } = worker;
    this.#record({ kind: "ready", worker: facts, nowMs });
    super.workerReady({ ...worker, perf: null }, nowMs);
    this.#decided();
  }

  override workerDraining(worker: WorkerId): void {
    this.#record({ kind: "draining", worker });
    super.workerDraining(worker);
  }

  override workerQueue(worker: WorkerId, numQueued: number): void {
    if (this.#queues.get(worker) !== numQueued) this.#record({ kind: "queue", worker, numQueued });
    this.#queues.set(worker, numQueued);
    super.workerQueue(worker, numQueued);
  }

  override workerLost(worker: WorkerId, nowMs: number): void {
    this.#record({ kind: "lost", worker, nowMs });
    this.#queues.delete(worker);
    super.workerLost(worker, nowMs);
    this.#decided();
  }

  override workerKv(worker: WorkerId, batch: KvEventBatch, nowMs: number): void {
    this.#record({ kind: "kv", worker, batch, nowMs });
    super.workerKv(worker, batch, nowMs);
    this.#decided();
  }

  override workerSteps(worker: WorkerId, steps: readonly ObservedStep[], nowMs: number): void {
    this.#record({ kind: "steps", worker, steps, nowMs });
    super.workerSteps(worker, steps, nowMs);
  }

  override transferred(
    transfer: { from: WorkerId; to: WorkerId; bytes: number; ms: number },
    nowMs: number,
  ): void {
    this.#record({ kind: "transfer", ...transfer, nowMs });
    super.transferred(transfer, nowMs);
  }

  override attemptFailed(requestId: RequestId, epoch: number, failure: DispatchFailure, nowMs: number): void {
    this.#record({ kind: "failed", requestId, epoch, failure, nowMs });
    super.attemptFailed(requestId, epoch, failure, nowMs);
    this.#decided();
  }

  override workerEvents(worker: WorkerId, events: readonly RequestEvent[], nowMs: number): void {
    this.#record({ kind: "events", worker, events, nowMs });
    super.workerEvents(worker, events, nowMs);
    this.#decided();
  }

  override tick(nowMs: number): void {
    this.#record({ kind: "tick", nowMs });
    super.tick(nowMs);
    this.#decided();
  }

  #decided(): void {
    for (const effect of super.takeEffects()) {
      this.#effects.push(effect);
      if (effect.kind !== "placed") continue;
      const { requestId, decision } = effect;
      this.#record({ kind: "decision", requestId, decision });
    }
  }
}

function recordedRequest(request: Request): RecordedRequest {
  const { firstTokenGoalMs, expectedFanOut } = request;
  return {
    id: request.id,
    numPromptTokens: request.promptTokens.length,
    numResumedTokens: request.resumedTokens.length,
    maxOutputTokens: request.maxOutputTokens,
    priority: request.priority,
    ...(firstTokenGoalMs === undefined ? {} : { firstTokenGoalMs }),
    ...(expectedFanOut === undefined ? {} : { expectedFanOut }),
    promptBlockHashes: promptBlockHashesOf(request),
  };
}

/** Tells a dispatcher once more what one was told. */
export function repeatInput(dispatcher: Dispatcher, input: DispatchInput): void {
  switch (input.kind) {
    case "submit":
      dispatcher.submit(asRequest(input.request), input.nowMs);
      return;
    case "cancel":
      dispatcher.cancel(input.requestId, input.nowMs);
      return;
    case "ready":
      dispatcher.workerReady({ ...input.worker, perf: null }, input.nowMs);
      return;
    case "draining":
      dispatcher.workerDraining(input.worker);
      return;
    case "queue":
      dispatcher.workerQueue(input.worker, input.numQueued);
      return;
    case "lost":
      dispatcher.workerLost(input.worker, input.nowMs);
      return;
    case "kv":
      dispatcher.workerKv(input.worker, input.batch, input.nowMs);
      return;
    case "steps":
      dispatcher.workerSteps(input.worker, input.steps, input.nowMs);
      return;
    case "transfer": {
      const { from, to, bytes, ms } = input;
      dispatcher.transferred({ from, to, bytes, ms }, input.nowMs);
      return;
    }
    case "failed":
      dispatcher.attemptFailed(input.requestId, input.epoch, input.failure, input.nowMs);
      return;
    case "events":
      dispatcher.workerEvents(input.worker, input.events, input.nowMs);
      return;
    case "tick":
      dispatcher.tick(input.nowMs);
      return;
    default:
      assertNever(input);
  }
}

/** A request that is decided on as the recorded one was. */
function asRequest(recorded: RecordedRequest): Request {
  const { promptBlockHashes, firstTokenGoalMs, expectedFanOut } = recorded;
  return {
    id: recorded.id,
    epoch: 0,
    promptTokens: blanks(recorded.numPromptTokens),
    resumedTokens: blanks(recorded.numResumedTokens),
    maxOutputTokens: recorded.maxOutputTokens,
    minOutputTokens: 0,
    ignoreEndOfGeneration: false,
    sampling: GREEDY,
    cacheSalt: "",
    priority: recorded.priority,
    ...(firstTokenGoalMs === undefined ? {} : { firstTokenGoalMs }),
    ...(expectedFanOut === undefined ? {} : { expectedFanOut }),
    ...(promptBlockHashes === null
      ? {}
      : {
          knownBlockHashes: promptBlockHashes,
          numKnownPromptBlocks: promptBlockHashes.length / HASH_WORDS,
        }),
  };
}

let blankTokens = new Int32Array(1 << 12);

/** So many tokens without meaning: all requests share them. */
function blanks(count: number): Int32Array {
  if (count > blankTokens.length) blankTokens = new Int32Array(2 * count);
  return blankTokens.subarray(0, count);
}
