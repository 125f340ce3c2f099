import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { WinnerTree } from "./winner-tree.ts";

describe("WinnerTree", () => {
  it("names the first of the highest scores, whatever changes", () => {
    const change = fc.record({
      index: fc.nat(30),
      score: fc.oneof(fc.integer({ min: -3, max: 3 }), fc.constant(Number.NEGATIVE_INFINITY)),
    });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 31 }), fc.array(change, { maxLength: 60 }), (size, changes) => {
        const tree = new WinnerTree(size);
        const scores = Array<number>(size).fill(Number.NEGATIVE_INFINITY);
        expect(tree.winner).toBe(-1);
        for (const { index, score } of changes) {
          if (index >= size) continue;
          tree.set(index, score);
          scores[index] = score;
          const highest = Math.max(...scores);
          expect(tree.winner).toBe(highest === Number.NEGATIVE_INFINITY ? -1 : scores.indexOf(highest));
          const ranked = scores.map((_, at) => at).filter((at) => scores[at] !== Number.NEGATIVE_INFINITY);
          ranked.sort((a, b) => scores[b]! - scores[a]! || a - b);
          expect(tree.highest(3)).toEqual(ranked.slice(0, 3));
        }
      }),
    );
  });

  it("copes with an empty fleet", () => {
    expect(new WinnerTree(0).winner).toBe(-1);
  });
});
