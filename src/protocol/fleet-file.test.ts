import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ConfigError } from "./config-error.ts";
import {
  countWorkers,
  MAX_FLEET_FILE_LENGTH,
  parseFleetFile,
  resolveServeConfig,
  type ServeConfig,
} from "./fleet-file.ts";

function load(text: string, env: Record<string, string> = {}): ServeConfig {
  const file = parseFleetFile(text, "fleet.yaml");
  return resolveServeConfig(file.values, file.locate, env);
}

function failure(text: string, env: Record<string, string> = {}): string {
  try {
    load(text, env);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  throw new Error("the file was accepted");
}

test("an empty file is one prefill and one decode worker with every default", () => {
  expect(load("")).toEqual({
    model: { path: null, name: null, aliases: [] },
    engine: "llama",
    contextTokens: 8192,
    kvTokensPerWorker: 16_384,
    blockSizeTokens: 16,
    chunkTokens: 256,
    policy: "chunked",
    maxRunning: 16,
    maxWaiting: 256,
    allowPlaintext: false,
    prefixCacheTokens: 4096,
    tiers: { diskBytes: "8GiB", eviction: "lru", prefetch: true },
    threads: 1,
    logLevel: "info",
    workers: [
      { role: "prefill", count: 1 },
      { role: "decode", count: 1 },
    ],
    gateway: { host: "127.0.0.1", port: 8080, keys: [], tenants: [], publicPrefixes: [] },
    timeouts: { workerStartMs: 60_000, requestMs: 3_600_000, handoffWaitMs: 60_000, drainMs: 30_000 },
    placement: { policy: "priced", localPrefillBelowTokens: 16 },
    stub: { stepBaseMs: 0, prefillMsPerToken: 0, decodeMsPerSequence: 0 },
  });
});

test("a full file is read as it says", () => {
  const sha256 = "AB".repeat(32);
  const config = load(
    `
model: { path: m.gguf, name: my-model, aliases: [gpt-4o] }
engine: stub
workers:
  - role: both
    count: 3
  - role: decode
    address: tcp:10.0.0.7:9100
    kvAddress: tcp:10.0.1.7:9101
gateway:
  host: 0.0.0.0
  keys:
    - { tenant: acme, sha256: ${sha256} }
    - { tenant: zeta, env: ZETA_KEY }
stub: { decodeMsPerSequence: 0.5 }
`,
    { ZETA_KEY: "zeta-secret" },
  );
  expect(config.model).toEqual({ path: "m.gguf", name: "my-model", aliases: ["gpt-4o"] });
  expect(config.workers).toEqual([
    { role: "both", count: 3 },
    { role: "decode", address: "tcp:10.0.0.7:9100", kvAddress: "tcp:10.0.1.7:9101" },
  ]);
  expect(countWorkers(config.workers)).toEqual({ prefill: 0, decode: 1, both: 3 });
  expect(config.gateway.keys).toEqual([
    { tenant: "acme", sha256: sha256.toLowerCase() },
    { tenant: "zeta", sha256: createHash("sha256").update("zeta-secret").digest("hex") },
  ]);
  expect(config.stub.decodeMsPerSequence).toBe(0.5);
});

test("a worker that names neither count nor address is one local process", () => {
  expect(load("workers: [{ role: both }]").workers).toEqual([{ role: "both", count: 1 }]);
});

test("a longer context gets KV for at least one context, in whole blocks", () => {
  expect(load("contextTokens: 40001").kvTokensPerWorker).toBe(40_016);
});

test("unknown keys name their line, column, what was meant and what is allowed", () => {
  const message = failure("engine: stub\ngateway:\n  port: 1\n  hots: x\n");
  expect(message).toBe(
    'fleet.yaml:4:3: gateway: unknown key "hots" (did you mean host?); allowed: host, port, keys, tenants, publicPrefixes',
  );
  expect(failure("chunkToken: 3")).toMatch(
    /^fleet.yaml:1:1: unknown key "chunkToken" \(did you mean chunkTokens\?\)/,
  );
});

test.each([
  ["port: 1\n", "fleet.yaml:1:1: unknown key"],
  ["gateway:\n  port: 70000", "fleet.yaml:2:3: gateway.port: 70000 is out of range; allowed: 0 to 65535"],
  ["gateway:\n  port: '1'", 'fleet.yaml:2:3: gateway.port: "1" is not a whole number from 0 to 65535'],
  ["chunkTokens: 2.5", "fleet.yaml:1:1: chunkTokens: 2.5 is not a whole number"],
  [
    "policy: chunkd",
    'policy: "chunkd" is not allowed (did you mean chunked?); allowed: static, orca, prefill-first, chunked',
  ],
  ["blockSizeTokens: 17", "blockSizeTokens: 17 is not a power of two"],
  ["workers:\n  - count: 2", "fleet.yaml:2:5: workers[0].role: is missing; allowed: prefill, decode, both"],
  [
    "workers:\n  - role: both\n  - role: decod",
    'fleet.yaml:3:5: workers[1].role: "decod" is not allowed (did you mean decode?)',
  ],
  [
    "workers:\n  - role: both\n    address: 10.0.0.7",
    'fleet.yaml:3:5: workers[0].address: "10.0.0.7" is not usable',
  ],
  [
    "workers:\n  - role: both\n    count: 1\n    address: unix:/a",
    "fleet.yaml:3:5: workers[0].count: 1 cannot stand beside address",
  ],
  ["workers:\n  - role: both\n    kvAddress: unix:/a", "needs address beside it"],
  ["gateway:\n  keys: [{ tenant: a }]", "needs exactly one of sha256 and env"],
  ["gateway:\n  keys: [{ tenant: a, sha256: abc }]", "is not 64 hex digits"],
  ["gateway: 3", "fleet.yaml:1:1: gateway: 3 is not a mapping of keys to values"],
  ["- a\n- b", "fleet.yaml: "],
  ["model: { name: 'two words' }", 'model.name: "two words" is not 1 to 128 of'],
])("%j is refused where it stands", (text, message) => {
  expect(failure(text)).toContain(message);
});

test("broken YAML, doubled keys and alias bombs are errors with a place", () => {
  expect(failure("engine: [stub")).toMatch(/^fleet.yaml:1:\d+: /);
  expect(failure("engine: stub\nengine: llama")).toMatch(/^fleet.yaml:2:1: .*unique/);
  const bomb = [
    "a: &a [x, x, x, x, x, x, x, x, x]",
    "b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]",
    "c: [*b, *b, *b, *b, *b, *b, *b, *b, *b]",
  ];
  expect(failure(bomb.join("\n"))).toMatch(/alias/i);
  expect(failure("#".repeat(MAX_FLEET_FILE_LENGTH + 1))).toContain("is longer than");
});

test("several problems are reported at once, up to a bound", () => {
  expect(failure("engine: x\npolicy: y").split("\n").length).toBe(2);
  const many = Array.from({ length: 20 }, () => "  - role: x").join("\n");
  expect(failure(`workers:\n${many}`)).toMatch(/and 12 more problems$/);
});

test.each([
  ["workers: [{ role: decode, count: 2 }]", "nothing that prefills; add a worker of role prefill or both"],
  ["workers: [{ role: prefill }]", "nothing that decodes"],
  ["workers: []", "there are no workers"],
  [
    "workers: [{ role: both, count: 64 }, { role: both, count: 64 }, { role: both }]",
    "129 workers on one machine",
  ],
  ["chunkTokens: 16", "no room for prompts beside 16 decoding requests"],
  [
    "contextTokens: 4096\nkvTokensPerWorker: 2048",
    "fleet.yaml:1:1 and fleet.yaml:2:1: a context of 4096 tokens does not fit into KV for 2048",
  ],
  ["contextTokens: 1024\nkvTokensPerWorker: 2050", "not a whole number of blocks of 16; use 2064"],
  ["gateway: { host: 0.0.0.0 }", "needs API keys"],
  ["gateway: { tenants: [{ name: a, cacheShare: 0.5 }] }", "fleet.yaml:1:24: no key is a's"],
  ["gateway: { tenants: [{ name: default }, { name: default }] }", "stands here twice"],
  ["gateway: { publicPrefixes: [{}] }", "needs exactly one of text and file"],
  ["gateway: { keys: [{ tenant: a, env: MISSING_KEY }] }", "environment variable MISSING_KEY is not set"],
])("the impossible combination %j is refused with what to do", (text, message) => {
  expect(failure(text)).toContain(message);
});

test("a decode worker is fine as soon as anything prefills, here or elsewhere", () => {
  expect(load("workers: [{ role: decode }, { role: both }]").workers.length).toBe(2);
  expect(
    load("workers: [{ role: decode }, { role: prefill, address: 'unix:/run/p.sock' }]").workers.length,
  ).toBe(2);
});

const EXAMPLES = new URL("../../examples/", import.meta.url);
/** Files that have `fleets` are scenarios of the twin. */
const examples = readdirSync(EXAMPLES).filter(
  (name) => name.endsWith(".yaml") && !/^fleets:/m.test(readFileSync(new URL(name, EXAMPLES), "utf8")),
);

test("there are examples", () => {
  expect(examples).toEqual(
    expect.arrayContaining(["laptop.yaml", "chunked-baseline.yaml", "mock-server.yaml"]),
  );
});

test.each(examples)("the example %s can run as it is", (name) => {
  const config = load(readFileSync(new URL(name, EXAMPLES), "utf8"));
  expect(config.workers.length).toBeGreaterThan(0);
});

test("laptop.yaml is what twofold serves without a file", () => {
  expect(load(readFileSync(new URL("laptop.yaml", EXAMPLES), "utf8"))).toEqual(load(""));
});
