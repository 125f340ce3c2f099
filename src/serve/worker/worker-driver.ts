import type { HandoffId, HandoffMessage } from "../../core/handoff/messages.ts";
import type { BlockManager } from "../../core/kv/block-manager.ts";
import type { KvRange } from "../../core/kv/kv-ops.ts";
import type { Request, RequestId, WorkerId, WorkerRole } from "../../core/request.ts";
import type { Scheduler } from "../../core/scheduler/scheduler.ts";
import type { StepPlan } from "../../core/scheduler/step-plan.ts";
import { assertNever } from "../../core/util/assert.ts";
import type { WorkerEffect } from "../../core/worker-effects.ts";
import type { WorkerLoop } from "../../core/worker-loop.ts";
import { ServingError } from "../../protocol/errors.ts";
import {
  type Assignment,
  PROTOCOL_VERSION,
  type SubscribeOptions,
  type WorkerHello,
  type WorkerLoad,
  type WorkerService,
} from "../../protocol/worker-rpc.ts";
import { type Engine, EngineError } from "../engine/engine.ts";
import type { WorkerTiers } from "../tiers/open-tiers.ts";
import type { KvMesh } from "../transfer/kv-mesh.ts";
import { checkRequest } from "./check-request.ts";
import { FetchServer } from "./fetch-server.ts";
import { piecesOf } from "./kv-pieces.ts";
import { Observations } from "./observations.ts";
import { toWorkerEvents } from "./request-events.ts";
import { type EventSink, Subscribers } from "./subscribers.ts";
import { taskOf } from "./task-of.ts";

/** How often the gateway hears from a worker that has nothing else to say. */
const HEARTBEAT_MS = 500;
/** How long a worker that nobody supervises lets its requests finish when it is told to stop. */
const DRAIN_MS = 30_000;
const DRAIN_POLL_MS = 20;

export interface WorkerDriverOptions {
  readonly workerId: WorkerId;
  readonly role: WorkerRole;
  readonly contextTokens: number;
  readonly tokenBudget: number;
  readonly maxRunning: number;
  readonly engine: Engine;
  readonly loop: WorkerLoop;
  readonly scheduler: Scheduler;
  readonly blocks: BlockManager;
  /** Null: there are no tiers of KV below the engine. */
  readonly tiers: WorkerTiers | null;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  /** Called once when the engine has failed in a way that this process can't recover from. */
  readonly onFatal: (error: unknown) => void;
}

/**
 * Drives a {@link WorkerLoop} with a real engine, real links and a real clock. It carries effects out and reports back;
 * every decision is the loop's.
 */
export class WorkerDriver implements WorkerService {
  readonly #options: WorkerDriverOptions;
  readonly #loop: WorkerLoop;
  readonly #engine: Engine;
  readonly #subscribers = new Subscribers();
  readonly #observations: Observations;
  readonly #connecting = new Map<WorkerId, Promise<void>>();
  #mesh: KvMesh | null = null;
  #kvAddress = "";
  #handoffBytes = 0;
  /** When the engine ended its last call: a call behind it begins then. */
  #engineFreeAtMs = 0;
  readonly #fetches: FetchServer;
  #draining = false;
  #stopped = false;
  #wakeTimer: NodeJS.Timeout | null = null;
  #wakeAtMs = Number.POSITIVE_INFINITY;
  readonly #heartbeat: NodeJS.Timeout;

