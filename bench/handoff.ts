/**
 * Handoff time that is not hidden behind prefill, as a share of prefill time, at 1,024 prompt tokens.
 *
 * A prefill worker in this process hands over to a decode worker in another. Exposed is the time during which nothing computes
 * because of the handoff: the exports, which hold the engine between two steps, and the tail from the first token until the
 * decode worker has verified everything and could step. For a check there is also the plain difference to the same prefill
 * without a handoff, taken in turn with a new prompt each time; its noise is that of whole prefills.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { WorkerEvent } from "../src/protocol/worker-rpc.ts";
import { PROTOCOL_VERSION } from "../src/protocol/worker-rpc.ts";
import { fleetKeys } from "../src/serve/fleet/fleet-keys.ts";
import { connectWorker, type WorkerClient } from "../src/serve/fleet/worker-client.ts";
import { createKvMesh } from "../src/serve/transfer/kv-mesh.ts";
import {
  BUILT_IN_MODEL,
  benchRequest,
  type InProcessWorker,
  openInProcessWorker,
} from "./lib/in-process-worker.ts";
import { SMOLLM2_135M_SHAPE, writeRandomGguf } from "./lib/random-gguf.ts";
import { median, report, round } from "./lib/report.ts";

const PROMPT_TOKENS = 1024;
const SECRET = "a secret for a benchmark on this machine";
const CLI = new URL("../dist/cli/main.js", import.meta.url).pathname;

interface Measured {
  readonly model: string;
  readonly prefillMs: number;
  readonly exportsMs: number;
  readonly tailMs: number;
  readonly exposedMs: number;
  readonly differenceMs: number;
  readonly exposedShare: number;
  readonly kvKilobytes: number;
}

const folder = mkdtempSync(join(tmpdir(), "twofold-bench-"));
try {
  const builtIn = await measure("built-in", BUILT_IN_MODEL, 64, 15);
  const path = join(folder, "random-135m.gguf");
  writeRandomGguf(path, SMOLLM2_135M_SHAPE);
  const large = await measure("135M shape, random", path, 64, 2);
  report({
    title: `Exposed handoff time at ${PROMPT_TOKENS} tokens, chunks of 64`,
    rows: [builtIn, large].map((row) => ({ ...row })),
    result: { exposedShare: round(builtIn.exposedShare), exposedShare135m: round(large.exposedShare) },
  });
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function measure(
  model: string,
  modelPath: string,
  chunkTokens: number,
  rounds: number,
): Promise<Measured> {
  const sizes = {
    modelPath,
    chunkTokens,
    maxRunning: 4,
    contextTokens: 2048,
    kvCapacityTokens: 4096,
    prefixCacheTokens: 0,
  };
  const keys = fleetKeys(SECRET);
  const prefill = await openInProcessWorker({ ...sizes, workerId: "p", role: "prefill" });
  const { info } = prefill.engine;
  const mesh = createKvMesh({
    identity: {
      workerId: "p",
      modelId: info.modelId,
      tokenizerId: info.tokenizerId,
      kvType: info.kvType,
      blockSizeTokens: 16,
      protocolVersion: PROTOCOL_VERSION,
    },
    secret: keys.linkSecret,
    onMessage: (peer, message) => prefill.driver.receive(peer, message),
    onPeerLost: (peer) => prefill.driver.peerLost(peer),
  });
  prefill.driver.attachMesh(mesh, await mesh.listen(`unix:${join(folder, `${chunkTokens}-p.kv`)}`));
  const decode = await startDecodeWorker(sizes, keys.rpcToken);
  const exports = timeExports(prefill);
  const locals: number[] = [];
  const splits: SplitTime[] = [];
  for (let i = 0; i <= rounds; i++) {
    const local = await timeLocal(prefill);
    const split = await timeSplit(prefill, decode, exports);
    // The first round warms caches, compiler and connection.
    if (i === 0) continue;
    locals.push(local);
    splits.push(split);
  }
  await decode.stop();
  await mesh.close();
  await prefill.close();
  const prefillMs = median(locals);
  const exportsMs = median(splits.map((split) => split.exportsMs));
  const tailMs = median(splits.map((split) => split.tailMs));
  const exposedMs = exportsMs + tailMs;
  return {
    model,
    prefillMs,
    exportsMs,
    tailMs,
    exposedMs,
    differenceMs: median(splits.map((split, i) => split.totalMs - locals[i]!)),
    exposedShare: exposedMs / prefillMs,
    kvKilobytes: (info.kvBytesPerToken * PROMPT_TOKENS) / 1000,
  };
}

/** Adds up how long exports have held the engine. */
function timeExports({ engine }: InProcessWorker): { totalMs: number } {
  const clock = { totalMs: 0 };
  const exportKv = engine.exportKv.bind(engine);
  engine.exportKv = async (range) => {
    const startMs = performance.now();
    const bytes = await exportKv(range);
    clock.totalMs += performance.now() - startMs;
    return bytes;
  };
  return clock;
}

