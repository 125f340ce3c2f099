import fc from "fast-check";
import { expect, test } from "vitest";
import { InvariantError } from "./assert.ts";
import { interpolatedQuantile, quantile, summarize } from "./quantiles.ts";

test("the nearest-rank example of five values gives the textbook answers", () => {
  const values = [15, 20, 35, 40, 50];
  expect([0.05, 0.3, 0.4, 0.5, 1].map((q) => quantile(values, q))).toEqual([15, 20, 20, 35, 50]);
});

test("ranks of whole percents are not pushed up by floating point", () => {
  const values = Array.from({ length: 100 }, (_, index) => index + 1);
  for (let percent = 1; percent <= 100; percent++) expect(quantile(values, percent / 100)).toBe(percent);
});

test("a quantile is the smallest recorded value that the share does not exceed", () => {
  const values = fc.array(fc.integer({ min: -50, max: 50 }), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(values, fc.integer({ min: 0, max: 1000 }), (unsorted, thousandths) => {
      const sorted = [...unsorted].sort((a, b) => a - b);
      const found = quantile(sorted, thousandths / 1000);
      const covered = (bound: number): boolean =>
        sorted.filter((value) => value <= bound).length * 1000 >= thousandths * sorted.length;
      const expected = sorted.find(covered);
      expect(found).toBe(expected);
    }),
  );
});

test("a summary of values in any order has count, mean, quantiles and maximum", () => {
  const values = Array.from({ length: 1000 }, (_, index) => ((index * 7919) % 1000) + 1);
  expect(summarize(values)).toEqual({
    count: 1000,
    mean: 500.5,
    p50: 500,
    p90: 900,
    p95: 950,
    p99: 990,
    p999: 999,
    max: 1000,
  });
  expect(values[0]).toBe(1);
});

test("no values have no summary, and one value is all of its own quantiles", () => {
  expect(summarize([])).toBeNull();
  expect(summarize([4])).toEqual({ count: 1, mean: 4, p50: 4, p90: 4, p95: 4, p99: 4, p999: 4, max: 4 });
});

test("values that are not finite and shares out of range are bugs", () => {
  expect(() => summarize([1, Number.NaN])).toThrow(InvariantError);
  expect(() => quantile([1], 1.1)).toThrow(InvariantError);
  expect(() => quantile([], 0.5)).toThrow(InvariantError);
});

test("an interpolated quantile is that of numpy", () => {
  expect(interpolatedQuantile([4, 1, 2, 3], 0.5)).toBe(2.5);
  expect(interpolatedQuantile([10, 20, 30, 40, 50], 0.9)).toBeCloseTo(46, 12);
  expect(interpolatedQuantile([7], 0.99)).toBe(7);
  expect(interpolatedQuantile([], 0.5)).toBeNaN();
});
