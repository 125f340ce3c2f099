import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FittedSurface, readSurface, type SurfaceData, storeSurface } from "./fitted-surface.ts";

function surfaceOf(knots: number[][], values: number[]): FittedSurface {
  const data: SurfaceData = {
    knots,
    values: Float64Array.from(values),
    range: knots.map((axis) => [axis[0]!, axis.at(-1)!]),
    rows: 0,
    heldOutRows: 0,
    medianAbsPct: 0,
    p90AbsPct: 0,
    meanSignedPct: 0,
  };
  return new FittedSurface(readSurface(storeSurface(data)), "fitted");
}

describe("a fitted surface", () => {
  it("keeps every value within half a step of storage", () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: -18, max: 18, noNaN: true }), { minLength: 1 }), (values) => {
        const surface = surfaceOf([values.map((_, i) => i)], values);
        values.forEach((value, i) => {
          expect(Math.abs(surface.log2Factor([i]) - value)).toBeLessThanOrEqual(0.5 / 200 + 1e-12);
        });
      }),
    );
  });

  it("is straight between knots in every coordinate", () => {
    // f(x, y) = x + 2 y - 0.5 x y, multilinear, so interpolation is exact.
    const f = (x: number, y: number): number => x + 2 * y - 0.5 * x * y;
    const xs = [0, 1, 4];
    const ys = [-2, 2];
    const surface = surfaceOf(
      [xs, ys],
      xs.flatMap((x) => ys.map((y) => f(x, y))),
    );
    expect(surface.log2Factor([2.5, 0.5])).toBeCloseTo(f(2.5, 0.5), 9);
    expect(surface.log2Factor([0.25, -1.5])).toBeCloseTo(f(0.25, -1.5), 9);
  });

  it("says the same on a knot, or beyond the last one, as right beside it", () => {
    const values = Array.from({ length: 18 }, (_, i) => (i * 7) % 5);
    const surface = surfaceOf(
      [
        [0, 1, 3],
        [0, 2],
        [5, 6, 9],
      ],
      values,
    );
    const place = fc.constantFrom(-1, 0, 0.5, 1, 1.7, 2, 3, 4, 5, 5.5, 6, 7, 9, 12);
    fc.assert(
      fc.property(place, place, place, (x, y, z) => {
        const beside = [x, y, z].map((at) => at + 1e-9);
        expect(surface.log2Factor([x, y, z])).toBeCloseTo(surface.log2Factor(beside), 6);
      }),
    );
  });

  it("holds its edge beyond the range and says that it left it", () => {
    const surface = surfaceOf([[0, 2]], [1, 3]);
    expect(surface.log2Factor([-5])).toBe(1);
    expect(surface.log2Factor([9])).toBe(3);
    expect(surface.covers([1])).toBe(true);
    expect(surface.covers([9])).toBe(false);
  });

  it("refuses data with another number of values than knots", () => {
    expect(() => surfaceOf([[0, 1, 2]], [1, 2])).toThrow(/one value for every knot/);
  });
});