interface SplitTime {
  readonly totalMs: number;
  readonly exportsMs: number;
  readonly tailMs: number;
}

async function timeLocal(worker: InProcessWorker): Promise<number> {
  const startMs = performance.now();
  await worker.run([benchRequest(PROMPT_TOKENS, 1)]);
  return performance.now() - startMs;
}

interface DecodeWorker {
  readonly client: WorkerClient;
  /** Resolves when the worker has reported a first token: it holds and has verified everything. */
  firstToken(requestId: string): Promise<void>;
  stop(): Promise<void>;
}

async function timeSplit(
  prefill: InProcessWorker,
  decode: DecodeWorker,
  exports: { readonly totalMs: number },
): Promise<SplitTime> {
  const request = benchRequest(PROMPT_TOKENS, 2);
  const { workerId, kvAddress } = decode.client.hello;
  let prefilledMs = 0;
  const subscription = prefill.driver.subscribe((event) => {
    if (event.kind === "tokens") prefilledMs = performance.now();
  });
  const exportedBefore = exports.totalMs;
  const received = decode.firstToken(request.id);
  const startMs = performance.now();
  const submitted = decode.client.submit(request, { kind: "decode", prefillWorker: "p" });
  prefill.driver.submit(request, { kind: "prefill", decodeWorker: workerId, decodeKvAddress: kvAddress });
  await Promise.all([submitted, received]);
  const endMs = performance.now();
  subscription.unsubscribe();
  // The last export falls into the tail as well, so the sum is on the safe side.
  return {
    totalMs: endMs - startMs,
    tailMs: endMs - prefilledMs,
    exportsMs: exports.totalMs - exportedBefore,
  };
}

async function startDecodeWorker(sizes: Record<string, unknown>, token: string): Promise<DecodeWorker> {
  const suffix = `${process.pid}-${Date.now()}`;
  const address = `unix:${join(folder, `d-${suffix}.rpc`)}`;
  const config = {
    ...sizes,
    workerId: "d",
    role: "decode",
    listen: address,
    kvListen: `unix:${join(folder, `d-${suffix}.kv`)}`,
  };
  const child = spawn(process.execPath, [CLI, "worker"], {
    env: { ...process.env, TWOFOLD_WORKER_CONFIG: JSON.stringify(config), TWOFOLD_FLEET_SECRET: SECRET },
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    // What a supervised worker sends when it listens.
    child.once("message", () => resolve());
    child.once("exit", (code) => reject(new Error(`the decode worker ended with ${code}`)));
  });
  const waiting = new Map<string, () => void>();
  const client = await connectWorker({
    address,
    token,
    onEvent(event: WorkerEvent) {
      if (event.kind !== "tokens") return;
      for (const { requestId } of event.tokens) {
        waiting.get(requestId)?.();
        waiting.delete(requestId);
      }
    },
    onLost() {},
  });
  return {
    client,
    firstToken: (requestId) => new Promise((resolve) => waiting.set(requestId, resolve)),
    async stop() {
      client.close();
      child.kill("SIGTERM");
      await exited;
    },
  };
}
