import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { WorkerId, WorkerRole } from "../../core/request.ts";
import {
  FLEET_SECRET_ENV,
  WORKER_CONFIG_ENV,
  type WorkerConfigValues,
} from "../../protocol/worker-config.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { WorkerStatus } from "./fleet.ts";
import { fleetKeys } from "./fleet-keys.ts";
import { type FleetIdentity, joinFleet } from "./remote-worker.ts";
import {
  type ChildReport,
  type ChildState,
  createSupervisor,
  type OutputLine,
  type Supervisor,
} from "./supervisor.ts";
import type { WorkerFleet } from "./worker-fleet.ts";

/** Lines of a worker's output that are kept for the message when it can't start. */
const KEPT_LINES = 20;

/** A worker process ended before it could be used; the message has what it said. */
export class WorkerStartError extends Error {
  override name = "WorkerStartError";
  readonly code = "worker_failed";
}

/** Settings that all workers of this machine share; the rest of their configuration is made per process. */
export type SharedWorkerConfig = Omit<
  WorkerConfigValues,
  "workerId" | "role" | "listen" | "kvListen" | "stepLog"
>;

export interface LocalWorkersOptions {
  readonly fleet: WorkerFleet;
  readonly identity: FleetIdentity;
  readonly logger: Logger;
  readonly secret: string;
  /** Folder for sockets; only this user may enter it. */
  readonly runDirectory: string;
  /** Script that runs a worker when it finds a configuration in its environment, with its arguments. */
  readonly command: readonly string[];
  readonly config: SharedWorkerConfig;
  readonly readyTimeoutMs: number;
  /** Folder for step logs, or null: none are written. */
  readonly stepLogFolder: string | null;
}

interface Slot {
  readonly name: string;
  readonly role: WorkerRole;
  state: ChildState;
  pid: number | null;
  workerId: WorkerId;
  readonly lastLines: string[];
}

/** The worker processes that this server has started and keeps running. */
export class LocalWorkers {
  readonly #options: LocalWorkersOptions;
  readonly #supervisor: Supervisor;
  readonly #slots = new Map<string, Slot>();
  readonly #settled = new Map<string, { resolve: () => void; reject: (error: Error) => void }>();

