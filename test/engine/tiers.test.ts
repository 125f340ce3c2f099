import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { GREEDY, type Request } from "../../src/core/request.ts";
import { BlockHasher, HASH_WORDS } from "../../src/core/tokens/block-hash.ts";
import { Rng } from "../../src/core/util/rng.ts";
import type { Engine } from "../../src/serve/engine/engine.ts";
import { openLlamaEngine } from "../../src/serve/engine/llama/open-llama-engine.ts";
import { StubEngine } from "../../src/serve/engine/stub/stub-engine.ts";
import { randomTokens } from "../support/engine-plan.ts";
import { makeRequest } from "../support/make.ts";
import { SoloWorker } from "../support/solo-worker.ts";
import { TempFiles } from "../support/temp-files.ts";

const modelPath = "models/lexicon-3m/lexicon-3m.Q8_0.gguf";
let files: TempFiles;
beforeEach(() => {
  files = new TempFiles();
});
afterEach(() => files.remove());

const openLlama = (kvCapacityTokens = 640): Promise<Engine> =>
  openLlamaEngine({ modelPath, kvCapacityTokens, maxStepTokens: 256, numSlots: 12 });

const request = (id: string, prompt: ArrayLike<number>, overrides: Partial<Request> = {}): Request =>
  makeRequest({ id, prompt, maxOutputTokens: 12, ignoreEndOfGeneration: true, ...overrides });

/** What requests give on a worker that keeps nothing and has room for all that run at a time. */
async function uncached(
  engine: Engine,
  requests: readonly Request[],
  numAtOnce = 1,
): Promise<Map<string, readonly number[]>> {
  const worker = await SoloWorker.start(engine, { prefixCacheTokens: 0 });
  const texts = new Map<string, readonly number[]>();
  const rest = [...requests];
  const runOn = async (): Promise<void> => {
    for (let one = rest.pop(); one !== undefined; one = rest.pop())
      texts.set(one.id, (await worker.run(one)).tokens);
  };
  await Promise.all(Array.from({ length: numAtOnce }, runOn));
  await worker.stop();
  return texts;
}

describe("lower tiers on a real model", () => {
  const prompts = [0, 1, 2].map((seed) => randomTokens(100 + seed, 250, 4000));

  it.each([
    ["host memory", { hostBytes: "64MiB" }],
    ["disk", { diskBytes: "64MiB" }],
    ["both", { hostBytes: "1MiB", diskBytes: "64MiB" }],
  ])("give back prompts from %s with the text of an uncached run", async (_, tiers) => {
    const requests = prompts.map((prompt, i) => request(`r${i}`, prompt));
    const expected = await uncached(await openLlama(), requests);
    const diskPath = "diskBytes" in tiers ? { diskPath: files.folder } : {};
    // The device holds one prompt at a time.
    const worker = await SoloWorker.start(await openLlama(), {
      prefixCacheTokens: 128,
      tiers: { ...tiers, ...diskPath },
    });
    for (const one of requests) expect((await worker.run(one)).tokens).toEqual(expected.get(one.id));
    for (const one of requests) {
      const again = await worker.run({ ...one, id: `${one.id} again` });
      expect(again.numCached).toBe(240);
      expect(again.tokens).toEqual(expected.get(one.id));
    }
    worker.check();
    expect(worker.warnings).toEqual([]);
    await worker.stop();
  });

  it.each([
    ["disk", {}],
    ["host memory and disk", { hostBytes: "1MiB" }],
  ])(
    "bring a conversation back from %s while a tool runs, so that its next turn reads nothing",
    async (_, host) => {
      const worker = await SoloWorker.start(await openLlama(1280), {
        // Two of the three conversations; one may be kept for a turn.
        prefixCacheTokens: 512,
        tiers: { ...host, diskPath: files.folder },
      });
      const turns = prompts.map((prompt, i) => request(`t${i}`, prompt));
      const outcomes = [];
      for (const turn of turns) outcomes.push(await worker.run(turn));
      const prompt = [...prompts[0]!, ...outcomes[0]!.tokens, ...randomTokens(9, 40, 4000)];
      const next = request("next", prompt);
      const hasher = new BlockHasher({ blockSizeTokens: 16, cacheSalt: "", modelId: worker.modelId });
      const chain = new Int32Array(18 * HASH_WORDS);
      for (let block = 0; block < 18; block++) hasher.hashBlock(next.promptTokens, 16 * block, block, chain);
      const numBlocks = 15;
      const lastHash = chain.slice((numBlocks - 1) * HASH_WORDS, numBlocks * HASH_WORDS);
      const times = { earlyMs: 0, lateMs: 0, probability: 1 };
      // Not sharp: nothing is evicted for it, and there is nothing free.
      worker.expect({ lastHash, numBlocks, ...times, lateMs: 60_000, owner: { cacheSalt: "" } });
      expect(worker.load.prefetch!.bytes.device.started).toBe(0);
      worker.expect({
        lastHash,
        numBlocks,
        earlyMs: 1000,
        lateMs: 3000,
        probability: 1,
        owner: { cacheSalt: "" },
      });
      await worker.until(({ prefetch }) => prefetch!.bytes.device.started > 0);
      const hits = Object.values(worker.load.tiers).map((tier) => tier.hits);
      const { numCached, tokens } = await worker.run({ ...next, knownBlockHashes: chain });
      expect(numCached).toBeGreaterThanOrEqual(256);
      expect(Object.values(worker.load.tiers).map((tier) => tier.hits)).toEqual(hits);
      const expected = await uncached(await openLlama(), [next]);
      expect(tokens).toEqual(expected.get("next"));
      worker.check();
      await worker.stop();
    },
  );

  it("give a conversation back from disk after a restart, output included", async () => {
    const tiers = { diskPath: files.folder, diskFolder: "w" };
    const first = await SoloWorker.start(await openLlama(), { tiers });
    const turn = request("t1", prompts[0]!);
    const { tokens } = await first.run(turn);
    await first.stop();
    const next = request("t2", [...prompts[0]!, ...tokens, ...randomTokens(9, 40, 4000)]);
    const expected = await uncached(await openLlama(), [next]);
    const second = await SoloWorker.start(await openLlama(), { tiers });
    const outcome = await second.run(next);
    // 261 positions of the first turn have KV: the last token that it drew was not computed.
    expect(outcome.numCached).toBe(256);
    expect(outcome.tokens).toEqual(expected.get("t2"));
    expect(second.load.tiers.disk).toMatchObject({ bad: 0, hits: 16 });
    await second.stop();
  });
});

