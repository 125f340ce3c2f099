import { expect, test } from "vitest";
import { FakeIo } from "../../test/support/cli-io.ts";
import type { WorkerConfig } from "../protocol/worker-config.ts";
import { runCli } from "./program.ts";
import type { Product } from "./serving.ts";
import { loadWorkerConfig } from "./worker.ts";

const ADDRESSES = ["--listen", "unix:/run/a.sock", "--kv-listen", "unix:/run/b.sock"];
const SECRET = { TWOFOLD_FLEET_SECRET: "0123456789abcdef" };

function fakeProduct(): { product: Product; configs: WorkerConfig[] } {
  const configs: WorkerConfig[] = [];
  const product: Product = {
    startServing: () => Promise.reject(new Error("not part of this test")),
    runWorker: async (config) => {
      configs.push(config);
      return {
        address: config.listen,
        kvAddress: config.kvListen,
        close: () => Promise.resolve(),
        done: Promise.resolve(),
      };
    },
  };
  return { product, configs };
}

test("a worker is made of flags, environment and defaults, with a name of its own", async () => {
  const io = new FakeIo({ env: { ...SECRET, TWOFOLD_CTX: "1024" }, cwd: "/here" });
  const { product, configs } = fakeProduct();
  const args = ["worker", "--role", "prefill", ...ADDRESSES, "--model", "m.gguf", "--threads", "2"];
  expect(await runCli(args, io, product)).toBe(0);
  const [config] = configs;
  expect(config).toMatchObject({
    role: "prefill",
    contextTokens: 1024,
    threads: 2,
    modelPath: "/here/m.gguf",
  });
  expect(config?.workerId).toMatch(/^prefill-[0-9a-f]{8}$/);
  expect(io.outText).toBe(
    `Worker ${config?.workerId} (prefill) ready: RPC at unix:/run/a.sock, KV at unix:/run/b.sock\n`,
  );
});

test("a worker that serve starts takes everything from its JSON", async () => {
  const json = JSON.stringify({
    workerId: "decode-1",
    role: "decode",
    engine: "stub",
    listen: "unix:/run/a.sock",
    kvListen: "unix:/run/b.sock",
  });
  const io = new FakeIo({ env: { ...SECRET, TWOFOLD_WORKER_CONFIG: json, TWOFOLD_CTX: "16" } });
  const { product, configs } = fakeProduct();
  expect(await runCli(["worker"], io, product)).toBe(0);
  expect(configs).toMatchObject([{ workerId: "decode-1", contextTokens: 8192, modelPath: null }]);
  expect(await runCli(["worker", "--threads", "2"], io, product)).toBe(2);
  expect(io.errText).toContain("unset it to use flags");
});

test("the stub engine has no model, also when one is named", () => {
  const flags = { role: "both", engine: "stub", model: "m.gguf", listen: "unix:/a", kvListen: "unix:/b" };
  expect(loadWorkerConfig(flags, { env: {}, cwd: "/" }).modelPath).toBeNull();
});

test.each([
  [["worker"], SECRET, "--role <role> is missing; give it, or set TWOFOLD_ROLE"],
  [["worker", "--role", "decode"], SECRET, "--listen <address> is missing"],
  [
    ["worker", "--role", "decoder", ...ADDRESSES],
    SECRET,
    '--role: "decoder" is not allowed (did you mean decode?)',
  ],
  [
    ["worker", "--role", "decode", "--listen", "here", "--kv-listen", "unix:/b"],
    SECRET,
    '--listen: "here" is not usable',
  ],
  [["worker", "--role", "decode", ...ADDRESSES], {}, "TWOFOLD_FLEET_SECRET has to hold the fleet's secret"],
  [["worker", "--role", "decode", ...ADDRESSES], { TWOFOLD_FLEET_SECRET: "short" }, "at least 16 characters"],
  [["worker"], { ...SECRET, TWOFOLD_WORKER_CONFIG: "{}" }, "TWOFOLD_WORKER_CONFIG: workerId: is missing"],
  [
    ["worker", "--role", "both", ...ADDRESSES, "--ctx", "8192", "--kv-tokens", "4096"],
    SECRET,
    "--ctx and --kv-tokens: a context of",
  ],
])("%j with %j is wrong usage and starts nothing", async (args, env, message) => {
  const io = new FakeIo({ env });
  const { product, configs } = fakeProduct();
  expect(await runCli(args, io, product)).toBe(2);
  expect(io.errText).toContain(message);
  expect(configs).toEqual([]);
});

test("a worker that serve started leaves Ctrl-C to serve and stops on SIGTERM", async () => {
  const json = JSON.stringify({
    workerId: "w",
    role: "both",
    engine: "stub",
    listen: "unix:/a",
    kvListen: "unix:/b",
  });
  const io = new FakeIo({ env: { ...SECRET, TWOFOLD_WORKER_CONFIG: json } });
  let started: () => void = () => undefined;
  const isStarted = new Promise<void>((resolve) => {
    started = resolve;
  });
  const signals: string[] = [];
  const product: Product = {
    startServing: () => Promise.reject(new Error("not part of this test")),
    runWorker: async (config) => {
      let stop: () => void = () => undefined;
      const done = new Promise<void>((resolve) => {
        stop = resolve;
      });
      const close = async (): Promise<void> => {
        signals.push("closed");
        stop();
      };
      queueMicrotask(started);
      return { address: config.listen, kvAddress: config.kvListen, close, done };
    },
  };
  const running = runCli(["worker"], io, product);
  await isStarted;
  io.signal("SIGINT");
  io.signal("SIGINT");
  expect(signals).toEqual([]);
  io.signal("SIGTERM");
  expect(await running).toBe(0);
  expect(signals).toEqual(["closed"]);
  expect([io.outText, io.errText, io.exits]).toEqual(["", "", []]);
});
