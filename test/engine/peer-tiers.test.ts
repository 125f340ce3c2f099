import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Request } from "../../src/core/request.ts";
import { Rng } from "../../src/core/util/rng.ts";
import type { Assignment } from "../../src/protocol/worker-rpc.ts";
import type { Engine } from "../../src/serve/engine/engine.ts";
import { openLlamaEngine } from "../../src/serve/engine/llama/open-llama-engine.ts";
import { StubEngine } from "../../src/serve/engine/stub/stub-engine.ts";
import { randomTokens } from "../support/engine-plan.ts";
import { type LinkedNode, LinkedNodes, written } from "../support/linked-nodes.ts";
import { makeRequest } from "../support/make.ts";
import { TempFiles } from "../support/temp-files.ts";

let files: TempFiles;
let fleet: LinkedNodes;
beforeEach(() => {
  files = new TempFiles();
  fleet = new LinkedNodes(files.folder);
});
afterEach(async () => {
  await fleet.close();
  files.remove();
});

const LOCAL: Assignment = { kind: "local" };
const request = (id: string, prompt: ArrayLike<number>, overrides: Partial<Request> = {}): Request =>
  makeRequest({ id, prompt, maxOutputTokens: 12, ignoreEndOfGeneration: true, ...overrides });
const fetching = ({ id, kvAddress }: LinkedNode, numTokens: number): Assignment => ({
  kind: "local",
  fetch: { worker: id, kvAddress, numTokens },
});

describe("tiers of another worker, on a real model", () => {
  const open = (): Promise<Engine> =>
    openLlamaEngine({
      modelPath: "models/lexicon-3m/lexicon-3m.Q8_0.gguf",
      kvCapacityTokens: 640,
      maxStepTokens: 256,
      numSlots: 12,
    });
  const [prompt, other] = [100, 101].map((seed) => randomTokens(seed, 300, 4000));

  it.each(["host", "disk"] as const)(
    "give a prefix from %s with the text of a computed one",
    async (tier) => {
      const tiers = tier === "host" ? { hostBytes: "64MiB" } : { diskPath: files.folder, diskFolder: "kv" };
      // The device keeps a piece of a segment, so that what is sent of it is cut.
      const holder = await fleet.start("holder", {
        engine: await open(),
        values: { prefixCacheTokens: 384, tiers },
      });
      const asker = await fleet.start("asker", { engine: await open() });
      const { tokens } = await holder.run(request("r1", prompt!), LOCAL);
      await holder.run(request("r2", other!), LOCAL);
      await written(holder, tier, 38);
      expect(holder.driver.load().kvBlocksCached).toBe(24);
      expect(await asker.run(request("r3", prompt!), fetching(holder, 300))).toEqual({
        tokens,
        numCached: 288,
      });
      // It goes on as if it had been computed there.
      const next = [...prompt!, ...tokens, ...randomTokens(9, 40, 4000)];
      const again = await asker.run(request("r4", next), LOCAL);
      expect(again.tokens).toEqual((await holder.run(request("r5", next), LOCAL)).tokens);
      for (const { driver } of fleet.nodes) driver.checkInvariants();
    },
  );
});

describe("tiers of other workers under pressure", () => {
  /** Repeats the test; any other should pass as well. */
  const SEED = 11;
  const NUM_REQUESTS = 1500;
  const NUM_CONVERSATIONS = 200;

  it("give requests of two tenants on three workers that ask each other their exact text", async () => {
    const stream = new Rng(SEED).stream("peers");
    const pick = (below: number): number => stream.nextBelow(below);
    const conversations = Array.from({ length: NUM_CONVERSATIONS }, (_, i) => ({
      prompt: Array.from(randomTokens(i, 60 + pick(160), 200), (token) => token + 5),
      cacheSalt: i % 3 === 0 ? "a" : "b",
    }));
    const requests = Array.from({ length: NUM_REQUESTS }, (_, i): Request => {
      const { prompt, cacheSalt } = conversations[pick(NUM_CONVERSATIONS)]!;
      const tail = Array.from({ length: 1 + pick(12) }, () => 5 + pick(200));
      return request(`r${i}`, [...prompt.slice(0, 1 + pick(prompt.length)), ...tail], {
        maxOutputTokens: 1 + pick(8),
        cacheSalt: pick(20) === 0 ? "c" : cacheSalt,
      });
    });
    // Computing costs something, so that stored KV is worth reading.
    const timing = { stepBaseMs: 0, prefillMsPerToken: 0.02, decodeMsPerSequence: 0 };
    const values = (name: string) => ({
      ...{ prefixCacheTokens: 400, chunkTokens: 64, maxRunning: 8, maxWaiting: 4096 },
      tiers: { hostBytes: "64KiB", diskPath: files.folder, diskFolder: name, diskBytes: "96KiB" },
    });
    const names = ["w1", "w2", "w3"];
    for (const name of names)
      await fleet.start(name, {
        engine: new StubEngine({ kvCapacityTokens: 1024, timing }),
        values: values(`${name}-kv`),
      });
    const alone = await fleet.start("alone", {
      engine: new StubEngine({ kvCapacityTokens: 8192 }),
      values: { prefixCacheTokens: 0, maxWaiting: 4096 },
    });
    const nodes = fleet.nodes.slice(0, names.length);
    const readsForOthers = nodes.map(({ tiers }) => vi.spyOn(tiers!.driver, "read"));
    let numOpen = 0;
    let numFetched = 0;
    const outcomes: Array<Promise<void>> = [];
    for (const one of requests) {
      const at = pick(nodes.length);
      const holder = nodes[(at + 1 + pick(nodes.length - 1)) % nodes.length]!;
      numOpen++;
      const run = async (): Promise<void> => {
        const { tokens } = await alone.run(one, LOCAL);
        const outcome = await nodes[at]!.run(one, fetching(holder, one.promptTokens.length));
        expect(outcome.tokens).toEqual(tokens);
        if (outcome.numCached > 0) numFetched++;
        numOpen--;
      };
      outcomes.push(run());
      while (numOpen > 16) await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(outcomes);
    expect(numFetched).toBeGreaterThan(NUM_REQUESTS / 4);
    for (const { mock } of readsForOthers) expect(mock.calls.length).toBeGreaterThan(30);
    for (const { driver } of nodes) {
      driver.checkInvariants();
      const { tiers, kvBlocksUsed } = driver.load();
      expect(kvBlocksUsed).toBe(0);
      expect(tiers.host!.evictions).toBeGreaterThan(50);
      for (const [tier, { bad }] of Object.entries(tiers)) expect(bad, tier).toBe(0);
    }
  });
});
