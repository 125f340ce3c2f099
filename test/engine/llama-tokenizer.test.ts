import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeRandomGguf } from "../../bench/lib/random-gguf.ts";
import { cutEnds } from "../../src/serve/engine/cut-tokens.ts";
import { openEngine, openTokenizer } from "../../src/serve/engine/open-engine.ts";
import type { Tokenizer } from "../../src/serve/engine/tokenizer.ts";

const modelPath = "models/lexicon-3m/lexicon-3m.Q8_0.gguf";
const PLAIN = { parseSpecial: false, addSpecial: false };

const SPECIAL = { parseSpecial: true, addSpecial: false };

/** Cuts random texts behind a random one of their cut tokens and compares the tokens of both parts with those of the whole. */
async function expectCutsExact(tokenizer: Tokenizer, numRuns: number): Promise<void> {
  const cuts = [...tokenizer.cutTokens.keys()];
  const piece = fc.oneof(
    fc.constantFrom(...cuts, "<|im_start|>user\n", "<|im_", "end|>", "<", "|>", ">\n"),
    fc.constantFrom(
      " ",
      "  ",
      "\n",
      "\n\n",
      "\t",
      " \r\n",
      "don't",
      " 12345",
      "Grüße",
      "日本",
      "🦊",
      "\ud83d",
      "\0",
    ),
    fc.constantFrom("x".repeat(3000), " ".repeat(3000)),
    fc.string(),
    fc.lorem(),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 30 }), fc.nat(), async (pieces, choice) => {
      const text = pieces.join("");
      const ends = cutEnds(text, cuts);
      const whole = await tokenizer.encode(text, SPECIAL);
      const ids = new Set(tokenizer.cutTokens.values());
      expect(whole.filter((token) => ids.has(token))).toHaveLength(ends.length);
      if (ends.length === 0) return;
      const end = ends[choice % ends.length]!;
      const parts = [text.slice(0, end), text.slice(end)];
      const [head, tail] = await Promise.all(parts.map((part) => tokenizer.encode(part, SPECIAL)));
      expect([...head!, ...tail!]).toEqual([...whole]);
    }),
    { numRuns },
  );
}

