import { describe, expect, it } from "vitest";
import type { Engine } from "../../src/serve/engine/engine.ts";
import { type LlamaEngineOptions, openLlamaEngine } from "../../src/serve/engine/llama/open-llama-engine.ts";
import { engineSuite } from "../conformance/engine.suite.ts";
import { largestRowError } from "../support/engine-kv-error.ts";
import { chunkOf, computeUpTo, generate, planOf, randomTokens, runStep } from "../support/engine-plan.ts";
import { makeSequence } from "../support/make.ts";

const modelPath = "models/lexicon-3m/lexicon-3m.Q8_0.gguf";
/** Rounding moves rows by up to about 4 %, another prefix by about their whole size. */
const MAX_ROW_ERROR = 0.15;

const open = (options: Partial<LlamaEngineOptions> = {}): Promise<Engine> =>
  openLlamaEngine({ modelPath, kvCapacityTokens: 1000, maxStepTokens: 256, numSlots: 12, ...options });

const sequenceAt = (slot: number, prompt: ArrayLike<number>, maxOutputTokens = 64) => {
  const sequence = makeSequence({ prompt, maxOutputTokens });
  sequence.slot = slot;
  return sequence;
};

/** An export of one token, which shows the layout of all. */
async function exportOneCell(engine: Engine): Promise<Uint8Array> {
  await runStep(engine, chunkOf(sequenceAt(0, [1]), 0, 1));
  return engine.exportKv({ slot: 0, start: 0, end: 1 });
}

const layoutEngine = await open();
const oneCell = await exportOneCell(layoutEngine);
await layoutEngine.close();

engineSuite("llama engine", open, (actual, expected) => {
  expect(largestRowError(oneCell, actual, expected)).toBeLessThan(MAX_ROW_ERROR);
});

