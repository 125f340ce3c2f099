import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FakeIo } from "../../test/support/cli-io.ts";
import type { ServeConfig } from "../protocol/fleet-file.ts";
import { runCli } from "./program.ts";
import { loadServeConfig } from "./serve-settings.ts";
import type { Product, Serving } from "./serving.ts";

let folder = "";

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "twofold-cli-"));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A server that a test starts, stops and breaks by hand. */
class FakeServer implements Product {
  readonly configs: ServeConfig[] = [];
  numCloses = 0;
  stop: () => void = () => undefined;
  fail: (error: Error) => void = () => undefined;
  startError: Error | null = null;
  /** The start waits for this. */
  gate: Promise<void> = Promise.resolve();

  async startServing(config: ServeConfig): Promise<Serving> {
    this.configs.push(config);
    await this.gate;
    if (this.startError !== null) throw this.startError;
    const done = new Promise<void>((resolve, reject) => {
      this.stop = resolve;
      this.fail = reject;
    });
    return {
      url: "http://127.0.0.1:8080",
      modelName: "lexicon-3m",
      workers: [
        { id: "prefill-1", role: "prefill", pid: 11 },
        { id: "decode-1", role: "decode", pid: 12 },
      ],
      done,
      close: async () => {
        this.numCloses++;
        this.stop();
      },
    };
  }

  runWorker(): Promise<never> {
    return Promise.reject(new Error("not part of this test"));
  }
}

