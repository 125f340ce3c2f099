import { type DispatchEffect, Dispatcher } from "../../core/dispatch/dispatcher.ts";
import { RecordedDispatcher } from "../../core/dispatch/recorded-dispatcher.ts";
import type { Request, RequestId } from "../../core/request.ts";
import { SessionBook } from "../../core/sessions/session-book.ts";
import { assert, assertNever } from "../../core/util/assert.ts";
import type { TwinObserver } from "../observer.ts";
import { prefetches, type TwinSpec, type TwinSummary } from "../twin-spec.ts";
import type { WorkloadSource } from "../workload/workload.ts";
import { checkSpec } from "./check-spec.ts";
import { EventHeap } from "./event-heap.ts";
import { RequestTracks } from "./request-tracks.ts";
import { TraceHash } from "./trace-hash.ts";
import { RANK, type TwinEvent } from "./twin-events.ts";
import { RequestMaker, trackOf } from "./twin-request.ts";
import { WorkerHost } from "./worker-host.ts";
import { WorkerReports } from "./worker-reports.ts";

/** Attempts and waits of the dispatcher, as the server sets them (`serve/start.ts`). */
const MAX_ATTEMPTS = 3;
const MAX_WAIT_MS = 60_000;

/**
 * One run: a virtual clock that jumps from event to event, and the production code in between. Everything that the server does
 * with sockets, engines and timers happens here through events; every decision is the dispatcher's and the worker loops'.
 */
export class TwinRun {
  readonly #spec: TwinSpec;
  readonly #source: WorkloadSource;
  readonly #observer: TwinObserver;
  readonly #clock = { nowMs: 0 };
  readonly #heap = new EventHeap<TwinEvent>();
  readonly #dispatcher: Dispatcher;
  readonly #maker: RequestMaker;
  readonly #tracks: RequestTracks;
  readonly #reports: WorkerReports | null;
  readonly #host: WorkerHost;
  readonly #hash = new TraceHash();
  #dispatcherWakeMs = Number.POSITIVE_INFINITY;
  /** When the last request ended. */
  #lastEndMs = 0;
  #numEvents = 0;
  #numRequests = 0;
  #numEnded = 0;