describe("llama engine", () => {
  it("describes the model", async () => {
    const engine = await open({ kvCapacityTokens: 1000 });
    expect(engine.info).toMatchObject({
      engine: "llama",
      modelName: "lexicon-3m",
      vocabSize: 4096,
      trainedContextTokens: 8192,
      kvCapacityTokens: 1000,
      kvBytesPerToken: 816,
      kvType: "q8_0+fa+rot+llama.cpp-0.5.0-dev",
      numSlots: 12,
      maxStepTokens: 256,
      endOfGenerationTokens: [4093, 4095],
    });
    expect(engine.info.modelId).toMatch(/^[0-9a-f]{32}$/);
    expect(engine.info.tokenizerId).toMatch(/^[0-9a-f]{32}$/);
    await engine.close();
  });

  it("tells another prefix from rounding when exports are compared", async () => {
    const engine = await open();
    const tail = randomTokens(3, 20, 4096);
    await computeUpTo(engine, sequenceAt(0, [300, ...tail]), 21);
    await computeUpTo(engine, sequenceAt(1, [700, ...tail]), 21);
    const range = { start: 1, end: 21 };
    const a = await engine.exportKv({ slot: 0, ...range });
    const b = await engine.exportKv({ slot: 1, ...range });
    expect(largestRowError(oneCell, a, b)).toBeGreaterThan(2 * MAX_ROW_ERROR);
    await engine.close();
  });

  it("gives equal KV to the last bit when cells are scattered but in order", async () => {
    const engine = await open();
    const prompt = randomTokens(4, 60, 4096);
    const [sequence, other] = [sequenceAt(0, prompt), sequenceAt(1, randomTokens(5, 60, 4096))];
    for (let at = 0; at < 60; at++) await runStep(engine, chunkOf(other, at, 1), chunkOf(sequence, at, 1));
    await engine.applyKvOps([{ kind: "drop", slot: 1, start: 0, end: 60 }]);
    const whole = await open();
    await computeUpTo(whole, sequenceAt(0, prompt), 60);
    const range = { slot: 0, start: 0, end: 60 };
    expect(await engine.exportKv(range)).toEqual(await whole.exportKv(range));
    await engine.close();
    await whole.close();
  });

  it("splits a step into several graphs without a difference, and aborts between them", async () => {
    const engine = await open({ ubatchTokens: 16 });
    const whole = await open();
    const prompt = randomTokens(6, 200, 4096);
    const sequence = sequenceAt(0, prompt);
    const result = engine.execute(planOf(chunkOf(sequence, 0, 200)));
    setImmediate(() => engine.abort());
    const { kind } = await result;
    if (kind === "done") await engine.applyKvOps([{ kind: "drop", slot: 0, start: 0, end: 200 }]);
    expect(await generate(engine, sequence, 8)).toEqual(await generate(whole, sequenceAt(0, prompt), 8));
    await engine.close();
    await whole.close();
  });

  it("cuts a long step short while it computes", async () => {
    const engine = await open({ kvCapacityTokens: 8192, maxStepTokens: 8192 });
    const sequence = sequenceAt(0, randomTokens(7, 8000, 4096));
    const startMs = performance.now();
    await runStep(engine, chunkOf(sequence, 0, 2000));
    const quarterMs = performance.now() - startMs;
    const abortedMs = performance.now();
    const result = engine.execute(planOf(chunkOf(sequence, 2000, 6000)));
    setImmediate(() => engine.abort());
    expect(await result).toEqual({ kind: "aborted" });
    expect(performance.now() - abortedMs).toBeLessThan(2 * quarterMs);
    await runStep(engine, chunkOf(sequence, 2000, 100));
    await engine.close();
  });

  it("refuses KV of another element type", async () => {
    const q8 = await open();
    const f16 = await open({ kvType: "f16" });
    expect(f16.info.kvType).toBe("f16+fa+llama.cpp-0.5.0-dev");
    await computeUpTo(f16, sequenceAt(0, [1, 2, 3, 4]), 4);
    const bytes = await f16.exportKv({ slot: 0, start: 0, end: 4 });
    await expect(q8.importKv({ slot: 0, start: 0, end: 4 }, bytes)).rejects.toMatchObject({ code: "bad_kv" });
    await q8.close();
    await f16.close();
  });

  it("checks every structural byte of an import", async () => {
    const engine = await open();
    await computeUpTo(engine, sequenceAt(0, [1, 2, 3, 4]), 4);
    const bytes = await engine.exportKv({ slot: 0, start: 0, end: 4 });
    // Header, cells, layer count and the header of the first layer; sequence ids are the only bytes that do not matter.
    const isIgnored = (at: number) => (at >= 4 && at < 8) || (at >= 16 && at < 64 && (at - 16) % 12 >= 8);
    for (let at = 0; at < 64 + 8 + 12; at++) {
      if (isIgnored(at)) continue;
      const altered = bytes.slice();
      altered[at]! ^= 0x55;
      const imported = engine.importKv({ slot: 1, start: 0, end: 4 }, altered);
      await expect(imported, `byte ${at}`).rejects.toMatchObject({ code: "bad_kv" });
    }
    await engine.importKv({ slot: 1, start: 0, end: 4 }, bytes);
    await engine.close();
  });

  it.each([
    ["kvCapacityTokens", 0],
    ["kvCapacityTokens", 2 ** 30],
    ["maxStepTokens", -1],
    ["maxStepTokens", 1025],
    ["numSlots", 256],
    ["numSlots", 1.5],
    ["threads", 0],
    ["ubatchTokens", Number.NaN],
  ])("refuses the option %s = %d", async (name, value) => {
    await expect(open({ [name]: value })).rejects.toMatchObject({
      name: "EngineError",
      code: "bad_argument",
    });
  });

  it("stays as large as it is over hundreds of steps, shares and transfers", async () => {
    const engine = await open();
    const round = async (seed: number) => {
      const prompt = randomTokens(seed, 48, 4096);
      const sequence = sequenceAt(0, prompt);
      await generate(engine, sequence, 3);
      await engine.applyKvOps([{ kind: "share", slot: 0, to: 1, start: 0, end: 48 }]);
      await engine.importKv(
        { slot: 2, start: 0, end: 48 },
        await engine.exportKv({ slot: 1, start: 0, end: 48 }),
      );
      await engine.applyKvOps([0, 1, 2].map((slot) => ({ kind: "drop", slot, start: 0, end: 64 })));
    };
    for (let i = 0; i < 50; i++) await round(i);
    const before = process.memoryUsage.rss();
    for (let i = 0; i < 150; i++) await round(i);
    // 150 leaked exports would be 6 MB, leaked logits 9 MB.
    expect(process.memoryUsage.rss() - before).toBeLessThan(16 << 20);
    await engine.close();
  });

  it("gives its memory back when closed", async () => {
    const cycle = async () => {
      const engine = await open({ kvCapacityTokens: 16_384 });
      await computeUpTo(engine, sequenceAt(0, randomTokens(8, 32, 4096)), 32);
      await engine.close();
    };
    for (let i = 0; i < 10; i++) await cycle();
    const before = process.memoryUsage.rss();
    for (let i = 0; i < 20; i++) await cycle();
    // One engine has 17 MB of KV cells alone, twenty 334 MB. The allocator keeps some of what was freed.
    expect(process.memoryUsage.rss() - before).toBeLessThan(192 << 20);
  });
});
