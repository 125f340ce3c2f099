import { afterEach, describe, expect, it, vi } from "vitest";
import { makeRequest, tokenRange } from "../../../test/support/make.ts";
import { BlockManager } from "../../core/kv/block-manager.ts";
import { findSchedulingPolicy } from "../../core/scheduler/policies/registry.ts";
import { Scheduler } from "../../core/scheduler/scheduler.ts";
import { HASH_WORDS } from "../../core/tokens/block-hash.ts";
import type { WorkerEffect } from "../../core/worker-effects.ts";
import { WorkerLoop } from "../../core/worker-loop.ts";
import { resolveWorkerConfig } from "../../protocol/worker-config.ts";
import { StubEngine } from "../engine/stub/stub-engine.ts";
import { KvLinkError } from "../transfer/kv-link.ts";
import type { KvMesh } from "../transfer/kv-mesh.ts";
import { createDriver } from "./assemble.ts";
import { WorkerDriver } from "./worker-driver.ts";

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

function makeLoop(): { scheduler: Scheduler; blocks: BlockManager; loop: WorkerLoop } {
  const blocks = new BlockManager({ numBlocks: 8, blockSizeTokens: 16, numSlots: 8, modelId: "m" });
  const policy = findSchedulingPolicy("chunked")!;
  const limits = { tokenBudget: 256, maxRunning: 4, maxWaiting: 4 };
  const scheduler = new Scheduler({ policy, ...limits, endOfGenerationTokens: new Set() }, blocks);
  return { scheduler, blocks, loop: new WorkerLoop({ scheduler, blocks, maxRequests: 8 }) };
}

/** A driver of an engine, and the loop that it drives, by a clock of the test's own. */
function driverOf(engine: StubEngine, nowMs: () => number): { driver: WorkerDriver; loop: WorkerLoop } {
  const parts = makeLoop();
  const driver = new WorkerDriver({
    ...{ workerId: "w", role: "both", contextTokens: 1024, tokenBudget: 256, maxRunning: 4 },
    ...{ engine, ...parts, tiers: null, prefetcher: null, nowMs },
    onFatal: (error) => {
      throw error;
    },
  });
  drivers.push(driver);
  return { driver, loop: parts.loop };
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

  it("prices each of several imports by what it took of the engine, not by what it waited for others", async () => {
    let nowMs = 0;
    const engine = new StubEngine({ kvCapacityTokens: 1024 });
    const ends: Array<() => void> = [];
    engine.importKv = () => new Promise((resolve) => ends.push(resolve));
    const { driver, loop } = driverOf(engine, () => nowMs);
    const install = (end: number): WorkerEffect => ({
      kind: "install-kv",
      id: { requestId: "r", epoch: 0 },
      range: { slot: 0, start: end - 16, end },
      payload: new Uint8Array(1),
    });
    vi.spyOn(loop, "takeEffects").mockReturnValueOnce([install(16), install(32)]);
    const installed = vi.spyOn(loop, "kvInstalled");
    driver.cancel("nobody", 0);
    for (const end of ends) {
      nowMs += 10;
      end();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(installed.mock.calls.map(([, end, ok, , ms]) => [end, ok, ms])).toEqual([
      [16, true, 10],
      [32, true, 10],
    ]);
  });

  it("prices a step by what it took of the engine, not by what it waited for an export", async () => {
    let nowMs = 0;
    const engine = new StubEngine({ kvCapacityTokens: 1024 });
    const ends: Array<() => void> = [];
    engine.exportKv = () => new Promise((resolve) => ends.push(() => resolve(new Uint8Array(1))));
    engine.execute = ({ chunks }) =>
      new Promise((resolve) =>
        ends.push(() => resolve({ kind: "done", samples: chunks.map(() => ({ token: 1 })) })),
      );
    const { driver, loop } = driverOf(engine, () => nowMs);
    const takeEffects = loop.takeEffects.bind(loop);
    const serve: WorkerEffect = {
      ...{ kind: "serve-kv", peer: "p", id: { requestId: "r", epoch: 0 }, answer: 1 },
      parts: [{ kind: "device", slot: 0, start: 0, end: 16 }],
    };
    // Another worker is answered first.
    vi.spyOn(loop, "takeEffects").mockImplementationOnce(() => [serve, ...takeEffects()]);
    const stepDone = vi.spyOn(loop, "stepDone");
    driver.submit(makeRequest({ id: "a", prompt: tokenRange(1, 40) }), { kind: "local" });
    for (const tookMs of [30, 7]) {
      nowMs += tookMs;
      ends.shift()!();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(stepDone.mock.calls.map(([, , atMs, ms]) => [atMs, ms])).toEqual([[37, 7]]);
  });

  it("loses a fetch, and no handoff, when the link to the worker that it asks is full", async () => {
    const driver = startDriver();
    const sent: string[] = [];
    const mesh = {
      isConnected: () => true,
      send: async (peer: string, { kind }: { kind: string }) => {
        sent.push(`${kind} ${peer}`);
        if (kind === "fetch") throw new KvLinkError("queue_full", "the peer is behind");
      },
    };
    driver.attachMesh(mesh as unknown as KvMesh, "unix:/here");
    const done = new Promise<void>((resolve) =>
      driver.subscribe((event) => event.kind === "finish" && event.requestId === "asks" && resolve()),
    );
    const kvAddress = "unix:/there";
    driver.submit(makeRequest({ id: "handed", prompt: tokenRange(1, 40) }), {
      ...{ kind: "prefill", decodeWorker: "peer", decodeKvAddress: kvAddress },
    });
    driver.submit(makeRequest({ id: "asks", prompt: tokenRange(500, 100), maxOutputTokens: 2 }), {
      kind: "local",
      fetch: { worker: "peer", kvAddress, numTokens: 96 },
    });
    // It computes all of it.
    await done;
    expect(sent).toEqual(["reserve peer", "fetch peer"]);
    expect(driver.load()).toMatchObject({ numRunning: 0, handoffs: {} });
    driver.receive("peer", { kind: "grant", requestId: "handed", epoch: 0, cachedTokens: 0 });
    driver.checkInvariants();
    expect(driver.load()).toMatchObject({ numRunning: 1, handoffs: {} });
  });
});
