import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { SMOLLM2_135M_SHAPE, writeRandomGguf } from "../../../bench/lib/random-gguf.ts";
import { readGgufFile } from "../../protocol/gguf/gguf-file.ts";
import { countParameters } from "../model-size.ts";
import { readGgufModel } from "./gguf-model.ts";
import { readModelFile } from "./model-file.ts";

const LEXICON = "models/lexicon-3m/lexicon-3m.Q8_0.gguf";

/** All elements of all tensors: what the file really holds. */
function numElements(path: string): number {
  return [...readGgufFile(path).tensors.values()].reduce(
    (sum, dims) => sum + dims.reduce((product, dim) => product * dim, 1),
    0,
  );
}

it("reads a shape whose parameters are those of the file, norms aside", () => {
  const { shape, notes } = readGgufModel(LEXICON, "lexicon");
  const real = numElements(LEXICON);
  expect(Math.abs(countParameters(shape).total / real - 1)).toBeLessThan(0.005);
  expect(shape).toMatchObject({
    name: "lexicon",
    attention: { kind: "gqa" },
    ffn: { kind: "dense", isGated: true },
  });
  expect(notes).toEqual([]);
});

it("reads what the writer was told", () => {
  const folder = mkdtempSync(join(tmpdir(), "twofold-catalog-"));
  try {
    const path = join(folder, "tiny.gguf");
    const sizes = {
      numLayers: 2,
      embeddingSize: 64,
      numHeads: 2,
      numKvHeads: 1,
      feedForwardSize: 96,
      vocabSize: 300,
    };
    writeRandomGguf(path, { ...SMOLLM2_135M_SHAPE, ...sizes });
    expect(readGgufModel(path, "tiny").shape).toEqual({
      name: "tiny",
      numLayers: 2,
      hiddenSize: 64,
      vocabSize: 300,
      attention: {
        kind: "gqa",
        numHeads: 2,
        numKvHeads: 1,
        headDim: 32,
        numWindowLayers: 0,
        windowTokens: 0,
        numLinearLayers: 0,
      },
      ffn: { kind: "dense", intermediateSize: 96, isGated: true },
      hasTiedEmbeddings: true,
      maxContextTokens: 8192,
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it("refuses what is no GGUF file", () => {
  expect(() => readGgufModel("package.json", "x")).toThrow("package.json: not a GGUF file");
});

it("tells the kind of a model's file by its content", () => {
  expect(readModelFile(LEXICON).shape).toEqual(readGgufModel(LEXICON, "lexicon-3m.Q8_0").shape);
  expect(() => readModelFile("package.json")).toThrow(/package\.json.*model_type: is missing/);
  expect(() => readModelFile("nowhere.gguf")).toThrow("nowhere.gguf: does not exist");
  expect(() => readModelFile("models")).toThrow("models: is not a file");
});
