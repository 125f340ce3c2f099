import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PositionSet } from "./position-set.ts";

const BOUND = 40;

/** Compares every answer with a set of numbers. */
function expectEqual(set: PositionSet, truth: ReadonlySet<number>): void {
  const positions = [...truth].sort((a, b) => a - b);
  expect(set.isEmpty).toBe(positions.length === 0);
  expect(set.end).toBe(positions.length === 0 ? 0 : positions.at(-1)! + 1);
  expect(set.isPrefix).toBe(positions.every((position, i) => position === i));
  const wrong: string[] = [];
  for (let start = 0; start <= BOUND; start++) {
    for (let end = start; end <= BOUND; end++) {
      const range = Array.from({ length: end - start }, (_, i) => start + i);
      const isCovered = range.every((position) => truth.has(position));
      const isTouched = range.some((position) => truth.has(position));
      if (set.covers(start, end) !== isCovered || set.intersects(start, end) !== isTouched) {
        wrong.push(`[${start}, ${end})`);
      }
    }
  }
  expect(wrong).toEqual([]);
}

describe("PositionSet", () => {
  it("agrees with a set of numbers through any additions and removals", () => {
    const operation = fc.record({
      isAdd: fc.boolean(),
      start: fc.nat(BOUND),
      length: fc.nat(12),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 30 }), (operations) => {
        const set = new PositionSet();
        const truth = new Set<number>();
        for (const { isAdd, start, length } of operations) {
          const end = Math.min(BOUND, start + length);
          if (isAdd && set.intersects(start, end)) continue;
          if (isAdd) set.add(start, end);
          else set.remove(start, end);
          for (let position = start; position < end; position++) {
            if (isAdd) truth.add(position);
            else truth.delete(position);
          }
        }
        expectEqual(set, truth);
      }),
      { numRuns: 60 },
    );
  });

  it("returns to what it was at a snapshot", () => {
    const set = new PositionSet();
    set.add(0, 10);
    set.add(12, 14);
    set.add(20, 21);
    const snapshot = set.snapshot();
    set.remove(0, 40);
    set.add(5, 6);
    set.restore(snapshot);
    expectEqual(set, new Set([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 20]));
    const other = new PositionSet();
    other.restore(snapshot);
    other.add(10, 12);
    expect(other.covers(0, 14)).toBe(true);
    expect(set.covers(0, 14)).toBe(false);
  });
});
