import type { Request } from "../../src/core/request.ts";
import type { TurnExpectation } from "../../src/core/sessions/turn-expectation.ts";
import { resolveWorkerConfig, type WorkerConfigValues } from "../../src/protocol/worker-config.ts";
import type { WorkerEvent, WorkerLoad } from "../../src/protocol/worker-rpc.ts";
import type { Engine } from "../../src/serve/engine/engine.ts";
import { openTiers } from "../../src/serve/tiers/open-tiers.ts";
import { createDriver } from "../../src/serve/worker/assemble.ts";
import type { WorkerDriver } from "../../src/serve/worker/worker-driver.ts";

/** How a request ended: its tokens, and how many of its prompt were not computed. */
export interface SoloOutcome {
  readonly tokens: readonly number[];
  readonly numCached: number;
  readonly end: "finished" | "failed" | "cancelled";
}

/** One worker without a server around it: the real driver, tiers and engine, and requests that run here alone. */
export class SoloWorker {
  readonly warnings: string[];
  readonly #driver: WorkerDriver;
  readonly #engine: Engine;
  readonly #closeTiers: () => Promise<void>;
  readonly #open = new Map<
    string,
    { tokens: number[]; numCached: number; settle(end: SoloOutcome["end"]): void }
  >();
  /** Look whether what they wait for has come about. */
  #waiting: Array<() => boolean> = [];
  /** What has ended the worker, if something has. */
  fatal: unknown = null;

  private constructor(
    engine: Engine,
    driver: WorkerDriver,
    warnings: string[],
    closeTiers: () => Promise<void>,
  ) {
    this.#engine = engine;
    this.#driver = driver;
    this.warnings = warnings;
    this.#closeTiers = closeTiers;
    const onEvent = (event: WorkerEvent): void => {
      if (event.kind === "tokens") {
        for (const { requestId, index, sampled } of event.tokens) {
          const open = this.#open.get(requestId);
          if (open !== undefined) open.tokens[index] = sampled.token;
        }
      } else if (event.kind === "cached") {
        const open = this.#open.get(event.requestId);
        if (open !== undefined) open.numCached = event.numTokens;
      } else if (event.kind === "finish") this.#open.get(event.requestId)?.settle("finished");
      else if (event.kind === "error") this.#open.get(event.requestId)?.settle("failed");
      this.#waiting = this.#waiting.filter((looks) => !looks());
    };
    driver.subscribe(onEvent, { reports: true });
  }

  static async start(
    engine: Engine,
    values: Partial<WorkerConfigValues>,
    key: Buffer = Buffer.alloc(32, 7),
  ): Promise<SoloWorker> {
    const config = resolveWorkerConfig(
      {
        workerId: "w",
        role: "both",
        engine: "stub",
        kvCapacityTokens: engine.info.kvCapacityTokens,
        contextTokens: engine.info.kvCapacityTokens,
        listen: "unix:/unused",
        kvListen: "unix:/unused-kv",
        ...values,
      },
      () => "test",
    );
    const warnings: string[] = [];
    const tiers = await openTiers(config, engine, { key, warn: (message) => warnings.push(message) });
    let solo: SoloWorker | null = null;
    const driver = createDriver(
      config,
      engine,
      (error) => {
        if (solo !== null) solo.fatal ??= error;
      },
      tiers,
    );
    solo = new SoloWorker(engine, driver, warnings, async () => tiers?.close());
    return solo;
  }

  run(request: Request): Promise<SoloOutcome> {
    return new Promise((resolve) => {
      const tokens: number[] = [];
      const open = {
        tokens,
        numCached: 0,
        settle: (end: SoloOutcome["end"]) => {
          this.#open.delete(request.id);
          resolve({ tokens, numCached: open.numCached, end });
        },
      };
      this.#open.set(request.id, open);
      this.#driver.submit(request, { kind: "local" });
    });
  }

  expect(expectation: TurnExpectation): void {
    this.#driver.expect(expectation);
  }

  /** Resolves when an event of the worker has come after which its load is as wanted. */
  until(isWanted: (load: WorkerLoad) => boolean): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(() => {
        const isTrue = isWanted(this.load);
        if (isTrue) resolve();
        return isTrue;
      });
    });
  }

  cancel(request: Request): void {
    this.#driver.cancel(request.id, request.epoch);
    this.#open.get(request.id)?.settle("cancelled");
  }

  get modelId(): string {
    return this.#engine.info.modelId;
  }

  get load(): ReturnType<WorkerDriver["load"]> {
    return this.#driver.load();
  }

  /** Throws when the bookkeeping is inconsistent. */
  check(): void {
    if (this.fatal !== null) throw this.fatal;
    this.#driver.checkInvariants();
  }

  /** As a worker process ends: everything that was asked for is still done. */
  async stop(): Promise<void> {
    this.#driver.stop();
    await this.#engine.close();
    await this.#closeTiers();
  }
}
