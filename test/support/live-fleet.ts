import { PassThrough } from "node:stream";
import { Dispatcher } from "../../src/core/dispatch/dispatcher.ts";
import type { HandoffMessage } from "../../src/core/handoff/messages.ts";
import type { Request, WorkerId, WorkerRole } from "../../src/core/request.ts";
import { createLoadPlacement, type PlacementPolicy } from "../../src/core/router/placement.ts";
import type { StepPlan } from "../../src/core/scheduler/step-plan.ts";
import { resolveWorkerConfig } from "../../src/protocol/worker-config.ts";
import { StubEngine } from "../../src/serve/engine/stub/stub-engine.ts";
import { WorkerFleet } from "../../src/serve/fleet/worker-fleet.ts";
import { createLogger } from "../../src/serve/telemetry/logger.ts";
import type { KvMesh } from "../../src/serve/transfer/kv-mesh.ts";
import { createDriver } from "../../src/serve/worker/assemble.ts";
import type { WorkerDriver } from "../../src/serve/worker/worker-driver.ts";

export interface LiveFleetOptions {
  readonly workers: ReadonlyArray<{ readonly id: WorkerId; readonly role: WorkerRole }>;
  readonly kvTokens: number;
  readonly chunkTokens: number;
  readonly maxRunning: number;
  readonly policy: string;
  /** Of any step, and of every token in it. */
  readonly stepMs: number;
  readonly tokenMs: number;
  readonly latencyMs: number;
  /** Default: by load. */
  readonly placement?: PlacementPolicy;
  /** Default: nothing is kept. */
  readonly prefixCacheTokens?: number;
}

/** Our server's parts from the dispatcher to the engine, in one process: real drivers and stub engines, on links of a fixed latency. */
export class LiveFleet {
  readonly plans = new Map<WorkerId, string[]>();
  readonly placements = new Map<string, string>();
  readonly ends = new Map<string, string>();
  readonly #drivers = new Map<WorkerId, WorkerDriver>();
  readonly #fleet: WorkerFleet;

  constructor(options: LiveFleetOptions) {
    const dispatcher = new Dispatcher({
      placement: options.placement ?? createLoadPlacement({ localPrefillBelowTokens: 0 }),
      maxRequests: 10_000,
      maxWaitMs: 60_000,
      maxAttempts: 3,
    });
    const logger = createLogger({ level: "silent", destination: new PassThrough() });
    this.#fleet = new WorkerFleet({
      dispatcher,
      contextTokens: 4096,
      nowMs: () => performance.now(),
      logger,
    });
    for (const { id, role } of options.workers) this.#start(id, role, options);
  }

  submit(request: Request): void {
    this.#fleet.submit(request, {
      onPlaced: ({ prefillWorker, decodeWorker }) =>
        this.placements.set(request.id, `${prefillWorker} ${decodeWorker}`),
      onCached: () => {},
      onTokens: () => {},
      onFinish: ({ reason }) => this.ends.set(request.id, reason),
      onError: ({ code }) => this.ends.set(request.id, code),
    });
  }

  stop(): void {
    for (const driver of this.#drivers.values()) driver.stop();
    this.#fleet.close();
  }

  #start(id: WorkerId, role: WorkerRole, options: LiveFleetOptions): void {
    const { kvTokens, chunkTokens, maxRunning, policy, stepMs, tokenMs } = options;
    const engine = new StubEngine({
      kvCapacityTokens: kvTokens,
      timing: { stepBaseMs: stepMs, prefillMsPerToken: tokenMs, decodeMsPerSequence: tokenMs },
    });
    const plans: string[] = [];
    this.plans.set(id, plans);
    const execute = engine.execute.bind(engine);
    engine.execute = (plan) => {
      plans.push(describePlan(plan));
      return execute(plan);
    };
    const config = resolveWorkerConfig(
      {
        workerId: id,
        role,
        engine: "stub",
        contextTokens: Math.min(4096, kvTokens),
        kvCapacityTokens: kvTokens,
        chunkTokens,
        maxRunning,
        policy,
        prefixCacheTokens: options.prefixCacheTokens ?? 0,
        listen: "unix:/unused",
        kvListen: "unix:/unused-kv",
      },
      () => "test",
    );
    const driver = createDriver(config, engine, (error) => {
      throw error;
    });
    driver.attachMesh(this.#meshOf(id, options.latencyMs), `unix:/${id}`);
    this.#drivers.set(id, driver);
    this.#fleet.addWorker(driver.hello(), {
      submit: async (request, assignment) => driver.submit(request, assignment),
      cancel: async (requestId, epoch) => driver.cancel(requestId, epoch),
      expect: async (expectation) => driver.expect(expectation),
      snapshotKv: async () => driver.snapshotKv(),
      close: () => {},
    });
    const { takesReports } = this.#fleet;
    // As a stream does it: after the fleet knows the worker, and never inside of a call.
    driver.subscribe((event) => this.#fleet.onWorkerEvent(id, event), { reports: takesReports });
  }

  /** Messages take a fixed time; frames of KV follow each other, each when the one before has arrived. */
  #meshOf(from: WorkerId, latencyMs: number): KvMesh {
    const lanes = new Map<WorkerId, Promise<void>>();
    const deliver = (peer: WorkerId, message: HandoffMessage): Promise<void> =>
      new Promise((resolve) =>
        setTimeout(() => {
          this.#drivers.get(peer)!.receive(from, message);
          resolve();
        }, latencyMs),
      );
    return {
      listen: async (address) => address,
      connect: async () => {},
      isConnected: () => true,
      close: async () => {},
      send(peer, message) {
        if (message.kind !== "kv") return deliver(peer, message);
        const lane = (lanes.get(peer) ?? Promise.resolve()).then(() => deliver(peer, message));
        lanes.set(peer, lane);
        return lane;
      },
    };
  }
}

/** Request, first position and number of tokens of every chunk. */
export function describePlan(plan: StepPlan): string {
  return plan.chunks
    .map(({ sequence, start, numTokens }) => `${sequence.request.id}@${start}+${numTokens}`)
    .join(" ");
}