function writeFleet(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

test("serve prints what runs where, one ready line and a request to paste, and stops on a signal", async () => {
  const io = new FakeIo();
  const server = new FakeServer();
  const running = runCli(["serve", "--model", "/models/lexicon-3m.gguf"], io, server);
  await io.wrote("Ready");
  expect(io.outText).toMatchInlineSnapshot(`
    "model    lexicon-3m (llama engine, /models/lexicon-3m.gguf)
    context  8192 tokens per request; KV for 16384 tokens per worker in blocks of 16
    policy   chunked; steps of up to 256 tokens, 16 requests at once
    workers  prefill-1  prefill  pid 11
             decode-1   decode   pid 12
    link     KV over unix sockets on this machine
    Ready at http://127.0.0.1:8080
    Try: curl -s http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' -d '{"model":"lexicon-3m","messages":[{"role":"user","content":"What is a river?"}],"max_tokens":64}'
    "
  `);
  io.signal("SIGTERM");
  expect(await running).toBe(0);
  expect(server.numCloses).toBe(1);
  expect(io.errText).toBe("SIGTERM: finishing running requests; once more stops at once.\n");
  expect(io.numSignalListeners).toBe(0);
});

test("a second signal ends the process at once", async () => {
  const io = new FakeIo();
  const server = new FakeServer();
  const running = runCli(["serve"], io, server);
  await io.wrote("Ready");
  io.signal("SIGINT");
  io.signal("SIGINT");
  expect(io.exits).toEqual([1]);
  await running;
});

test("a signal while the server starts stops it as soon as it has, without a ready line", async () => {
  const io = new FakeIo();
  const server = new FakeServer();
  let open: () => void = () => undefined;
  server.gate = new Promise((resolve) => {
    open = resolve;
  });
  const running = runCli(["serve"], io, server);
  io.signal("SIGINT");
  open();
  expect(await running).toBe(0);
  expect(server.numCloses).toBe(1);
  expect(io.outText).toBe("");
});

test("a server that cannot start or breaks is one line on stderr and exit code 1", async () => {
  const io = new FakeIo();
  const server = new FakeServer();
  server.startError = Object.assign(new Error("port 8080 is in use; use --port 0"), { code: "EADDRINUSE" });
  expect(await runCli(["serve"], io, server)).toBe(1);
  expect(io.errText).toBe("twofold: port 8080 is in use; use --port 0\n");
  const breaking = new FakeIo();
  const broken = new FakeServer();
  const running = runCli(["serve"], breaking, broken);
  await breaking.wrote("Ready");
  broken.fail(Object.assign(new Error("no worker is left"), { code: "no_workers" }));
  expect(await running).toBe(1);
  expect(breaking.errText).toBe("twofold: no worker is left\n");
});

test("an error of a class of its own is meant for the operator", async () => {
  const io = new FakeIo();
  const server = new FakeServer();
  server.startError = Object.assign(new Error("/etc/passwd: not a GGUF file"), { name: "EngineError" });
  expect(await runCli(["serve"], io, server)).toBe(1);
  expect(io.errText).toBe("twofold: /etc/passwd: not a GGUF file\n");
});

test("a bug shows its stack, because nobody else can tell where it was", async () => {
  const io = new FakeIo();
  const server = new FakeServer();
  server.startError = new TypeError("x is undefined");
  expect(await runCli(["serve"], io, server)).toBe(1);
  expect(io.errText).toMatch(/unexpected failure, please report it: TypeError: x is undefined\n\s+at /);
});

test("flags, environment and file come together, and relative models belong to who names them", () => {
  const file = writeFleet("fleet.yaml", "model: { path: m.gguf }\nchunkTokens: 64\ngateway: { port: 1 }\n");
  const env = { TWOFOLD_PORT: "2", TWOFOLD_CHUNK: "128" };
  const config = loadServeConfig(file, { port: "3" }, { env, cwd: "/elsewhere" });
  expect(config.gateway.port).toBe(3);
  expect(config.chunkTokens).toBe(128);
  expect(config.model.path).toBe(join(folder, "m.gguf"));
  const named = loadServeConfig(file, { model: "n.gguf" }, { env, cwd: "/elsewhere" });
  expect(named.model.path).toBe("/elsewhere/n.gguf");
});

test("without a model the built-in one is served, and the stub engine has none", () => {
  const io = { env: {}, cwd: "/" };
  expect(loadServeConfig(undefined, {}, io).model.path).toMatch(
    /models\/lexicon-3m\/lexicon-3m\.Q8_0\.gguf$/,
  );
  expect(loadServeConfig(undefined, { engine: "stub" }, io).model.path).toBeNull();
});

test("worker counts stand for all local workers of the file and leave remote ones", () => {
  const file = writeFleet(
    "mixed.yaml",
    "workers:\n  - role: both\n    count: 4\n  - { role: decode, address: 'tcp:h:1' }\n",
  );
  const config = loadServeConfig(file, { prefill: "2" }, { env: {}, cwd: "/" });
  expect(config.workers).toEqual([
    { role: "prefill", count: 2 },
    { role: "decode", address: "tcp:h:1", kvAddress: null },
  ]);
  const both = loadServeConfig(undefined, {}, { env: { TWOFOLD_BOTH: "2" }, cwd: "/" });
  expect(both.workers).toEqual([{ role: "both", count: 2 }]);
});

test("an API key in the environment opens other hosts, and its hash is all that is kept", () => {
  const env = { TWOFOLD_API_KEY: "0123456789abcdef" };
  const config = loadServeConfig(undefined, { host: "0.0.0.0" }, { env, cwd: "/" });
  expect(config.gateway.keys).toMatchObject([
    { tenant: "default", sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
  ]);
  expect(JSON.stringify(config)).not.toContain("0123456789abcdef");
});

test.each([
  [["serve", "--port", "70000"], {}, "--port: 70000 is out of range; allowed: 0 to 65535"],
  [["serve"], { TWOFOLD_POLICY: "fifo" }, 'TWOFOLD_POLICY: "fifo" is not allowed; allowed: static, orca'],
  [["serve", "--chunk", "16"], {}, "--chunk and default: a step of 16 tokens"],
  [["serve", "--decode", "2"], {}, "--decode: there are decode workers and nothing that prefills"],
  [["serve", "--prefill", "0", "--decode", "0"], {}, "--prefill and --decode: there are no workers"],
  [["serve", "--host", "0.0.0.0"], {}, "--host: listening on 0.0.0.0 needs API keys"],
  [["serve", "missing.yaml"], {}, "missing.yaml: there is no such file"],
  [["serve", "/"], {}, "/: cannot be read (EISDIR)"],
  [["serve", "--prot", "1"], {}, "unknown option '--prot' (Did you mean --port?); see twofold serve --help"],
  [["serve", "--port"], {}, "option '--port <port>' argument missing"],
  [["serve", "a", "b"], {}, "too many arguments for 'serve'"],
  [["serv"], {}, "unknown command 'serv' (Did you mean serve?); see twofold --help"],
  [["--loud"], {}, "unknown option '--loud'"],
])("%j with %j is wrong usage: one line, exit code 2, nothing started", async (args, env, message) => {
  const io = new FakeIo({ env });
  const server = new FakeServer();
  expect(await runCli(args, io, server)).toBe(2);
  expect(io.errText).toContain(`twofold: ${message}`);
  expect(io.errText.trimEnd().split("\n").length).toBe(1);
  expect(io.outText).toBe("");
  expect(server.configs).toEqual([]);
});

test("a problem in a file names its line", async () => {
  const file = writeFleet("bad.yaml", "engine: stub\nchunkToken: 3\n");
  const io = new FakeIo();
  expect(await runCli(["serve", file], io, new FakeServer())).toBe(2);
  expect(io.errText).toContain(`twofold: ${file}:2:1: unknown key "chunkToken" (did you mean chunkTokens?)`);
});

test("remote workers need the fleet secret", async () => {
  const file = writeFleet("remote.yaml", "workers:\n  - role: both\n    address: tcp:10.0.0.7:9100\n");
  const io = new FakeIo();
  expect(await runCli(["serve", file], io, new FakeServer())).toBe(2);
  expect(io.errText).toContain("set TWOFOLD_FLEET_SECRET");
});

test("keys and remote workers show in what is printed", async () => {
  const yaml = "workers:\n  - role: both\n  - { role: decode, address: 'tcp:10.0.0.7:9100' }\n";
  const env = { TWOFOLD_FLEET_SECRET: "s".repeat(32), TWOFOLD_API_KEY: "0123456789abcdef" };
  const io = new FakeIo({ env });
  const running = runCli(["serve", writeFleet("keys.yaml", yaml)], io, new FakeServer());
  await io.wrote("Ready");
  expect(io.outText).toContain("link     KV over unix sockets on this machine; tcp:10.0.0.7:9100 (network)");
  expect(io.outText).toContain('-H "authorization: Bearer $TWOFOLD_API_KEY"');
  expect(io.outText).not.toContain("0123456789abcdef");
  io.signal("SIGINT");
  await running;
});