  constructor(options: LocalWorkersOptions) {
    this.#options = options;
    this.#supervisor = createSupervisor({
      onReport: (report) => this.#onReport(report),
      onOutput: (line) => this.#onOutput(line),
      limits: { readyTimeoutMs: options.readyTimeoutMs },
    });
  }

  /** Starts a worker; resolves when it has joined the fleet, rejects when its first start fails. */
  start(role: WorkerRole, index: number): Promise<void> {
    const name = `${role}-${index}`;
    this.#slots.set(name, { name, role, state: "starting", pid: null, workerId: name, lastLines: [] });
    const joined = new Promise<void>((resolve, reject) => this.#settled.set(name, { resolve, reject }));
    this.#supervisor.start({
      name,
      args: this.#options.command,
      env: (incarnation) => this.#environment(name, role, incarnation),
    });
    return joined;
  }

  /** Workers that are not in the fleet now. */
  pending(): WorkerStatus[] {
    return [...this.#slots.values()]
      .filter(({ state }) => state !== "ready")
      .map(({ workerId, role, state, pid }) => ({
        id: workerId,
        role,
        state: state === "failed" ? "failed" : state === "starting" ? "starting" : "lost",
        pid,
        numRunning: 0,
        numWaiting: 0,
        kvTokensUsed: 0,
        kvTokensTotal: 0,
        numSteps: 0,
      }));
  }

  list(): ReadonlyArray<{ id: WorkerId; role: WorkerRole; pid: number | null }> {
    return [...this.#slots.values()].map(({ workerId, role, pid }) => ({ id: workerId, role, pid }));
  }

  async close(): Promise<void> {
    this.#options.fleet.expectLosses();
    await this.#supervisor.close();
  }

  /** A restarted worker is a new worker: it gets a new id and new sockets. */
  #environment(name: string, role: WorkerRole, incarnation: number): Record<string, string> {
    const workerId = incarnation === 0 ? name : `${name}.${incarnation}`;
    const slot = this.#slots.get(name)!;
    slot.workerId = workerId;
    const { stepLogFolder } = this.#options;
    const config: WorkerConfigValues = {
      ...this.#options.config,
      workerId,
      role,
      // Of the place in the fleet, not of the process: what one leaves is there for the next.
      tiers: { ...this.#options.config.tiers, diskFolder: name },
      listen: `unix:${this.#socket(workerId, "rpc")}`,
      kvListen: `unix:${this.#socket(workerId, "kv")}`,
      ...(stepLogFolder === null ? {} : { stepLog: join(stepLogFolder, `${workerId}.jsonl`) }),
    };
    return { [WORKER_CONFIG_ENV]: JSON.stringify(config), [FLEET_SECRET_ENV]: this.#options.secret };
  }

  #socket(workerId: WorkerId, kind: "rpc" | "kv"): string {
    return join(this.#options.runDirectory, `${workerId}.${kind}`);
  }

  #onReport(report: ChildReport): void {
    const slot = this.#slots.get(report.name)!;
    slot.pid = report.pid;
    slot.state = report.state;
    const { logger, fleet } = this.#options;
    if (report.state === "ready") {
      // It counts as starting until it has joined.
      slot.state = "starting";
      this.#join(slot).catch((error: Error) => {
        logger.error({ worker: slot.workerId, problem: error.message }, "worker can't join");
        this.#settle(slot, error);
      });
    } else if (report.state === "backing-off" || report.state === "failed" || report.state === "stopped") {
      fleet.removeWorker(slot.workerId, report.reason);
      const told = report.state === "stopped" ? "debug" : report.state === "failed" ? "error" : "warn";
      logger[told]({ worker: slot.workerId, reason: report.reason }, `worker ${report.state}`);
      this.#settle(
        slot,
        new WorkerStartError([`worker ${slot.workerId} ${report.reason}`, ...slot.lastLines].join("\n")),
      );
      for (const kind of ["rpc", "kv"] as const) {
        // What a killed process leaves behind; a clean end has removed it.
        void rm(this.#socket(slot.workerId, kind), { force: true });
      }
    }
  }

  async #join(slot: Slot): Promise<void> {
    const { fleet, identity, secret } = this.#options;
    const address = `unix:${this.#socket(slot.workerId, "rpc")}`;
    await joinFleet({
      fleet,
      identity,
      address,
      kvAddress: null,
      token: fleetKeys(secret).rpcToken,
      onLost: () => this.#onSilent(slot),
    });
    slot.state = "ready";
    this.#settle(slot, null);
  }

  /** The connection is gone. If the process is not, it is wedged: end it, so that it is started anew. */
  #onSilent(slot: Slot): void {
    if (slot.state !== "ready" || slot.pid === null) return;
    try {
      process.kill(slot.pid, "SIGKILL");
    } catch {
      // It has ended already, and the supervisor will hear of it.
    }
  }

  #settle(slot: Slot, error: Error | null): void {
    const waiting = this.#settled.get(slot.name);
    this.#settled.delete(slot.name);
    if (error === null) waiting?.resolve();
    else waiting?.reject(error);
  }

  #onOutput({ name, stream, line }: OutputLine): void {
    const slot = this.#slots.get(name)!;
    slot.lastLines.push(line);
    if (slot.lastLines.length > KEPT_LINES) slot.lastLines.shift();
    if (stream === "stderr") this.#options.logger.warn({ worker: slot.workerId }, line);
    else this.#options.logger.debug({ worker: slot.workerId }, line);
  }
}

/** A secret for a fleet that lives and dies with this process. */
export function newFleetSecret(): string {
  return randomBytes(32).toString("hex");
}