describe("lower tiers under pressure", () => {
  /** Repeats the test; any other should pass as well. */
  const SEED = 7;
  const NUM_CONVERSATIONS = 120;
  /** Looking at everything costs more than a request does; `test/sim/tiers.test.ts` looks after every event. */
  const CHECK_PERIOD = 50;

  // Computing costs nothing on a bare stub engine, so that hardly anything is worth a file's reading: hence the last column.
  it.each([
    { name: "host memory and disk", numRequests: 5000, hostKv: { hostBytes: "64KiB" }, prefillMsPerToken: 0 },
    { name: "disk alone", numRequests: 1000, hostKv: {}, prefillMsPerToken: 0.05 },
  ])(
    "give $numRequests requests their exact text through cancels, evictions and preemptions: $name",
    async (test) => {
      const { numRequests, hostKv, prefillMsPerToken } = test;
      const stream = new Rng(SEED).stream("pressure");
      const pick = (below: number): number => stream.nextBelow(below);
      // A working set of about 120 × 100 tokens, on a device of a tenth of it.
      const conversations = Array.from({ length: NUM_CONVERSATIONS }, (_, i) => ({
        prompt: Array.from(randomTokens(i, 60 + pick(80), 200), (token) => token + 5),
        cacheSalt: i % 3 === 0 ? "a" : "b",
      }));
      const requests = Array.from({ length: numRequests }, (_, i): Request => {
        const { prompt, cacheSalt } = conversations[pick(NUM_CONVERSATIONS)]!;
        const tail = Array.from({ length: 1 + pick(12) }, () => 5 + pick(200));
        const length = 1 + pick(prompt.length);
        const sampling = { ...GREEDY, temperature: pick(2), seed: i };
        return request(`r${i}`, [...prompt.slice(0, length), ...tail], {
          maxOutputTokens: 1 + pick(8),
          cacheSalt,
          sampling,
          priority: pick(2),
        });
      });
      const expected = await uncached(new StubEngine({ kvCapacityTokens: 16_384 }), requests, 16);
      const timing = { stepBaseMs: 0, prefillMsPerToken, decodeMsPerSequence: 0 };
      const worker = await SoloWorker.start(new StubEngine({ kvCapacityTokens: 1200, timing }), {
        prefixCacheTokens: 1200,
        chunkTokens: 64,
        maxRunning: 8,
        maxWaiting: 4096,
        tiers: { ...hostKv, diskPath: files.folder, diskBytes: "64KiB", eviction: "cost" },
      });
      const outcomes: Array<Promise<void>> = [];
      let numOpen = 0;
      let numEnded = 0;
      for (const one of requests) {
        numOpen++;
        const isCancelled = pick(10) === 0;
        outcomes.push(
          worker.run(one).then(({ tokens, end }) => {
            numOpen--;
            if (++numEnded % CHECK_PERIOD === 0) worker.check();
            const text = expected.get(one.id)!;
            expect(tokens).toEqual(end === "finished" ? text : text.slice(0, tokens.length));
            expect(end === "cancelled" || end === "finished").toBe(true);
          }),
        );
        if (isCancelled) setTimeout(() => worker.cancel(one), pick(4));
        while (numOpen > 24) await new Promise((resolve) => setImmediate(resolve));
      }
      await Promise.all(outcomes);
      worker.check();
      const { load } = worker;
      expect(load.kvBlocksUsed).toBe(0);
      expect(load.numRunning + load.numWaiting).toBe(0);
      const [nearest] = Object.values(load.tiers);
      expect(nearest!.hits).toBeGreaterThan(100);
      expect(nearest!.evictions).toBeGreaterThan(100);
      for (const [tier, { bad }] of Object.entries(load.tiers)) expect(bad, tier).toBe(0);
      await worker.stop();
    },
    60_000,
  );
});
