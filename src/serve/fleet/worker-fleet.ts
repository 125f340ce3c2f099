import type { DispatchEffect, Dispatcher, DispatchFailure } from "../../core/dispatch/dispatcher.ts";
import type { Request, RequestId, WorkerId, WorkerRole } from "../../core/request.ts";
import type { PrefixFetch } from "../../core/router/placement.ts";
import type { TurnExpectation } from "../../core/sessions/turn-expectation.ts";
import { assertNever } from "../../core/util/assert.ts";
import type { RequestEvent, WorkerTask } from "../../core/worker-effects.ts";
import { type ErrorCode, ServingError } from "../../protocol/errors.ts";
import type { ExplainedRequest } from "../../protocol/explained.ts";
import type {
  Assignment,
  FetchSource,
  WorkerEvent,
  WorkerHello,
  WorkerLoad,
} from "../../protocol/worker-rpc.ts";
import type { Logger } from "../telemetry/logger.ts";
import { DecisionLog } from "./decision-log.ts";
import type { BlockIdentity, Fleet, RequestHandle, RequestListener, WorkerStatus } from "./fleet.ts";

/** What the fleet needs of a connection to one worker. */
export interface WorkerLink {
  /** Rejects with the `ServingError` that the worker answered, or `worker_lost`. */
  submit(request: Request, assignment: Assignment): Promise<void>;
  /** Takes effect after the submit of the same request. */
  cancel(requestId: RequestId, epoch: number): Promise<void>;
  /** Tells the worker that another turn of a conversation is expected. */
  expect(expectation: TurnExpectation): Promise<void>;
  /** Asks the worker to tell what its caches hold. */
  snapshotKv(): Promise<void>;
  close(): void;
}

interface Member {
  readonly hello: WorkerHello;
  readonly link: WorkerLink;
  /** Where peers push KV to; usually as the worker says itself. */
  readonly kvAddress: string;
  load: WorkerLoad | null;
  draining: boolean;
}

/** Codes and messages that a client is sent for what the dispatcher could not do. */
const FAILURES: Readonly<Record<DispatchFailure, readonly [ErrorCode, string]>> = {
  queue_full: ["queue_full", "The server is at its limit of requests. Try again shortly."],
  no_workers: ["no_workers", "No worker became ready in time. Try again shortly."],
  worker_lost: ["worker_lost", "A worker was lost while it served this request."],
  kv_exhausted: ["kv_exhausted", "The workers have no room for this request now. Try again shortly."],
  too_long: ["context_length_exceeded", "The request does not fit the workers' KV memory."],
};

/**
 * The workers behind a gateway: carries out what the {@link Dispatcher} decides, and tells it what happens.
 */
export class WorkerFleet implements Fleet {
  readonly contextTokens: number;
  readonly #dispatcher: Dispatcher;
  readonly #nowMs: () => number;
  readonly #logger: Logger;
  readonly #members = new Map<WorkerId, Member>();
  readonly #listeners = new Map<RequestId, RequestListener>();
  readonly #decisions: DecisionLog;
  #timer: NodeJS.Timeout | null = null;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #isClosing = false;
  #blockIdentity: BlockIdentity | null = null;
  /** Workers that are not members, for the status page: those that start, or have given up. */
  pendingWorkers: () => readonly WorkerStatus[] = () => [];

  constructor(options: {
    dispatcher: Dispatcher;
    contextTokens: number;
    nowMs: () => number;
    logger: Logger;
  }) {
    this.#dispatcher = options.dispatcher;
    this.contextTokens = options.contextTokens;
    this.#nowMs = options.nowMs;
    this.#logger = options.logger;
    this.#decisions = new DecisionLog(options.dispatcher.policyName);
  }

