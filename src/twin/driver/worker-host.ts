import type { Dispatcher } from "../../core/dispatch/dispatcher.ts";
import type { HandoffId, HandoffMessage } from "../../core/handoff/messages.ts";
import type { TierEffect } from "../../core/kv/tiers/tier-effects.ts";
import { handoffBytes } from "../../core/perf/handoff-bytes.ts";
import type { Request, RequestId, WorkerId } from "../../core/request.ts";
import type { TurnExpectation } from "../../core/sessions/turn-expectation.ts";
import { assertNever } from "../../core/util/assert.ts";
import type { WorkerEffect, WorkerTask } from "../../core/worker-effects.ts";
import type { TwinObserver } from "../observer.ts";
import type { TwinSpec } from "../twin-spec.ts";
import type { EventHeap } from "./event-heap.ts";
import { Faults } from "./faults.ts";
import type { HostContext } from "./host-context.ts";
import { KvTransfers, type Transfer } from "./kv-transfers.ts";
import type { RequestTracks } from "./request-tracks.ts";
import { servedPieces } from "./served-pieces.ts";
import { RANK, type TwinEvent, type VirtualClock, type WorkerTwinEvent } from "./twin-events.ts";
import { TwinWorker } from "./twin-worker.ts";
import type { WorkerReports } from "./worker-reports.ts";

/** The simulated workers of a run: carries out what the production worker loops want, on modelled engines and links. */
export class WorkerHost {
  readonly #context: HostContext;
  readonly #spec: TwinSpec;
  readonly #observer: TwinObserver;
  readonly #clock: VirtualClock;
  readonly #heap: EventHeap<TwinEvent>;
  readonly #tracks: RequestTracks;
  readonly #dispatcher: Dispatcher;
  readonly #reports: WorkerReports | null;
  readonly #transfers: KvTransfers;
  readonly #faults: Faults;
  /** By place in the specification; a restarted worker takes the place of the one that died. */
  readonly #workers: TwinWorker[];
  readonly #byId = new Map<WorkerId, TwinWorker>();

