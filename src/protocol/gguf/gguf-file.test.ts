import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gguf } from "@huggingface/gguf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SMOLLM2_135M_SHAPE, writeRandomGguf } from "../../../bench/lib/random-gguf.ts";
import { readGgufFile } from "./gguf-file.ts";

/** A model whose file is little more than a header. */
const TINY = {
  numLayers: 1,
  embeddingSize: 32,
  numHeads: 1,
  numKvHeads: 1,
  feedForwardSize: 32,
  vocabSize: 260,
};

const MODEL = "models/lexicon-3m/lexicon-3m.Q8_0.gguf";
/** Where the tensor data of the model starts, as its header says. */
const DATA_START = 132_224;

describe("GGUF file", () => {
  let folder = "";
  let model = Buffer.alloc(0);
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "twofold-gguf-"));
    model = readFileSync(MODEL);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const fileOf = (bytes: Uint8Array | string) => {
    const path = join(folder, "model.gguf");
    writeFileSync(path, bytes);
    return path;
  };
  const altered = (at: number, ...bytes: number[]) => {
    const copy = Buffer.from(model);
    copy.set(bytes, at);
    return copy;
  };
  const expectBad = (path: string, message: string | RegExp) => {
    expect(() => readGgufFile(path)).toThrow(expect.objectContaining({ name: "GgufError" }));
    expect(() => readGgufFile(path)).toThrow(message);
  };

  it("reads what another reader reads", async () => {
    const file = readGgufFile(MODEL);
    const { metadata } = await gguf(MODEL, { allowLocalFile: true });
    const numHeaderFields = 3;
    expect(file.metadata.size).toBe(Object.keys(metadata).length - numHeaderFields);
    for (const [key, value] of file.metadata) {
      const other = (metadata as Record<string, unknown>)[key];
      if (Array.isArray(other)) expect(value, key).toEqual({ arrayLength: other.length });
      else expect(value, key).toBe(typeof other === "bigint" ? Number(other) : other);
    }
    expect(file).toMatchObject({ architecture: "llama", modelName: "lexicon-3m" });
  });

  it("gives the same fingerprints to a copy, and others to other weights or another vocabulary", () => {
    const original = readGgufFile(MODEL);
    expect(readGgufFile(fileOf(model))).toMatchObject({
      modelId: original.modelId,
      tokenizerId: original.tokenizerId,
    });
    const weights = readGgufFile(fileOf(altered(DATA_START + 1_000_000, 1, 2, 3)));
    expect(weights.modelId).not.toBe(original.modelId);
    expect(weights.tokenizerId).toBe(original.tokenizerId);
    const merge = model.indexOf("o r");
    const vocabulary = readGgufFile(fileOf(altered(merge, 0x70)));
    expect(vocabulary.modelId).not.toBe(original.modelId);
    expect(vocabulary.tokenizerId).not.toBe(original.tokenizerId);
    const name = readGgufFile(fileOf(altered(model.indexOf("lexicon-3m"), 0x4c)));
    expect(name.modelName).toBe("Lexicon-3m");
    expect(name.tokenizerId).toBe(original.tokenizerId);
  });

  it("says that a file is missing", () => {
    expectBad(join(folder, "nowhere.gguf"), /nowhere\.gguf: missing/);
  });

  it("says that something is not a GGUF file", () => {
    expectBad(fileOf(""), "not a GGUF file: it is empty");
    expectBad(fileOf("G"), 'not a GGUF file: it does not start with "GGUF"');
    expectBad(fileOf("Once upon a time there was a river."), "not a GGUF file");
    expectBad(fileOf(altered(0, 0x67)), "not a GGUF file");
    expectBad(folder, "not a GGUF file: it is not a regular file");
  });

  it("says how much is missing when a file is truncated in its data", () => {
    for (const size of [DATA_START, DATA_START + 1, model.length >> 1, model.length - 1]) {
      expectBad(fileOf(model.subarray(0, size)), `truncated: needs ${model.length} bytes, has ${size}`);
    }
  });

  it("says so when a file is truncated anywhere in its header", () => {
    for (let size = 4; size < DATA_START; size = Math.ceil(size * 1.3)) {
      expectBad(fileOf(model.subarray(0, size)), `truncated: needs at least`);
    }
  });

  it("refuses versions, byte orders and sizes that cannot be right", () => {
    expectBad(fileOf(altered(4, 1)), "GGUF version 1");
    expectBad(fileOf(altered(4, 4)), "GGUF version 4");
    expectBad(fileOf(altered(4, 0, 0, 0, 3)), "big-endian");
    expectBad(fileOf(altered(8, 0xff, 0xff, 0xff, 0xff)), "4294967295 tensors");
    expectBad(fileOf(altered(8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)), "is not a size");
    expectBad(fileOf(altered(16, 0xff, 0xff, 0xff, 0xff)), "4294967295 metadata entries");
    expectBad(fileOf(altered(24, 0xff, 0xff, 0xff, 0x7f)), "a metadata string of");
  });

  it("never fails but with an error that it means, whatever byte of the header is wrong", () => {
    const path = fileOf("");
    writeRandomGguf(path, { ...SMOLLM2_135M_SHAPE, ...TINY });
    const whole = readFileSync(path);
    let numRefused = 0;
    for (let at = 4; at < whole.length - 1000; at += 29) {
      const copy = Buffer.from(whole);
      copy[at]! ^= 0xff;
      writeFileSync(path, copy);
      try {
        readGgufFile(path);
      } catch (error) {
        expect(error).toMatchObject({ name: "GgufError" });
        numRefused++;
      }
    }
    expect(numRefused).toBeGreaterThan(20);
  });
});
