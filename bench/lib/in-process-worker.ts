import { fileURLToPath } from "node:url";
import { GREEDY, type Request } from "../../src/core/request.ts";
import { resolveWorkerConfig, type WorkerConfig } from "../../src/protocol/worker-config.ts";
import type { WorkerEvent } from "../../src/protocol/worker-rpc.ts";
import type { Engine } from "../../src/serve/engine/engine.ts";
import { createDriver, openWorkerEngine } from "../../src/serve/worker/assemble.ts";
import type { WorkerDriver } from "../../src/serve/worker/worker-driver.ts";

export const BUILT_IN_MODEL = fileURLToPath(
  new URL("../../models/lexicon-3m/lexicon-3m.Q8_0.gguf", import.meta.url),
);

export interface InProcessWorker {
  readonly driver: WorkerDriver;
  readonly engine: Engine;
  readonly config: WorkerConfig;
  /** Submits requests and resolves when each has finished. Rejects when one fails. */
  run(requests: readonly Request[]): Promise<void>;
  close(): Promise<void>;
}

/** A worker without links and sockets, in this process, so that its CPU time can be told from everything else's. */
export async function openInProcessWorker(
  overrides: Record<string, unknown>,
  open: (config: WorkerConfig) => Promise<Engine> = openWorkerEngine,
): Promise<InProcessWorker> {
  const values = {
    workerId: "bench",
    role: "both",
    modelPath: BUILT_IN_MODEL,
    listen: "unix:/tmp/unused",
    kvListen: "unix:/tmp/unused-kv",
    ...overrides,
  };
  const config = resolveWorkerConfig(values, () => "bench");
  const engine = await open(config);
  const driver = createDriver(config, engine, (error) => {
    throw error;
  });
  return {
    driver,
    engine,
    config,
    run: (requests) => runAll(driver, requests),
    async close() {
      driver.stop();
      await engine.close();
    },
  };
}

function runAll(driver: WorkerDriver, requests: readonly Request[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const open = new Set(requests.map(({ id }) => id));
    const onEvent = (event: WorkerEvent): void => {
      if (event.kind === "error") reject(new Error(event.message));
      if (event.kind !== "finish") return;
      open.delete(event.requestId);
      if (open.size > 0) return;
      subscription.unsubscribe();
      resolve();
    };
    const subscription = driver.subscribe(onEvent);
    for (const request of requests) driver.submit(request, { kind: "local" });
  });
}

let numRequests = 0;

/** A greedy request with a prompt of its own, so that no prefix is shared. */
export function benchRequest(numPromptTokens: number, maxOutputTokens: number): Request {
  const salt = numRequests++;
  const promptTokens = Int32Array.from(
    { length: numPromptTokens },
    (_, i) => 300 + (((Math.imul(i + 1, 2_654_435_761) ^ Math.imul(salt + 1, 40_503)) >>> 8) % 3700),
  );
  return {
    id: `bench-${salt}`,
    epoch: 1,
    promptTokens,
    resumedTokens: new Int32Array(0),
    maxOutputTokens,
    minOutputTokens: 0,
    ignoreEndOfGeneration: true,
    sampling: GREEDY,
    cacheSalt: "",
    priority: 0,
  };
}