  constructor(context: HostContext) {
    this.#context = context;
    this.#spec = context.spec;
    this.#observer = context.observer;
    this.#clock = context.clock;
    this.#heap = context.heap;
    this.#tracks = context.tracks;
    this.#dispatcher = context.dispatcher;
    this.#reports = context.reports;
    const { spec } = context;
    this.#transfers = new KvTransfers(spec.network, spec.oneConnectionPerRequest ?? false);
    this.#workers = spec.workers.map(({ id }, index) => this.#makeWorker(index, id));
    spec.workers.forEach(({ startUpMs }, index) => {
      this.#heap.push({ kind: "ready", atMs: startUpMs, rank: RANK.ready, index });
    });
    this.#faults = new Faults({
      context,
      transfers: this.#transfers,
      workers: this.#workers,
      byId: this.#byId,
      bringUp: (worker) => this.#before(worker),
      pump: (worker) => this.#pump(worker),
      restart: (index, id) => this.#makeWorker(index, id),
    });
  }

  #makeWorker(index: number, id: WorkerId): TwinWorker {
    const reportsKv = this.#reports !== null;
    const fetches = this.#spec.placement.fetches === true;
    return new TwinWorker(this.#spec.workers[index]!, { id, index, run: this.#spec, reportsKv, fetches });
  }

  get #nowMs(): number {
    return this.#clock.nowMs;
  }

  /** When the next KV transfer may end. */
  get nextTransferEndMs(): number {
    return this.#transfers.nextEndMs;
  }

  handle(event: WorkerTwinEvent): void {
    switch (event.kind) {
      case "step-end":
        if (event.worker.rowVersion === event.version) this.#stepEnded(event.worker);
        return;
      case "message":
        this.#put(event.worker, ({ loop }) => loop.receive(event.from, event.message, this.#nowMs));
        return;
      case "peer-lost":
        this.#put(event.worker, ({ loop }) => loop.peerLost(event.peer, this.#nowMs));
        return;
      case "exported":
        if (event.transfer.from.isAlive && event.transfer.to.isAlive)
          this.#transfers.push(event.transfer, this.#nowMs);
        return;
      case "installed":
        this.#put(event.worker, ({ loop }) => loop.kvInstalled(event.id, event.end, true, this.#nowMs));
        return;
      case "tier":
        this.#put(event.worker, ({ loop }) => loop.tierReport(event.report, this.#nowMs));
        return;
      case "wake":
        if (event.worker.wakeAtMs === event.atMs) this.#wake(event.worker);
        return;
      case "ready":
        this.#ready(event.index);
        return;
      case "fault":
        this.#faults.bring(event.fault);
        return;
      default:
        assertNever(event);
    }
  }

  /** Puts something into the loop of a worker that still lives. */
  #put(worker: TwinWorker, input: (worker: TwinWorker) => void): void {
    if (!worker.isAlive) return;
    this.#before(worker);
    input(worker);
    this.#pump(worker);
  }

  submit(id: WorkerId, request: Request, task: WorkerTask): void {
    const worker = this.#byId.get(id);
    if (worker === undefined) return;
    this.#before(worker);
    if (worker.spec.plansAhead === true && worker.engine.plan !== null) worker.held.push({ request, task });
    else this.#submitNow(worker, request, task);
  }

  #submitNow(worker: TwinWorker, request: Request, task: WorkerTask): void {
    this.#before(worker);
    const outcome = worker.loop.submit(request, task, this.#nowMs);
    if (outcome !== "added") this.#dispatcher.attemptFailed(request.id, request.epoch, outcome, this.#nowMs);
    this.#pump(worker);
  }

  cancel(id: WorkerId, requestId: RequestId, epoch: number): void {
    const worker = this.#byId.get(id);
    if (worker === undefined) return;
    const held = worker.held.findIndex(({ request }) => request.id === requestId && request.epoch === epoch);
    if (held >= 0) worker.held.splice(held, 1);
    this.#before(worker);
    worker.loop.cancel(requestId, epoch, this.#nowMs);
    this.#pump(worker);
  }

  expect(id: WorkerId, expectation: TurnExpectation): void {
    const worker = this.#byId.get(id);
    if (worker?.prefetcher) this.#put(worker, ({ loop }) => loop.expect(expectation, this.#nowMs));
  }

  /** The worker tells everything that its caches hold. */
  snapshotKv(id: WorkerId): void {
    const worker = this.#byId.get(id);
    if (worker === undefined || worker.blocks.kvEvents === null) return;
    worker.blocks.kvEvents.snapshot();
    this.#pump(worker);
  }

  /** Brings a worker up to now before anything is put in: steps of its row that are over, and an end of the row after this one. */
  #before(worker: TwinWorker): void {
    const { engine } = worker;
    if (engine.plan === null) return;
    const numEnded = engine.endedBy(this.#nowMs);
    if (numEnded > 0) this.#reportSteps(worker, numEnded);
    if (engine.cutRow()) this.#expectEnd(worker);
  }

  /** Tells the loop of steps of a row that have ended while it goes on. */
  #reportSteps(worker: TwinWorker, count: number): void {
    const { engine } = worker;
    this.#beginSteps(worker, count);
    worker.loop.stepsRepeated(engine.plan!, engine.report(count));
    this.#pump(worker);
    this.#tracks.endSteps();
  }

  /** Looks at the next `count` steps of the row, which are over. */
  #beginSteps(worker: TwinWorker, count: number): void {
    const { id, engine, hash } = worker;
    engine.look(engine.numReported, engine.numReported + count);
    hash.addSteps(engine);
    this.#observer.stepsDone(id, engine);
    this.#reports?.stepsDone(worker, engine);
    this.#tracks.beginSteps(engine);
  }

  #expectEnd(worker: TwinWorker): void {
    const version = ++worker.rowVersion;
    this.#heap.push({ kind: "step-end", atMs: worker.engine.endMs, rank: RANK.stepEnd, worker, version });
  }

  #stepEnded(worker: TwinWorker): void {
    const { engine, loop, blocks } = worker;
    const plan = engine.plan!;
    const count = engine.numSteps - engine.numReported;
    this.#beginSteps(worker, count);
    if (count > 1) loop.stepsRepeated(plan, engine.report(count - 1));
    // The times of the steps are read while its tokens are passed on, so the next one begins afterwards.
    loop.stepDone(plan, engine.finish(), this.#nowMs, engine.lastStepMs);
    const effects = loop.takeEffects();
    for (const effect of effects) if (effect.kind === "emit") this.#carryOut(worker, effect);
    this.#tracks.endSteps();
    for (const effect of effects) if (effect.kind !== "emit") this.#carryOut(worker, effect);
    this.#pump(worker);
    this.#release(worker);
    this.#observer.kvChanged(worker.id, blocks.numUsedBlocks, blocks.numCachedBlocks, this.#nowMs);
  }

  /** Lets in what had to wait for the next plan to begin, or for the worker to run dry. */
  #release(worker: TwinWorker): void {
    if (worker.held.length === 0) return;
    const { held } = worker;
    worker.held = [];
    for (const { request, task } of held) this.#submitNow(worker, request, task);
  }

  /** Carries out what the loop wants until it wants nothing more, and reports how many sequences are left waiting. */
  #pump(worker: TwinWorker): void {
    for (let effects = worker.loop.takeEffects(); effects.length > 0; effects = worker.loop.takeEffects()) {
      for (const effect of effects) this.#carryOut(worker, effect);
    }
    if (worker.engine.plan === null) this.#release(worker);
    this.#dispatcher.workerQueue(worker.id, worker.scheduler.numQueued);
    const wakeAtMs = worker.loop.nextDeadlineMs;
    if (wakeAtMs >= worker.wakeAtMs) return;
    worker.wakeAtMs = wakeAtMs;
    this.#heap.push({ kind: "wake", atMs: wakeAtMs, rank: RANK.tick, worker });
  }

  #carryOut(worker: TwinWorker, effect: WorkerEffect): void {
    switch (effect.kind) {
      case "kv-ops":
        // Bookkeeping of the engine's cells; the modelled engine has none.
        return;
      case "kv-events":
        this.#reports?.kvChanged(worker, effect.batch);
        return;
      case "execute":
        this.#spec.onPlan?.(worker.id, effect.plan);
        worker.engine.begin(effect.plan, this.#nowMs);
        this.#expectEnd(worker);
        return;
      case "abort-step":
        this.#abortStep(worker);
        return;
      case "push-kv":
        this.#push(worker, effect.peer, effect.id, effect.range.start, effect.range.end);
        return;
      case "install-kv":
        this.#install(worker, effect.id, effect.range.start, effect.range.end);
        return;
      case "send":
        this.#send(worker, effect.peer, effect.message);
        return;
      case "emit":
        this.#dispatcher.workerEvents(worker.id, effect.events, this.#nowMs);
        this.#context.pumpDispatcher();
        return;
      case "offload":
      case "read-tier":
      case "write-tier":
      case "delete-tier":
        for (const { atMs, report } of worker.tiers!.carryOut(effect, this.#nowMs, (ms) =>
          this.#hold(worker, ms),
        ))
          this.#heap.push({ kind: "tier", atMs, rank: RANK.flowEnd, worker, report });
        return;
      case "serve-kv":
        this.#serve(worker, effect);
        return;
      default:
        assertNever(effect);
    }
  }

  #abortStep(worker: TwinWorker): void {
    const { plan } = worker.engine;
    if (plan === null) return;
    worker.engine.abort();
    worker.rowVersion++;
    worker.loop.stepDone(plan, { kind: "aborted" }, this.#nowMs, 0);
  }

  #push(worker: TwinWorker, peer: WorkerId, id: HandoffId, start: number, end: number): void {
    const to = this.#byId.get(peer);
    if (to === undefined) {
      worker.loop.kvPushed(id, false, this.#nowMs);
      return;
    }
    const promptTokens = this.#tracks.inputTokensOf(id.requestId) ?? end;
    const bytes = handoffBytes(worker.spec.perf, start, end, promptTokens);
    this.#launch(worker, { to, id, start, end, bytes, fetched: null });
  }

  /** Sends a worker what it asked for. */
  #serve(worker: TwinWorker, { peer, id, answer, parts }: Extract<TierEffect, { kind: "serve-kv" }>): void {
    const to = this.#byId.get(peer);
    const hold = (ms: number): number => this.#hold(worker, ms);
    const pieces = to === undefined ? [] : servedPieces(worker, parts, this.#nowMs, hold);
    pieces.forEach(({ start, end, atMs }, i) => {
      const bytes = (end - start) * worker.spec.perf.kvBytesPerToken;
      const fetched = { isLast: i === pieces.length - 1 };
      this.#leave({ from: worker, to: to!, id, start, end, bytes, fetched, pushedMs: 0, startMs: 0 }, atMs);
    });
    if (pieces.length === 0) this.#send(worker, peer, { kind: "fetch-end", ...id });
    if (parts.length === 0) return;
    const report = { kind: "answered", answer, bad: null } as const;
    const atMs = pieces.at(-1)?.atMs ?? this.#nowMs;
    if (atMs === this.#nowMs) worker.loop.tierReport(report, atMs);
    else this.#heap.push({ kind: "tier", atMs, rank: RANK.flowEnd, worker, report });
  }

  #launch(from: TwinWorker, what: Omit<Transfer, "from" | "pushedMs" | "startMs">): void {
    const transfer = { from, ...what, pushedMs: 0, startMs: 0 };
    const { handoff } = from.spec.perf;
    const exportedMs = handoff && this.#hold(from, handoff.exportMs(what.end - what.start));
    this.#leave(transfer, exportedMs ?? this.#nowMs);
  }

  /** Hands a transfer to the network when its bytes are there. */
  #leave(transfer: Transfer, atMs: number): void {
    if (atMs === this.#nowMs) this.#transfers.push(transfer, atMs);
    else this.#heap.push({ kind: "exported", atMs, rank: RANK.flowEnd, transfer });
  }

  #install(worker: TwinWorker, id: HandoffId, start: number, end: number): void {
    const { handoff } = worker.spec.perf;
    if (handoff === undefined) {
      worker.loop.kvInstalled(id, end, true, this.#nowMs);
      return;
    }
    const atMs = this.#hold(worker, handoff.importMs(end - start));
    this.#heap.push({ kind: "installed", atMs, rank: RANK.flowEnd, worker, id, end });
  }

  /** Takes the engine once the step in flight is over, which ends the row that it belongs to. */
  #hold(worker: TwinWorker, durationMs: number): number {
    const { engine } = worker;
    if (engine.plan !== null && engine.cutRow()) this.#expectEnd(worker);
    return engine.hold(this.#nowMs, durationMs);
  }

  transferEnded(): void {
    const transfer = this.#transfers.takeEnded(this.#nowMs);
    if (transfer === null) return;
    const { from, to, id, start, end, bytes, fetched } = transfer;
    this.#observer.transferDone(from.id, to.id, bytes, transfer.startMs, this.#nowMs);
    this.#reports?.transferDone(transfer);
    const message = { ...id, start, end, payload: bytes };
    const ms = this.#nowMs - transfer.startMs;
    if (fetched !== null) {
      this.#put(to, ({ loop }) => loop.receive(from.id, { kind: "fetched", ...message }, this.#nowMs, ms));
      if (fetched.isLast)
        this.#put(to, ({ loop }) => loop.receive(from.id, { kind: "fetch-end", ...id }, this.#nowMs));
      return;
    }
    this.#put(to, ({ loop }) => loop.receive(from.id, { kind: "kv", ...message }, this.#nowMs, ms));
    this.#put(from, ({ loop }) => loop.kvPushed(id, true, this.#nowMs));
  }

  #send(worker: TwinWorker, peer: WorkerId, message: HandoffMessage): void {
    const to = this.#byId.get(peer);
    if (to === undefined) {
      this.#heap.push({ kind: "peer-lost", atMs: this.#nowMs, rank: RANK.message, worker, peer });
      return;
    }
    const atMs = this.#nowMs + this.#spec.network.latencyMs(worker.spec.endpoint, to.spec.endpoint);
    this.#heap.push({ kind: "message", atMs, rank: RANK.message, from: worker.id, worker: to, message });
  }

  #wake(worker: TwinWorker): void {
    worker.wakeAtMs = Number.POSITIVE_INFINITY;
    this.#put(worker, ({ loop }) => loop.tick(this.#nowMs));
  }

  #ready(index: number): void {
    const worker = this.#workers[index]!;
    this.#byId.set(worker.id, worker);
    this.#observer.workerChanged(worker.id, "ready", 1, this.#nowMs);
    // As a worker tells each new subscriber.
    this.snapshotKv(worker.id);
    this.#dispatcher.workerReady(worker.facts, this.#nowMs);
    this.#context.pumpDispatcher();
  }

  /** The run is over: folds what every worker did into its hash, and says what came of the caches. */
  end(): void {
    for (const worker of this.#workers) {
      this.#context.hash.addText(worker.hash.hex);
      if (worker.isAlive) this.#observer.cachesDone?.(worker.id, worker.caches, false);
    }
  }

  checkInvariants(): void {
    for (const worker of this.#byId.values()) worker.loop.checkInvariants();
  }
}
