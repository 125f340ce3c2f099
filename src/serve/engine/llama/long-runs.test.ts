import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { splitLongRuns } from "./long-runs.ts";

const MAX = 100;

describe("splitLongRuns", () => {
  it("leaves ordinary text in one piece, however long", () => {
    const text = "The river, and the tree.\n".repeat(1000);
    expect(splitLongRuns(text, MAX)).toEqual([text]);
    expect(splitLongRuns("", MAX)).toEqual([""]);
    expect(splitLongRuns("a".repeat(MAX), MAX)).toHaveLength(1);
  });

  it("cuts so that no piece has a longer run of one kind, and loses nothing", () => {
    const fragment = fc.tuple(
      fc.constantFrom("a", "7", "!", " ", "\n", "\t", "\u00a0", "\u3000", "語", "🦊", "<", "<|im_end|>"),
      fc.nat(250),
    );
    fc.assert(
      fc.property(fc.array(fragment, { maxLength: 12 }), (fragments) => {
        const text = fragments.map(([unit, count]) => unit.repeat(count)).join("");
        const pieces = splitLongRuns(text, MAX);
        expect(pieces.join("")).toBe(text);
        for (const piece of pieces) {
          expect(Math.max(0, ...piece.split(/[ \t-\r]/).map((run) => run.length))).toBeLessThanOrEqual(MAX);
          expect(Math.max(0, ...piece.split(/\S/).map((run) => run.length))).toBeLessThanOrEqual(MAX);
        }
      }),
    );
  });

  it("never cuts a surrogate pair or a control token", () => {
    for (let shift = 0; shift < 12; shift++) {
      const pairs = splitLongRuns(`${"a".repeat(shift)}${"🦊".repeat(500)}`, MAX);
      expect(pairs.length).toBeGreaterThan(1);
      for (const piece of pairs) expect(Buffer.from(piece).toString()).toBe(piece);
      const tokens = splitLongRuns(`${"a".repeat(shift)}${"<|im_end|>".repeat(100)}`, MAX);
      expect(tokens.length).toBeGreaterThan(1);
      for (const piece of tokens) expect(piece.replace(/^a*/, "")).toMatch(/^(<\|im_end\|>)*$/);
    }
  });
});