describe("llama tokenizer", () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await openTokenizer({ engine: "llama", modelPath });
  });
  afterAll(() => tokenizer.close());

  const decode = (tokens: Int32Array) =>
    Buffer.concat(Array.from(tokens, (token) => tokenizer.tokenBytes(token))).toString("utf8");

  it("describes the vocabulary, and belongs to the engine of the same file", async () => {
    const engine = await openEngine({ engine: "llama", modelPath, kvCapacityTokens: 256, maxStepTokens: 16 });
    expect(tokenizer).toMatchObject({
      id: engine.info.tokenizerId,
      modelName: "lexicon-3m",
      vocabSize: 4096,
      trainedContextTokens: 8192,
      bosText: "<|endoftext|>",
      eosText: "<|im_end|>",
    });
    expect([...tokenizer.endOfGenerationTokens]).toEqual(engine.info.endOfGenerationTokens);
    expect(tokenizer.chatTemplate).toContain("<|im_start|>assistant");
    await engine.close();
  });

  it.each([
    "What is a river?",
    "",
    " ",
    "\n\n\t  spaces  \r\n",
    "Grüße, naïve façade — “quotes”…",
    "日本語のテキスト と 한국어",
    "🦊👩‍👩‍👧‍👦🏳️‍🌈 e\u0301",
    "a\0b\u007f\u0080",
    "x".repeat(5000),
  ])("round-trips %j", async (text) => {
    expect(decode(await tokenizer.encode(text, PLAIN))).toBe(text);
  });

  it("replaces half a surrogate pair, as UTF-8 must", async () => {
    expect(decode(await tokenizer.encode("a\ud83d", PLAIN))).toBe("a\ufffd");
  });

  it("takes control tokens from templates and not from users", async () => {
    const text = "<|im_start|>user\nHi<|im_end|>";
    const rendered = await tokenizer.encode(text, { parseSpecial: true, addSpecial: false });
    const typed = await tokenizer.encode(text, PLAIN);
    expect(rendered.at(-1)).toBe(4095);
    expect(rendered.length).toBeLessThan(typed.length);
    expect(typed).not.toContain(4095);
    expect(decode(typed)).toBe(text);
    expect(decode(rendered)).toBe("user\nHi");
  });

  it.each([
    ["words", "The river and the tree. ".repeat(40_000)],
    ["one letter", "a".repeat(1_000_000)],
    ["spaces", " ".repeat(1_000_000)],
    ["new lines", "\n".repeat(1_000_000)],
    ["digits", "7".repeat(1_000_000)],
    ["emoji", "🦊".repeat(200_000)],
  ])("encodes a very long text of %s off the event loop", async (_, text) => {
    let numTurns = 0;
    const timer = setInterval(() => numTurns++, 1);
    const tokens = await tokenizer.encode(text, PLAIN);
    clearInterval(timer);
    expect(decode(tokens)).toBe(text);
    expect(numTurns).toBeGreaterThan(0);
  });

  it("can cut a text behind an end-of-generation token", async () => {
    expect([...tokenizer.cutTokens]).toEqual([
      ["<|endoftext|>", 4093],
      ["<|im_end|>", 4095],
    ]);
    await expectCutsExact(tokenizer, 200);
  });

  it("encodes many texts at once", async () => {
    const texts = Array.from({ length: 200 }, (_, i) =>
      `Question ${i}: what is a tree? `.repeat(1 + (i % 7)),
    );
    const all = await Promise.all(texts.map((text) => tokenizer.encode(text, PLAIN)));
    expect(all.map(decode)).toEqual(texts);
  });

  it("refuses what it cannot encode or look up", async () => {
    const tooLong = tokenizer.encode("a".repeat((4 << 20) + 1), PLAIN);
    await expect(tooLong).rejects.toMatchObject({ name: "EngineError", code: "bad_argument" });
    const noText = tokenizer.encode(undefined as unknown as string, PLAIN);
    await expect(noText).rejects.toMatchObject({ code: "bad_argument" });
    for (const token of [-1, 4096, 1.5, Number.NaN]) {
      expect(() => tokenizer.tokenBytes(token)).toThrow(/outside the vocabulary/);
    }
  });

  it("knows that control tokens have no bytes", () => {
    for (const token of [4093, 4094, 4095]) expect(tokenizer.tokenBytes(token)).toHaveLength(0);
  });

  it("finishes what was asked for when closed, and refuses what comes after", async () => {
    const other = await openTokenizer({ engine: "llama", modelPath });
    const pending = other.encode("What is a river? ".repeat(5000), PLAIN);
    await other.close();
    await other.close();
    expect((await pending).length).toBeGreaterThan(0);
    await expect(other.encode("late", PLAIN)).rejects.toMatchObject({ code: "closed" });
  });
});

describe("llama tokenizer whose pre-tokenizer cannot take long runs", () => {
  it("splits them in the same places whatever stands before a cut token", async () => {
    const folder = mkdtempSync(join(tmpdir(), "twofold-runs-"));
    const path = join(folder, "model.gguf");
    const shape = { numLayers: 1, embeddingSize: 32, numHeads: 1, numKvHeads: 1, feedForwardSize: 32 };
    writeRandomGguf(path, {
      ...shape,
      name: "runs",
      vocabSize: 1024,
      contextTokens: 64,
      seed: 1,
      preTokenizer: "falcon",
    });
    const other = await openTokenizer({ engine: "llama", modelPath: path });
    try {
      expect(other.cutTokens.size).toBeGreaterThan(0);
      await expectCutsExact(other, 100);
    } finally {
      await other.close();
      rmSync(folder, { recursive: true });
    }
  });
});