  constructor(spec: TwinSpec, source: WorkloadSource, observer: TwinObserver) {
    checkSpec(spec);
    this.#spec = spec;
    this.#source = source;
    this.#observer = observer;
    const limits = {
      maxRequests: spec.maxRequests,
      maxWaitMs: Math.max(MAX_WAIT_MS, ...spec.workers.map(({ startUpMs }) => 2 * startUpMs)),
      maxAttempts: MAX_ATTEMPTS,
    };
    const sessions = spec.workers.some(prefetches) ? { sessions: new SessionBook() } : {};
    const options = { ...limits, placement: spec.placement, ...sessions };
    this.#dispatcher =
      spec.record === undefined
        ? new Dispatcher(options)
        : new RecordedDispatcher(options, spec.record(limits));
    this.#maker = new RequestMaker({
      blockTokens: spec.workers[0]!.blockTokens,
      outputBound: spec.outputBound,
      hashesPrompts: spec.workers.some(({ maxCachedBlocks }) => maxCachedBlocks !== 0),
      ...(spec.firstTokenGoalMs === undefined ? {} : { firstTokenGoalMs: spec.firstTokenGoalMs }),
      keepsGaps: observer.wantsGaps === true,
    });
    this.#tracks = new RequestTracks(observer, spec.workers[0]!.perf.host.outputMs);
    const reported = { clock: this.#clock, heap: this.#heap, dispatcher: this.#dispatcher };
    // Reports cost events and memory, so they are made only for those who listen.
    this.#reports = this.#dispatcher.observes ? new WorkerReports(reported) : null;
    this.#host = new WorkerHost({
      spec,
      observer,
      clock: this.#clock,
      heap: this.#heap,
      hash: this.#hash,
      tracks: this.#tracks,
      dispatcher: this.#dispatcher,
      reports: this.#reports,
      pumpDispatcher: () => this.#pumpDispatcher(),
    });
  }

  run(): TwinSummary {
    const { maxVirtualMs } = this.#spec;
    for (;;) {
      const arrivalMs = this.#source.nextArrivalMs;
      // Timers and faults that are left concern nobody.
      if (arrivalMs === Number.POSITIVE_INFINITY && this.#numEnded === this.#numRequests) break;
      const heapMs = this.#heap.nextMs;
      const flowMs = this.#host.nextTransferEndMs;
      const nextMs = Math.min(arrivalMs, heapMs, flowMs);
      if (nextMs === Number.POSITIVE_INFINITY) break;
      if (nextMs > maxVirtualMs) return this.#summary("time");
      assert(nextMs >= this.#clock.nowMs, "time runs backwards");
      this.#clock.nowMs = nextMs;
      this.#numEvents++;
      const isHeapNext = heapMs === nextMs;
      if (flowMs === nextMs && !(isHeapNext && this.#heap.nextRank < RANK.flowEnd))
        this.#host.transferEnded();
      else if (isHeapNext) this.#handle(this.#heap.pop()!);
      else this.#arrive();
      if (this.#spec.checks) this.#check();
    }
    return this.#summary(this.#dispatcher.numRequests === 0 ? "finished" : "stuck");
  }

  #summary(end: TwinSummary["end"]): TwinSummary {
    this.#host.end();
    return {
      end,
      endMs: end === "finished" ? this.#lastEndMs : this.#clock.nowMs,
      numRequests: this.#numRequests,
      numEvents: this.#numEvents,
      traceHash: this.#hash.hex,
    };
  }

  #handle(event: TwinEvent): void {
    switch (event.kind) {
      case "submit":
        this.#submit(event.request);
        return;
      case "dispatcher-wake":
        this.#wakeDispatcher(event.atMs);
        return;
      case "kv-report":
      case "step-report":
      case "transfer-report":
        this.#reports!.handle(event);
        return;
      default:
        this.#host.handle(event);
    }
  }

  #wakeDispatcher(atMs: number): void {
    if (this.#dispatcherWakeMs !== atMs) return;
    this.#dispatcherWakeMs = Number.POSITIVE_INFINITY;
    this.#dispatcher.tick(this.#clock.nowMs);
    this.#pumpDispatcher();
  }

  #arrive(): void {
    const workload = this.#source.take();
    assert(
      workload.arrivalMs >= 0 && workload.arrivalMs <= this.#clock.nowMs,
      "a source gives an arrival too late",
    );
    this.#numRequests++;
    this.#observer.requestArrived(workload, this.#clock.nowMs);
    const request = this.#maker.make(workload);
    const atMs = this.#clock.nowMs + this.#spec.workers[0]!.perf.host.requestMs + workload.encodeMs;
    this.#heap.push({ kind: "submit", atMs, rank: RANK.arrival, request });
  }

  #submit(request: Request): void {
    this.#tracks.begin(trackOf(request));
    if (this.#dispatcher.submit(request, this.#clock.nowMs) === "queue_full") {
      this.#end(request.id, "queue_full", false);
      return;
    }
    this.#pumpDispatcher();
  }

  #pumpDispatcher(): void {
    for (let effects = this.#dispatcher.takeEffects(); effects.length > 0; ) {
      for (const effect of effects) this.#carryOutDispatch(effect);
      effects = this.#dispatcher.takeEffects();
    }
    const atMs = this.#dispatcher.nextDeadlineMs;
    if (atMs >= this.#dispatcherWakeMs) return;
    this.#dispatcherWakeMs = atMs;
    this.#heap.push({ kind: "dispatcher-wake", atMs, rank: RANK.tick });
  }

  #carryOutDispatch(effect: DispatchEffect): void {
    switch (effect.kind) {
      case "submit":
        this.#host.submit(effect.worker, effect.request, effect.task);
        return;
      case "cancel":
        this.#host.cancel(effect.worker, effect.requestId, effect.epoch);
        return;
      case "placed": {
        const workload = this.#tracks.placed(effect.requestId, effect.decision);
        this.#hash.addNumber(this.#clock.nowMs);
        this.#hash.addText(effect.decision.prefillWorker);
        this.#hash.addText(effect.decision.decodeWorker);
        this.#observer.requestPlaced(workload, effect.decision, this.#clock.nowMs);
        return;
      }
      case "cached":
        this.#tracks.cached(effect.requestId, effect.numTokens);
        return;
      case "tokens":
        this.#tracks.tokens(effect.requestId, effect.tokens.length, this.#clock.nowMs);
        return;
      case "finish":
        this.#end(effect.requestId, effect.reason, true);
        return;
      case "error":
        this.#end(effect.requestId, effect.failure, false);
        return;
      case "expect":
        this.#host.expect(effect.worker, effect.expectation);
        return;
      case "resync":
        this.#host.snapshotKv(effect.worker);
        return;
      default:
        assertNever(effect);
    }
  }

  #end(requestId: RequestId, end: string, isCompleted: boolean): void {
    const workload = this.#tracks.end(requestId, end, isCompleted, this.#clock.nowMs);
    this.#lastEndMs = this.#clock.nowMs;
    this.#numEnded++;
    this.#hash.addNumber(this.#clock.nowMs);
    this.#hash.addText(end);
    this.#source.ended(workload, this.#clock.nowMs);
  }

  #check(): void {
    this.#dispatcher.checkInvariants();
    this.#host.checkInvariants();
  }
}
