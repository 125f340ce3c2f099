import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { factorsOf, MAX_FACTORS } from "./step-variation.ts";

describe("factors of a variation", () => {
  it("keep the mean and the order of what they stand for, in bounded number", () => {
    const ratio = fc.double({ min: 0.001, max: 1000, noNaN: true });
    fc.assert(
      fc.property(fc.array(ratio, { minLength: 1, maxLength: 300 }), (ratios) => {
        const factors = factorsOf(ratios);
        const mean = (values: readonly number[]) =>
          values.reduce((sum, value) => sum + value, 0) / values.length;
        expect(factors.length).toBe(Math.min(MAX_FACTORS, ratios.length));
        expect(mean(factors) / mean(ratios)).toBeCloseTo(1, 9);
        const isAscending = factors.every((factor, i) => i === 0 || factor >= factors[i - 1]! * (1 - 1e-9));
        expect(isAscending).toBe(true);
      }),
    );
  });

  it("are none without ratios, and few ratios themselves", () => {
    expect(factorsOf([])).toEqual([]);
    expect(factorsOf([3, 1, 2])).toEqual([1, 2, 3]);
  });
});
