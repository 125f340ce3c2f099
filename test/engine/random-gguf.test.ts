import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gguf } from "@huggingface/gguf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ModelShape, writeRandomGguf } from "../../bench/lib/random-gguf.ts";
import { openEngine, openTokenizer } from "../../src/serve/engine/open-engine.ts";
import { generate, randomTokens } from "../support/engine-plan.ts";
import { makeSequence } from "../support/make.ts";

const SHAPE: ModelShape = {
  name: "random",
  numLayers: 3,
  embeddingSize: 128,
  numHeads: 4,
  numKvHeads: 2,
  feedForwardSize: 256,
  vocabSize: 2048,
  contextTokens: 512,
  seed: 7,
};
const PLAIN = { parseSpecial: false, addSpecial: false };

describe("random model", () => {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "twofold-random-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));
  const write = (overrides: Partial<ModelShape> = {}) => {
    const path = join(folder, `${JSON.stringify(overrides).replace(/\W/g, "")}.gguf`);
    writeRandomGguf(path, { ...SHAPE, ...overrides });
    return path;
  };

  it("has the shape that was asked for", async () => {
    const { metadata, tensorInfos } = await gguf(write(), { allowLocalFile: true });
    expect(metadata).toMatchObject({ "general.architecture": "llama", "llama.block_count": 3 });
    expect(tensorInfos.find((tensor) => tensor.name === "blk.2.attn_k.weight")?.shape).toEqual([128n, 64n]);
    expect(tensorInfos).toHaveLength(2 + 3 * 9);
  });

  it("computes, and is the same model for the same seed alone", async () => {
    const exports: Uint8Array[] = [];
    const ids: string[] = [];
    for (const seed of [7, 7, 8]) {
      const modelPath = write({ seed });
      const engine = await openEngine({
        engine: "llama",
        modelPath,
        kvCapacityTokens: 256,
        maxStepTokens: 64,
      });
      const sequence = makeSequence({ prompt: randomTokens(1, 30, 2048), maxOutputTokens: 20 });
      sequence.slot = 0;
      expect(await generate(engine, sequence, 12)).toHaveLength(12);
      exports.push(await engine.exportKv({ slot: 0, start: 0, end: 30 }));
      ids.push(engine.info.modelId);
      expect(engine.info.kvType).toMatch(/^q8_0\+fa\+llama/);
      await engine.close();
    }
    expect(exports[1]).toEqual(exports[0]);
    expect(exports[2]).not.toEqual(exports[0]);
    expect(ids[1]).toBe(ids[0]);
    expect(ids[2]).not.toBe(ids[0]);
  });

  it("refuses a KV type that the head size cannot have, before anything native is asked", async () => {
    const modelPath = write({ embeddingSize: 96, numHeads: 4, numKvHeads: 4, feedForwardSize: 96 });
    const options = { engine: "llama", modelPath, kvCapacityTokens: 256, maxStepTokens: 64 } as const;
    await expect(openEngine(options)).rejects.toMatchObject({ code: "bad_model" });
    await expect(openEngine(options)).rejects.toThrow(
      /heads of 24 values cannot be stored as q8_0; use an f16/,
    );
    const engine = await openEngine({ ...options, kvType: "f16" });
    await engine.close();
  });

  it("refuses heads that do not go together, before anything native is asked", async () => {
    const modelPath = write({ numKvHeads: 3 });
    const options = { engine: "llama", modelPath, kvCapacityTokens: 256, maxStepTokens: 64 } as const;
    await expect(openEngine(options)).rejects.toMatchObject({ code: "bad_model" });
    await expect(openEngine(options)).rejects.toThrow("4 attention heads of size 32 and 3 KV heads");
  });

  it("says that llama.cpp cannot load an architecture that it does not know", async () => {
    const modelPath = write({ name: "unknown" });
    const bytes = readFileSync(modelPath);
    const at = bytes.indexOf("general.architecture") + "general.architecture".length + 12;
    expect(bytes.toString("utf8", at, at + 5)).toBe("llama");
    bytes.write("lhama", at);
    writeFileSync(modelPath, bytes);
    const engine = openEngine({ engine: "llama", modelPath, kvCapacityTokens: 256, maxStepTokens: 64 });
    await expect(engine).rejects.toMatchObject({ code: "bad_model" });
    await expect(engine).rejects.toThrow('cannot load this model (architecture "lhama")');
    await expect(openTokenizer({ engine: "llama", modelPath })).rejects.toMatchObject({ code: "bad_model" });
  });

  it.each(["default", "deepseek-llm", "bloom", "tekken"])(
    "survives endless runs of characters with the pre-tokenizer %s, which recurses",
    async (preTokenizer) => {
      const tokenizer = await openTokenizer({ engine: "llama", modelPath: write({ preTokenizer }) });
      for (const unit of ["a", " ", "\n", "7", "!", "語", "a\u00a0"]) {
        const text = unit.repeat(100_000 / unit.length);
        const tokens = await tokenizer.encode(text, PLAIN);
        const bytes = Buffer.concat(Array.from(tokens, (token) => tokenizer.tokenBytes(token)));
        expect(bytes.toString("utf8") === text, `${tokens.length} tokens of ${JSON.stringify(unit)}`).toBe(
          true,
        );
      }
      await tokenizer.close();
    },
  );
});