  get isReady(): boolean {
    const roles = new Set<WorkerRole>();
    for (const { hello, draining } of this.#members.values()) if (!draining) roles.add(hello.role);
    return roles.has("both") || roles.has("decode");
  }

  get blockIdentity(): BlockIdentity | null {
    return this.#blockIdentity;
  }

  /** Whether anything is done with what workers report of their caches, steps and transfers. */
  get takesReports(): boolean {
    return this.#dispatcher.observes;
  }

  get kvCounts(): Dispatcher["kvCounts"] {
    return this.#dispatcher.kvCounts;
  }

  get numRequests(): number {
    return this.#dispatcher.numRequests;
  }

  get numWaiting(): number {
    return this.#dispatcher.numWaiting;
  }

  loads(): ReadonlyArray<{ hello: WorkerHello; load: WorkerLoad | null }> {
    return [...this.#members.values()];
  }

  workers(): readonly WorkerStatus[] {
    const members = [...this.#members.values()].map(({ hello, load, draining }): WorkerStatus => {
      const blockTokens = hello.blockSizeTokens;
      return {
        id: hello.workerId,
        role: hello.role,
        state: draining ? "draining" : "ready",
        pid: hello.pid,
        numRunning: load?.numRunning ?? 0,
        numWaiting: load?.numWaiting ?? 0,
        kvTokensUsed: (load?.kvBlocksUsed ?? 0) * blockTokens,
        kvTokensTotal: hello.engine.kvCapacityTokens,
        numSteps: load?.numSteps ?? 0,
      };
    });
    return [...members, ...this.pendingWorkers()];
  }

  /** A worker has answered and fits the fleet: requests may go to it. */
  addWorker(hello: WorkerHello, link: WorkerLink, kvAddress: string = hello.kvAddress): void {
    this.#members.set(hello.workerId, { hello, link, kvAddress, load: null, draining: false });
    this.#blockIdentity ??= { modelId: hello.engine.modelId, blockSizeTokens: hello.blockSizeTokens };
    this.#logger.info({ worker: hello.workerId, role: hello.role, pid: hello.pid }, "worker ready");
    this.#dispatcher.workerReady(
      {
        id: hello.workerId,
        role: hello.role,
        kvTokensTotal: hello.engine.kvCapacityTokens,
        perf: null,
        tokenBudget: hello.tokenBudget,
        maxRunning: hello.maxRunning,
        kvBytesPerToken: hello.engine.kvBytesPerToken,
      },
      this.#nowMs(),
    );
    this.#pump();
  }

  /** A worker is gone, for whatever reason. */
  removeWorker(id: WorkerId, reason: string): void {
    const member = this.#members.get(id);
    if (member === undefined) return;
    this.#members.delete(id);
    member.link.close();
    this.#logger[this.#isClosing ? "debug" : "warn"]({ worker: id, reason }, "worker lost");
    this.#dispatcher.workerLost(id, this.#nowMs());
    this.#pump();
  }

  /** A worker has reported something. */
  onWorkerEvent(id: WorkerId, event: WorkerEvent): void {
    if (event.kind === "load") {
      const member = this.#members.get(id);
      if (member !== undefined) member.load = event.load;
      return;
    }
    const nowMs = this.#nowMs();
    if (event.kind === "kv") this.#dispatcher.workerKv(id, event.batch, nowMs);
    else if (event.kind === "steps") this.#dispatcher.workerSteps(id, event.steps, nowMs);
    else if (event.kind === "transfer") {
      const { to, bytes, ms } = event;
      this.#dispatcher.transferred({ from: id, to, bytes, ms }, nowMs);
    } else if (event.kind === "error") {
      const { requestId, epoch, code } = event;
      this.#dispatcher.attemptFailed(requestId, epoch, failureOf(code), nowMs);
    } else {
      const events = event.kind === "tokens" ? tokenEvents(event.tokens) : [event];
      this.#dispatcher.workerEvents(id, events, nowMs);
    }
    this.#pump();
  }

  submit(request: Request, listener: RequestListener): RequestHandle {
    const outcome = this.#dispatcher.submit(request, this.#nowMs());
    if (outcome === "queue_full") throw toServingError("queue_full");
    this.#listeners.set(request.id, listener);
    this.#decisions.submitted(request);
    this.#pump();
    return {
      cancel: () => {
        if (!this.#listeners.delete(request.id)) return;
        this.#dispatcher.cancel(request.id, this.#nowMs());
        this.#pump();
      },
    };
  }

  explain(requestId: RequestId, cacheSalt: string): readonly ExplainedRequest[] {
    return this.#decisions.explain(requestId, cacheSalt);
  }

  /** The workers are about to be stopped: losing them is no news. */
  expectLosses(): void {
    this.#isClosing = true;
  }

  /** Disconnects from every worker. */
  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    for (const { link } of this.#members.values()) link.close();
    this.#members.clear();
  }

  #pump(): void {
    for (
      let effects = this.#dispatcher.takeEffects();
      effects.length > 0;
      effects = this.#dispatcher.takeEffects()
    ) {
      for (const effect of effects) this.#carryOut(effect);
    }
    this.#armTimer();
  }

