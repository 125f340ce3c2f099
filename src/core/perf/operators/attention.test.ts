import fc from "fast-check";
import { expect, it } from "vitest";
import { attendedPairs } from "./attention.ts";

it("counts pairs of tokens and positions like a loop over them, with any window", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 60 }),
      fc.integer({ min: 0, max: 60 }),
      fc.oneof(fc.integer({ min: 1, max: 130 }), fc.constant(Number.POSITIVE_INFINITY)),
      (tokens, context, window) => {
        let pairs = 0;
        for (let i = 0; i < tokens; i++) pairs += Math.min(window, context + i + 1);
        expect(attendedPairs(tokens, context, window)).toBe(pairs);
      },
    ),
  );
});
