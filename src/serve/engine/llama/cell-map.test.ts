import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CellMap } from "./cell-map.ts";

describe("CellMap", () => {
  it("keeps every slot's cells ascending, whatever is dropped, shared and compacted", () => {
    const command = fc.record({
      kind: fc.constantFrom(
        "append" as const,
        "append" as const,
        "drop" as const,
        "share" as const,
        "compact" as const,
      ),
      slot: fc.nat(3),
      count: fc.integer({ min: 1, max: 9 }),
    });
    fc.assert(
      fc.property(fc.array(command, { maxLength: 80 }), (commands) => {
        const map = new CellMap({ numSlots: 4, numCells: 400 });
        const ends = [0, 0, 0, 0];
        for (const { kind, slot, count } of commands) {
          if (kind === "append" && map.numUsed + count <= map.numCells) {
            map.append(slot, ends[slot]!, ends[slot]! + count);
            ends[slot] = ends[slot]! + count;
          } else if (kind === "drop") {
            const died = map.drop(slot, 0, 1000);
            expect(died.every(({ start, end }) => start < end && end <= ends[slot]!)).toBe(true);
            ends[slot] = 0;
          } else if (kind === "share") {
            const to = (slot + 1) % 4;
            if (ends[to] === 0) {
              ends[to] = Math.min(count, ends[slot]!);
              map.share(slot, to, 0, ends[to]);
            }
          } else if (kind === "compact") {
            const live = map.numUsed - map.numDead;
            map.compact();
            expect([map.numUsed, map.numDead]).toEqual([live, 0]);
          }
          map.checkInvariants();
          for (let other = 0; other < 4; other++) {
            const cells = map.cellsOf(other);
            expect(cells).toHaveLength(ends[other]!);
            expect(cells).toEqual([...cells].sort((a, b) => a - b));
          }
        }
      }),
    );
  });

  it("names exactly the ranges that nobody else holds", () => {
    const map = new CellMap({ numSlots: 2, numCells: 64 });
    map.append(0, 0, 10);
    map.share(0, 1, 2, 5);
    expect(map.drop(0, 0, 100)).toEqual([
      { start: 0, end: 2 },
      { start: 5, end: 10 },
    ]);
    expect(map.numDead).toBe(7);
    expect(map.drop(1, 0, 100)).toEqual([{ start: 2, end: 5 }]);
    expect(map.numUsed).toBe(10);
    map.compact();
    expect(map.numUsed).toBe(0);
  });
});
