import { describe, expect, it } from "vitest";
import { KernelTable } from "./kernel-table.ts";

const POINTS = [0, 1, 2, 4].flatMap((x) => [0, 3].map((y) => [x, y]));
const TABLE = new KernelTable(
  POINTS,
  POINTS.map(([x, y]) => x! * 0.5 + y!),
);

describe("a kernel table", () => {
  it("is exact where it has the shape", () => {
    for (const [x, y] of POINTS) expect(TABLE.log2Factor([x!, y!])).toBe(x! * 0.5 + y!);
  });

  it("is straight along the first coordinate and held at its ends", () => {
    expect(TABLE.log2Factor([3, 0])).toBeCloseTo(1.5, 12);
    expect(TABLE.log2Factor([99, 3])).toBe(5);
    expect(TABLE.log2Factor([-1, 3])).toBe(3);
  });

  it("weighs the nearest lines by distance between them", () => {
    const between = TABLE.log2Factor([2, 1]);
    expect(between).toBeGreaterThan(1);
    expect(between).toBeLessThan(2.5);
  });

  it("says whether a shape is inside what was measured", () => {
    expect(TABLE.covers([3, 1])).toBe(true);
    expect(TABLE.covers([5, 1])).toBe(false);
    expect(TABLE.covers([3, 4])).toBe(false);
  });
});
