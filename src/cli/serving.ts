import type { ServeConfig } from "../protocol/fleet-file.ts";
import type { WorkerConfig } from "../protocol/worker-config.ts";
import type { Serving } from "../serve/start.ts";
import type { RunningWorker } from "../serve/worker/main.ts";

export type { Serving } from "../serve/start.ts";

/** The parts of the product that verbs run. */
export interface Product {
  /** Starts a fleet and its gateway; resolves when requests are taken. */
  startServing(config: ServeConfig): Promise<Serving>;
  /** Starts a worker; resolves when it listens. */
  runWorker(config: WorkerConfig): Promise<RunningWorker>;
}

/**
 * The real thing, loaded when it is needed: `--help` opens no engine. `script` is the entry of the command line, which
 * worker processes run too.
 */
export function createProduct(script: string): Product {
  return {
    async startServing(config) {
      const { startServing } = await import("../serve/start.ts");
      return startServing(config, { workerCommand: [script, "worker"], logTo: process.stderr });
    },
    async runWorker(config) {
      const { runWorker } = await import("../serve/worker/main.ts");
      return runWorker(config);
    },
  };
}
