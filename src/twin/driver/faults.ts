import type { WorkerId } from "../../core/request.ts";
import type { TwinFault } from "../twin-spec.ts";
import type { HostContext } from "./host-context.ts";
import type { KvTransfers } from "./kv-transfers.ts";
import { RANK } from "./twin-events.ts";
import type { TwinWorker } from "./twin-worker.ts";

/** The workers that faults come upon, and what a fault needs to do with them. */
export interface FaultTargets {
  readonly context: HostContext;
  readonly transfers: KvTransfers;
  /** By place in the specification. */
  readonly workers: TwinWorker[];
  /** Those that are ready. */
  readonly byId: Map<WorkerId, TwinWorker>;
  /** Brings a worker up to now. */
  readonly bringUp: (worker: TwinWorker) => void;
  readonly pump: (worker: TwinWorker) => void;
  /** A new process in the place of one that has died. */
  readonly restart: (index: number, id: WorkerId) => TwinWorker;
}

/** Brings the faults of a specification upon its workers and links. */
export class Faults {
  readonly #targets: FaultTargets;
  readonly #context: HostContext;

  constructor(targets: FaultTargets) {
    this.#targets = targets;
    this.#context = targets.context;
    const { spec, heap } = targets.context;
    for (const fault of spec.faults) heap.push({ kind: "fault", atMs: fault.atMs, rank: RANK.fault, fault });
  }

  bring(fault: TwinFault): void {
    const { spec, clock, heap, observer } = this.#context;
    const { workers, byId, bringUp } = this.#targets;
    if (fault.kind === "slow-link") {
      spec.network.scale(fault.endpoint, fault.factor, clock.nowMs);
      return;
    }
    const index = spec.workers.findIndex(({ id }) => id === fault.worker);
    const worker = workers[index]!;
    if (fault.kind === "slow-worker") {
      // Steps that are priced and have not begun take the new speed as well.
      bringUp(worker);
      worker.engine.slowFactor = fault.factor;
      observer.workerChanged(worker.id, "slow", fault.factor, clock.nowMs);
      return;
    }
    if (!worker.isAlive || !byId.has(worker.id)) return;
    this.#crash(worker);
    if (fault.restarts) {
      const generation = Number(worker.id.split("#")[1] ?? 1) + 1;
      const restarted = this.#targets.restart(index, `${worker.spec.id}#${generation}`);
      // The part stays slow: a new process does not mend it.
      restarted.engine.slowFactor = worker.engine.slowFactor;
      workers[index] = restarted;
      const atMs = clock.nowMs + worker.spec.startUpMs;
      heap.push({ kind: "ready", atMs, rank: RANK.ready, index });
    }
  }

  /** The process has gone: its connections break, which gateway and peers see at once. */
  #crash(worker: TwinWorker): void {
    const { clock, hash, observer, dispatcher, pumpDispatcher } = this.#context;
    const { byId, transfers, bringUp, pump } = this.#targets;
    bringUp(worker);
    worker.isAlive = false;
    worker.held = [];
    worker.rowVersion++;
    hash.addText(worker.hash.hex);
    byId.delete(worker.id);
    transfers.drop(worker, clock.nowMs);
    observer.workerChanged(worker.id, "lost", 1, clock.nowMs);
    observer.cachesDone?.(worker.id, worker.caches, true);
    dispatcher.workerLost(worker.id, clock.nowMs);
    pumpDispatcher();
    for (const peer of byId.values()) {
      bringUp(peer);
      peer.loop.peerLost(worker.id, clock.nowMs);
      pump(peer);
    }
  }
}