  constructor(options: WorkerDriverOptions) {
    this.#options = options;
    this.#loop = options.loop;
    this.#engine = options.engine;
    this.#observations = new Observations(this.#subscribers, options.nowMs);
    this.#heartbeat = setInterval(
      () => this.#subscribers.publish({ kind: "load", load: this.load() }),
      HEARTBEAT_MS,
    );
    this.#heartbeat.unref();
    this.#fetches = new FetchServer({
      ...this.#kvSizes,
      exportKv: (range) => this.#engine.exportKv(range),
      deliver: (peer, message) => this.#deliver(peer, message),
      exported: () => this.#engineCalled(),
      nowMs: options.nowMs,
      readTier: (piece, positions) => options.tiers!.driver.read(piece, positions),
      answered: (answer, bad) =>
        this.#report((nowMs) => this.#loop.tierReport({ kind: "answered", answer, bad }, nowMs)),
      fatal: (error) => options.onFatal(error),
    });
    options.tiers?.driver.listen({
      report: (report) => this.#report((nowMs) => this.#loop.tierReport(report, nowMs)),
      engineCalled: () => this.#engineCalled(),
      fatal: (error) => options.onFatal(error),
    });
  }

  /** Joins the driver to its links; messages go to `receive` and `peerLost`. */
  attachMesh(mesh: KvMesh, kvAddress: string): void {
    this.#mesh = mesh;
    this.#kvAddress = kvAddress;
  }

  hello(): WorkerHello {
    return {
      protocolVersion: PROTOCOL_VERSION,
      workerId: this.#options.workerId,
      role: this.#options.role,
      pid: process.pid,
      engine: this.#engine.info,
      blockSizeTokens: this.#options.blocks.blockSizeTokens,
      contextTokens: this.#options.contextTokens,
      tokenBudget: this.#options.tokenBudget,
      maxRunning: this.#options.maxRunning,
      kvAddress: this.#kvAddress,
    };
  }

  load(): WorkerLoad {
    const { scheduler, blocks } = this.#options;
    const prefix = scheduler.prefixTokens;
    return {
      numRunning: scheduler.numRunning + scheduler.numParked,
      numWaiting: scheduler.numWaiting,
      uncomputedTokens: scheduler.uncomputedTokens,
      kvBlocksUsed: blocks.numUsedBlocks,
      kvBlocksCached: blocks.numCachedBlocks,
      kvBlocksTotal: blocks.numBlocks,
      numSteps: scheduler.numSteps,
      numPreemptions: scheduler.numPreemptions,
      prefixTokensHit: prefix.hit,
      prefixTokensQueried: prefix.queried,
      handoffs: { ...this.#loop.handoffCounts },
      handoffBytes: this.#handoffBytes,
      tiers: Object.fromEntries(this.#options.tiers?.tiers.stats ?? []),
      rssBytes: process.memoryUsage.rss(),
    };
  }

  submit(request: Request, assignment: Assignment): void {
    if (this.#draining) throw new ServingError("draining", "this worker is shutting down");
    const { contextTokens, blocks } = this.#options;
    const { vocabSize } = this.#engine.info;
    checkRequest(request, { contextTokens, vocabSize, blockSizeTokens: blocks.blockSizeTokens });
    if (assignment.kind === "prefill") this.#connect(assignment.decodeWorker, assignment.decodeKvAddress);
    if (assignment.kind !== "decode" && assignment.fetch !== undefined)
      this.#connect(assignment.fetch.worker, assignment.fetch.kvAddress);
    const outcome = this.#loop.submit(request, taskOf(assignment), this.#options.nowMs());
    this.#pump();
    if (outcome === "queue_full") throw new ServingError("queue_full", "this worker's queue is full");
    if (outcome === "too_long") {
      throw new ServingError("context_length_exceeded", "the request does not fit this worker's KV memory");
    }
  }

  cancel(requestId: RequestId, epoch: number): void {
    this.#loop.cancel(requestId, epoch, this.#options.nowMs());
    this.#pump();
  }

  subscribe(sink: EventSink, options: SubscribeOptions = { reports: false }): { unsubscribe(): void } {
    this.#subscribers.add(sink, options);
    sink({ kind: "load", load: this.load() });
    if (options.reports) this.snapshotKv();
    return {
      unsubscribe: () => {
        // Nobody is left to receive what the requests would yield.
        if (this.#subscribers.delete(sink) && this.#subscribers.size === 0) {
          this.#loop.cancelAll(this.#options.nowMs());
          this.#pump();
        }
      },
    };
  }

  snapshotKv(): void {
    this.#options.blocks.kvEvents?.snapshot();
    this.#pump();
  }

  /** A message from another worker. */
  receive(peer: WorkerId, message: HandoffMessage): void {
    this.#observations.received(peer, message);
    this.#loop.receive(peer, message, this.#options.nowMs());
    this.#pump();
  }

  /** The link to another worker has gone. */
  peerLost(peer: WorkerId): void {
    this.#connecting.delete(peer);
    this.#observations.peerLost(peer);
    this.#loop.peerLost(peer, this.#options.nowMs());
    this.#pump();
  }

  /** Refuses new requests; those under way go on. */
  drain(): void {
    this.#draining = true;
  }

  /** Resolves when every request is over, or after {@link DRAIN_MS}. */
  async untilIdle(): Promise<void> {
    const deadlineMs = this.#options.nowMs() + DRAIN_MS;
    while (this.#loop.numRequests > 0 && this.#options.nowMs() < deadlineMs) {
      await new Promise((resolve) => setTimeout(resolve, DRAIN_POLL_MS));
    }
  }

  /** Stops timers and gives up every request. The engine is the caller's to close. */
  stop(): void {
    this.#loop.cancelAll(this.#options.nowMs());
    this.#pump();
    this.#stopped = true;
    clearInterval(this.#heartbeat);
    this.#subscribers.close();
    if (this.#wakeTimer !== null) clearTimeout(this.#wakeTimer);
  }

  /** Throws unless the decisions that it carries out agree with each other. */
  checkInvariants(): void {
    this.#loop.checkInvariants();
  }

  #pump(): void {
    if (this.#stopped) return;
    // Carrying out an effect may add further ones, when a port answers at once.
    for (let effects = this.#loop.takeEffects(); effects.length > 0; effects = this.#loop.takeEffects()) {
      for (const effect of effects) this.#carryOut(effect);
    }
    this.#armTimer();
  }

  #carryOut(effect: WorkerEffect): void {
    switch (effect.kind) {
      case "kv-ops":
        this.#engine.applyKvOps(effect.ops).catch((error) => this.#options.onFatal(error));
        return;
      case "execute":
        this.#execute(effect.plan);
        return;
      case "abort-step":
        this.#engine.abort();
        return;
      case "push-kv":
        this.#push(effect.peer, effect.id, effect.range);
        return;
      case "install-kv":
        this.#install(effect.id, effect.range, effect.payload);
        return;
      case "serve-kv":
        this.#fetches.serve(effect);
        return;
      case "send":
        this.#send(effect.peer, effect.message);
        return;
      case "emit":
        for (const event of toWorkerEvents(effect.events)) this.#subscribers.publish(event);
        return;
      case "offload":
      case "read-tier":
      case "delete-tier":
        this.#options.tiers!.driver.carryOut(effect);
        return;
      case "kv-events":
        this.#subscribers.report({ kind: "kv", batch: effect.batch });
        return;
      default:
        assertNever(effect);
    }
  }

  #execute(plan: StepPlan): void {
    const stepEnds = this.#observations.stepBegins(plan);
    const calledMs = this.#options.nowMs();
    this.#engine.execute(plan).then(
      (result) => {
        if (result.kind === "done") stepEnds();
        const endMs = this.#options.nowMs();
        const ms = endMs - Math.max(calledMs, this.#engineFreeAtMs);
        this.#engineFreeAtMs = endMs;
        this.#loop.stepDone(plan, result, endMs, ms);
        this.#pump();
      },
      (error) => this.#options.onFatal(error),
    );
  }

  get #kvSizes(): { readonly bytesPerToken: number; readonly blockSizeTokens: number } {
    const { engine, blocks } = this.#options;
    return { bytesPerToken: engine.info.kvBytesPerToken, blockSizeTokens: blocks.blockSizeTokens };
  }

  #push(peer: WorkerId, id: HandoffId, range: KvRange): void {
    // All exports are queued now: what the loop does next to these cells must come after them.
    const pieces = piecesOf(range, this.#kvSizes).map((piece) => ({
      piece,
      exported: this.#engine.exportKv(piece),
    }));
    const pushAll = async (): Promise<void> => {
      for (const { piece, exported } of pieces) {
        const payload = await exported;
        this.#engineCalled();
        this.#handoffBytes += payload.length;
        this.#observations.pushed(peer, id, payload.length, piece.start === range.start);
        await this.#deliver(peer, { kind: "kv", ...id, start: piece.start, end: piece.end, payload });
      }
    };
    // A failed send leaves later exports unread; their failures, if any, are not unexpected then.
    for (const { exported } of pieces) exported.catch(() => {});
    pushAll().then(
      () => this.#report((nowMs) => this.#loop.kvPushed(id, true, nowMs)),
      (error) => {
        if (error instanceof EngineError) this.#options.onFatal(error);
        else this.#report((nowMs) => this.#loop.kvPushed(id, false, nowMs));
      },
    );
  }

  /** The engine has ended a call that was no step. */
  #engineCalled(): void {
    this.#engineFreeAtMs = this.#options.nowMs();
    this.#observations.engineCalled();
  }

  #install(id: HandoffId, range: KvRange, payload: unknown): void {
    const calledMs = this.#options.nowMs();
    this.#engine.importKv(range, payload as Uint8Array).then(
      () => {
        // What the call waited for others to end is no part of its price.
        const ms = this.#options.nowMs() - Math.max(calledMs, this.#engineFreeAtMs);
        this.#engineCalled();
        this.#report((nowMs) => this.#loop.kvInstalled(id, range.end, true, nowMs, ms));
      },
      (error) => {
        // Bytes that do not fit are the sender's fault; anything else is ours.
        const refused = error instanceof EngineError && error.code === "bad_kv";
        if (refused) this.#report((nowMs) => this.#loop.kvInstalled(id, range.end, false, nowMs));
        else this.#options.onFatal(error);
      },
    );
  }

  #send(peer: WorkerId, message: HandoffMessage): void {
    this.#deliver(peer, message).catch(() => {
      if (message.kind !== "fetch") this.peerLost(peer);
      else {
        // A link without room costs the fetch, not the handoffs over it. One that is gone is told by itself.
        const { requestId, epoch } = message;
        this.receive(peer, { kind: "fetch-end", requestId, epoch });
      }
    });
  }

  /** Messages to one peer stay in order: those to a peer that is being connected to wait for it in turn. */
  #deliver(peer: WorkerId, message: HandoffMessage): Promise<void> {
    const mesh = this.#mesh;
    if (mesh === null) return Promise.reject(new Error("this worker has no links"));
    const connecting = this.#connecting.get(peer);
    if (connecting === undefined) return mesh.send(peer, message);
    return connecting.then(() => mesh.send(peer, message));
  }

  #connect(peer: WorkerId, address: string): void {
    if (this.#mesh === null || this.#mesh.isConnected(peer) || this.#connecting.has(peer)) return;
    const connecting = this.#mesh.connect(peer, address);
    this.#connecting.set(peer, connecting);
    connecting.then(
      () => this.#connecting.delete(peer),
      () => this.peerLost(peer),
    );
  }

  #report(call: (nowMs: number) => void): void {
    call(this.#options.nowMs());
    this.#pump();
  }

  #armTimer(): void {
    const wakeAtMs = this.#loop.nextDeadlineMs;
    if (wakeAtMs === this.#wakeAtMs) return;
    this.#wakeAtMs = wakeAtMs;
    if (this.#wakeTimer !== null) clearTimeout(this.#wakeTimer);
    this.#wakeTimer = null;
    if (wakeAtMs === Number.POSITIVE_INFINITY) return;
    const delayMs = Math.max(1, wakeAtMs - this.#options.nowMs());
    this.#wakeTimer = setTimeout(() => {
      this.#wakeAtMs = Number.POSITIVE_INFINITY;
      this.#report((nowMs) => this.#loop.tick(nowMs));
    }, delayMs);
    this.#wakeTimer.unref();
  }
}
