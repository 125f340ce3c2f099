import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CostCurve, CostSurface, gridNode, gridPosition } from "./octave-grid.ts";

describe("the grid", () => {
  it("has every node at its own position", () => {
    for (let i = 0; i < 200; i++) expect(gridPosition(gridNode(i))).toBeCloseTo(i, 9);
  });

  it("has every whole number up to 16 as a node", () => {
    for (let x = 0; x <= 16; x++) expect(Number.isInteger(gridPosition(x))).toBe(true);
  });
});

describe("a cost curve", () => {
  it("is exact for straight costs, and within 0.5 % for squares", () => {
    const line = new CostCurve(4096, (x, out) => {
      out.ms = 3 + 2 * x;
    });
    const square = new CostCurve(4096, (x, out) => {
      out.ms = x * x;
    });
    fc.assert(
      fc.property(fc.integer({ min: 8, max: 4096 }), (x) => {
        expect(line.msAt(x)).toBeCloseTo(3 + 2 * x, 6);
        expect(Math.abs(square.msAt(x) / (x * x) - 1)).toBeLessThan(0.005);
      }),
    );
  });

  it("never falls, though what it is made from does", () => {
    const curve = new CostCurve(1024, (x, out) => {
      out.ms = x % 3 === 0 ? 1 : x;
    });
    let last = 0;
    for (let x = 0; x <= 1024; x++) {
      expect(curve.msAt(x)).toBeGreaterThanOrEqual(last);
      last = curve.msAt(x);
    }
  });

  it("says where its sources do not reach", () => {
    const curve = new CostCurve(1024, (x, out) => {
      out.ms = x;
      out.isExtrapolated = x > 100;
    });
    curve.msAt(90);
    expect(curve.isExtrapolated).toBe(false);
    curve.msAt(500);
    expect(curve.isExtrapolated).toBe(true);
  });
});

describe("a cost surface", () => {
  it("prices no shape twice", () => {
    const seen = new Set<string>();
    const surface = new CostSurface(64, 1024, (x, y, out) => {
      expect(seen).not.toContain(`${x} ${y}`);
      seen.add(`${x} ${y}`);
      out.ms = x * y;
    });
    for (let x = 1; x <= 64; x++) expect(surface.msAt(x, 1024)).toBeCloseTo(x * 1024, 6);
    expect(seen.size).toBeGreaterThan(1000);
  });

  it("is exact for products of straight costs and goes on straight beyond its end", () => {
    const surface = new CostSurface(64, 1024, (x, y, out) => {
      out.ms = x * (5 + y);
    });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 3000 }), (x, y) => {
        // Only whole numbers are priced: between nodes 1 and 8 of the finer grid the steps are not straight.
        if (y > 0 && y < 8) return;
        expect(surface.msAt(x, y)).toBeCloseTo(x * (5 + y), 5);
      }),
    );
  });
});
