import { expect, test } from "vitest";
import { ConfigError } from "./config-error.ts";
import { parseWorkerConfig, resolveWorkerConfig } from "./worker-config.ts";

const VALUES = {
  workerId: "prefill-1",
  role: "prefill",
  modelPath: "/models/m.gguf",
  listen: "unix:/run/a.sock",
  kvListen: "unix:/run/b.sock",
};

const flagOf = (path: ReadonlyArray<string | number>): string => `--${path.join(".")}`;

test("defaults are filled in and survive the way through JSON", () => {
  const config = resolveWorkerConfig(VALUES, flagOf);
  expect(config).toMatchObject({
    engine: "llama",
    contextTokens: 8192,
    kvCapacityTokens: 16_384,
    blockSizeTokens: 16,
    chunkTokens: 256,
    policy: "chunked",
    maxRunning: 16,
    maxWaiting: 256,
    prefixCacheTokens: 4096,
    handoffWaitMs: 60_000,
    threads: 1,
    allowPlaintext: false,
    stub: { stepBaseMs: 0, prefillMsPerToken: 0, decodeMsPerSequence: 0 },
  });
  expect(config).not.toHaveProperty("numSlots");
  expect(parseWorkerConfig(JSON.stringify(config))).toEqual(config);
});

test.each([
  [{ ...VALUES, role: "prefil" }, '--role: role: "prefil" is not allowed (did you mean prefill?)'],
  [{ ...VALUES, listen: "localhost:1" }, "--listen: listen:"],
  [{ ...VALUES, workerId: "a b" }, "--workerId: workerId:"],
  [{ ...VALUES, modelPath: null }, "--modelPath: the llama engine needs a model file"],
  [
    { ...VALUES, contextTokens: 999_999, kvCapacityTokens: 1024 },
    "--contextTokens and --kvCapacityTokens: a context of",
  ],
  [{ ...VALUES, surprise: 1 }, 'unknown key "surprise"'],
])("%j is refused with its origin", (values, message) => {
  expect(() => resolveWorkerConfig(values, flagOf)).toThrow(message);
});

test("text that is not JSON, not an object or too long names the variable", () => {
  for (const text of ["", "{", "3", "null", `"${"x".repeat(70_000)}"`]) {
    expect(() => parseWorkerConfig(text)).toThrow(ConfigError);
    expect(() => parseWorkerConfig(text)).toThrow(/^TWOFOLD_WORKER_CONFIG: /);
  }
});