  #carryOut(effect: DispatchEffect): void {
    switch (effect.kind) {
      case "submit":
        this.#send(effect.worker, effect.request, effect.task);
        return;
      case "cancel":
        // A worker that can't be told is about to be lost, and drops its requests with its gateway.
        this.#members
          .get(effect.worker)
          ?.link.cancel(effect.requestId, effect.epoch)
          .catch(() => {});
        return;
      case "placed":
        this.#decisions.placed(effect.requestId, effect.decision, Date.now());
        this.#listeners.get(effect.requestId)?.onPlaced(effect.decision);
        return;
      case "cached":
        this.#decisions.cached(effect.requestId, effect.numTokens);
        this.#listeners.get(effect.requestId)?.onCached(effect.numTokens);
        return;
      case "tokens":
        this.#listeners.get(effect.requestId)?.onTokens(effect.tokens);
        return;
      case "finish": {
        const { requestId, reason, numCachedTokens } = effect;
        this.#takeListener(requestId)?.onFinish({ reason, numCachedTokens });
        return;
      }
      case "error":
        this.#takeListener(effect.requestId)?.onError(toServingError(effect.failure));
        return;
      case "expect": {
        const member = this.#members.get(effect.worker);
        // A hint: it is not worth a second try. Workers that bring nothing up have no use for it.
        if (member?.load?.prefetch != null) member.link.expect(effect.expectation).catch(() => {});
        return;
      }
      case "resync":
        this.#logger.warn({ worker: effect.worker }, "KV events were lost: asking for a snapshot");
        // If the call fails, the dispatcher asks again when the worker reports the next time.
        this.#members
          .get(effect.worker)
          ?.link.snapshotKv()
          .catch(() => {});
        return;
      default:
        assertNever(effect);
    }
  }

  #takeListener(requestId: RequestId): RequestListener | undefined {
    const listener = this.#listeners.get(requestId);
    this.#listeners.delete(requestId);
    return listener;
  }

  #send(worker: WorkerId, request: Request, task: WorkerTask): void {
    const failed = (failure: DispatchFailure): void => {
      this.#dispatcher.attemptFailed(request.id, request.epoch, failure, this.#nowMs());
      this.#pump();
    };
    const member = this.#members.get(worker);
    const assignment = this.#assignmentOf(task);
    if (member === undefined || assignment === null) {
      queueMicrotask(() => failed("worker_lost"));
      return;
    }
    member.link.submit(request, assignment).catch((error: unknown) => {
      const code = error instanceof ServingError ? error.code : "internal_error";
      if (code === "draining") {
        member.draining = true;
        this.#dispatcher.workerDraining(worker);
      }
      this.#logger.warn({ worker, requestId: request.id, code }, "worker did not take a request");
      failed(failureOf(code));
    });
  }

  #assignmentOf(task: WorkerTask): Assignment | null {
    const fetch = task.kind === "decode" ? undefined : this.#sourceOf(task.fetch);
    if (task.kind === "local") return { kind: "local", fetch };
    if (task.kind === "decode") return { kind: "decode", prefillWorker: task.peer };
    const peer = this.#members.get(task.peer);
    if (peer === undefined) return null;
    return { kind: "prefill", decodeWorker: task.peer, decodeKvAddress: peer.kvAddress, fetch };
  }

  /** Where a prefix is fetched from; nowhere when that worker has gone: then it is computed. */
  #sourceOf(fetch: PrefixFetch | undefined): FetchSource | undefined {
    const member = fetch === undefined ? undefined : this.#members.get(fetch.from);
    if (fetch === undefined || member === undefined) return undefined;
    return { worker: fetch.from, kvAddress: member.kvAddress, numTokens: fetch.numTokens };
  }

  #armTimer(): void {
    const atMs = this.#dispatcher.nextDeadlineMs;
    if (atMs === this.#timerAtMs) return;
    this.#timerAtMs = atMs;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (atMs === Number.POSITIVE_INFINITY) return;
    this.#timer = setTimeout(
      () => {
        this.#timerAtMs = Number.POSITIVE_INFINITY;
        this.#dispatcher.tick(this.#nowMs());
        this.#pump();
      },
      Math.max(1, atMs - this.#nowMs()),
    );
  }
}

function tokenEvents(tokens: Extract<WorkerEvent, { kind: "tokens" }>["tokens"]): RequestEvent[] {
  return tokens.map((token) => ({ kind: "token", ...token }));
}

function failureOf(code: ErrorCode): DispatchFailure {
  if (code === "queue_full" || code === "kv_exhausted") return code;
  return code === "context_length_exceeded" ? "too_long" : "worker_lost";
}

function toServingError(failure: DispatchFailure): ServingError {
  const [code, message] = FAILURES[failure];
  return new ServingError(code, message);
}
