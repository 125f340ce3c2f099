import { afterEach, describe, expect, it } from "vitest";
import { makeRequest, tokenRange } from "../../../test/support/make.ts";
import { HASH_WORDS } from "../../core/tokens/block-hash.ts";
import { resolveWorkerConfig } from "../../protocol/worker-config.ts";
import { StubEngine } from "../engine/stub/stub-engine.ts";
import { createDriver } from "./assemble.ts";
import type { WorkerDriver } from "./worker-driver.ts";

const drivers: WorkerDriver[] = [];

function startDriver(): WorkerDriver {
  const config = resolveWorkerConfig(
    {
      ...{ workerId: "w", role: "both", engine: "stub", contextTokens: 1024, kvCapacityTokens: 1024 },
      ...{ blockSizeTokens: 16, listen: "unix:/unused", kvListen: "unix:/unused-kv" },
    },
    () => "test",
  );
  const driver = createDriver(config, new StubEngine({ kvCapacityTokens: 1024 }), (error) => {
    throw error;
  });
  drivers.push(driver);
  return driver;
}

afterEach(() => {
  for (const driver of drivers.splice(0)) driver.stop();
});

describe("worker driver", () => {
  it("refuses a chain of hashes that is longer than the prompt has full blocks", () => {
    const driver = startDriver();
    const withHashes = (id: string, numBlocks: number) =>
      makeRequest({
        id,
        prompt: tokenRange(1, 47),
        knownBlockHashes: new Int32Array(numBlocks * HASH_WORDS),
      });
    const refusal = expect.objectContaining({ code: "invalid_value" });
    expect(() => driver.submit(withHashes("a", 3), { kind: "local" })).toThrow(refusal);
    expect(driver.load().numWaiting + driver.load().numRunning).toBe(0);
    driver.submit(withHashes("b", 2), { kind: "local" });
  });
});
