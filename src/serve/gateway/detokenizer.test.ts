import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FakeTokenizer } from "../../../test/support/fake-tokenizer.ts";
import { Detokenizer, incompleteSuffixLength, TokenTexts } from "./detokenizer.ts";

/** Bytes that reach every corner of UTF-8: whole characters of each length, combining marks, and anything at all. */
const bytes = fc
  .array(
    fc.oneof(
      fc.string({ unit: "binary" }).map((text) => Buffer.from(text)),
      fc.constantFrom("é", "水", "🙂", "👩‍👩‍👧", "e\u0301", "\ufeff", "a").map((text) => Buffer.from(text)),
      fc.uint8Array({ maxLength: 4 }).map((raw) => Buffer.from(raw)),
      fc
        .constantFrom([0xe0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90], [0xf0, 0x9f], [0xc0], [0xff])
        .map((raw) => Buffer.from(raw)),
    ),
    { maxLength: 12 },
  )
  .map((parts) => Buffer.concat(parts));

/** Bytes cut into tokens at random places. */
const tokens = fc
  .tuple(bytes, fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 40 }))
  .map(([all, lengths]) => {
    const pieces: Buffer[] = [];
    let at = 0;
    for (const length of lengths) {
      pieces.push(all.subarray(at, at + length));
      at += length;
    }
    pieces.push(all.subarray(Math.min(at, all.length)));
    return pieces;
  });

/** The naive way: everything at once. */
function oracle(pieces: readonly Uint8Array[]): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Buffer.concat(pieces));
}

function detokenizerOf(pieces: readonly Uint8Array[]) {
  const tokenizer = new FakeTokenizer({ extraTokens: pieces });
  const ids = pieces.map((_, i) => tokenizer.firstExtra + i);
  return { detokenizer: new Detokenizer(new TokenTexts(tokenizer)), ids };
}

describe("Detokenizer", () => {
  test("pieces join to what decoding all bytes at once gives", () => {
    fc.assert(
      fc.property(tokens, (pieces) => {
        const { detokenizer, ids } = detokenizerOf(pieces);
        const shown = ids.map((id) => detokenizer.push(id));
        shown.push(detokenizer.flush());
        expect(shown.join("")).toBe(oracle(pieces));
        expect(detokenizer.isPending).toBe(false);
      }),
      { numRuns: 1000 },
    );
  });

  test("no piece ends inside a character, and nothing is kept that is whole", () => {
    fc.assert(
      fc.property(tokens, (pieces) => {
        const { detokenizer, ids } = detokenizerOf(pieces);
        let shown = "";
        for (const [i, id] of ids.entries()) {
          const piece = detokenizer.push(id);
          expect(piece).not.toMatch(/\p{Surrogate}/u);
          shown += piece;
          const streamed = new TextDecoder("utf-8", { ignoreBOM: true });
          // A second decoder in streaming mode knows how much of the bytes so far is final.
          expect(shown).toBe(streamed.decode(Buffer.concat(pieces.slice(0, i + 1)), { stream: true }));
        }
      }),
      { numRuns: 1000 },
    );
  });

  test("an emoji in four tokens appears with the fourth", () => {
    const { detokenizer, ids } = detokenizerOf([...Buffer.from("🙂")].map((byte) => Uint8Array.of(byte)));
    expect(ids.map((id) => detokenizer.push(id))).toEqual(["", "", "", "🙂"]);
  });

  test("a control token between two halves of a character changes nothing", () => {
    const { detokenizer } = detokenizerOf([]);
    expect([0xc3, 257, 0xa9].map((token) => detokenizer.push(token))).toEqual(["", "", "é"]);
  });

  test("an unfinished character at the end becomes one replacement character", () => {
    const { detokenizer } = detokenizerOf([]);
    for (const token of [0xf0, 0x9f, 0x99]) expect(detokenizer.push(token)).toBe("");
    expect(detokenizer.flush()).toBe("\ufffd");
    expect(detokenizer.flush()).toBe("");
  });

  test("the same token gives its own text again after having completed a character", () => {
    const { detokenizer } = detokenizerOf([]);
    expect([0xc3, 0xa9, 0xa9].map((token) => detokenizer.push(token))).toEqual(["", "é", "\ufffd"]);
  });
});

test.each([
  [[], 0],
  [[0x61], 0],
  [[0xc3], 1],
  [[0xc3, 0xa9], 0],
  [[0xe6, 0xb0], 2],
  [[0xf0, 0x9f, 0x99], 3],
  [[0xf0, 0x9f, 0x99, 0x82], 0],
  [[0xe0, 0x80], 0],
  [[0xed, 0xa0], 0],
  [[0xf4, 0x90], 0],
  [[0xf5], 0],
  [[0xc1], 0],
  [[0x80, 0x80, 0x80], 0],
])("of %j, %i bytes are the beginning of a character", (raw, length) => {
  expect(incompleteSuffixLength(Uint8Array.from(raw))).toBe(length);
});
