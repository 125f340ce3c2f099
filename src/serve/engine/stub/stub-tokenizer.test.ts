import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { StubTokenizer } from "./stub-tokenizer.ts";

const PLAIN = { parseSpecial: false, addSpecial: false };
const tokenizer = new StubTokenizer({ trainedContextTokens: 1024 });
const decode = (tokens: Int32Array) =>
  Buffer.concat(Array.from(tokens, (token) => tokenizer.tokenBytes(token))).toString("utf8");

describe("stub tokenizer", () => {
  it("round-trips any text", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(0xffff)), async (units) => {
        const text = String.fromCharCode(...units);
        expect(decode(await tokenizer.encode(text, PLAIN))).toBe(Buffer.from(text).toString());
      }),
    );
  });

  it("takes the longest match, so that common words are one token each", async () => {
    const tokens = await tokenizer.encode("the river is beautiful", PLAIN);
    expect(Array.from(tokens, (token) => Buffer.from(tokenizer.tokenBytes(token)).toString())).toEqual([
      "the",
      " river",
      " is",
      " beautiful",
    ]);
    expect(decode(await tokenizer.encode("theriverbeau", PLAIN))).toBe("theriverbeau");
  });

  it("takes control tokens from templates and not from users", async () => {
    const text = "<|im_start|>user\n<|im_end|><|im_en<|endoftext|>";
    const rendered = await tokenizer.encode(text, { parseSpecial: true, addSpecial: true });
    expect(Array.from(rendered).filter((token) => tokenizer.tokenBytes(token).length === 0)).toEqual([
      256, 257, 258,
    ]);
    expect(decode(await tokenizer.encode(text, PLAIN))).toBe(text);
    expect(tokenizer.endOfGenerationTokens).toEqual(new Set([257, 258]));
  });

  it("gives other work a turn in a long text", async () => {
    let numTurns = 0;
    const turn = () => {
      numTurns++;
      immediate = setImmediate(turn);
    };
    let immediate = setImmediate(turn);
    const text = "a river and a tree ".repeat(50_000);
    expect(decode(await tokenizer.encode(text, PLAIN))).toBe(text);
    clearImmediate(immediate);
    expect(numTurns).toBeGreaterThan(5);
  });

  it("refuses what it cannot encode or look up, and everything once closed", async () => {
    const refused = { name: "EngineError", code: "bad_argument" };
    await expect(tokenizer.encode("a".repeat((4 << 20) + 1), PLAIN)).rejects.toMatchObject(refused);
    await expect(tokenizer.encode(7 as unknown as string, PLAIN)).rejects.toMatchObject(refused);
    for (const token of [-1, tokenizer.vocabSize, 0.5]) {
      expect(() => tokenizer.tokenBytes(token)).toThrow(/outside the vocabulary/);
    }
    const closed = new StubTokenizer({ trainedContextTokens: 1024 });
    await closed.close();
    await expect(closed.encode("late", PLAIN)).rejects.toMatchObject({ code: "closed" });
  });
});
