import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_READS_BEFORE_DEMAND, type ReadFor, ReadTurns } from "./read-turns.ts";
import type { LowerTier } from "./segment.ts";

type Read = readonly [LowerTier, ReadFor];

describe("ReadTurns", () => {
  it("let reads ahead of turns begin only where nobody waits, and few of them, as a list of reads has it", () => {
    const steps = fc.array(
      fc.record({
        begins: fc.boolean(),
        read: fc.tuple(
          fc.constantFrom<LowerTier>("host", "disk"),
          fc.constantFrom<ReadFor>("demand", "ahead"),
        ),
        which: fc.nat(),
      }),
      { maxLength: 60 },
    );
    let numRefused = 0;
    fc.assert(
      fc.property(steps, (all) => {
        const turns = new ReadTurns();
        const running: Read[] = [];
        for (const { begins, read, which } of all) {
          const [tier, whom] = read;
          const ofTier = running.filter((each) => each[0] === tier);
          const isFree =
            ofTier.every((each) => each[1] === "ahead") && ofTier.length < MAX_READS_BEFORE_DEMAND;
          expect(turns.mayReadAhead(tier)).toBe(isFree);
          if (begins && whom === "ahead" && !isFree) {
            numRefused++;
            expect(() => turns.begin(tier, whom)).toThrow("before its time");
          } else if (begins) {
            turns.begin(tier, whom);
            running.push(read);
          } else if (running.length > 0) turns.end(...running.splice(which % running.length, 1)[0]!);
          turns.checkInvariants(running);
        }
        if (running.length > 0) expect(() => turns.checkInvariants([])).toThrow("miscounted");
      }),
    );
    expect(numRefused).toBeGreaterThan(0);
  });

  it("count no read that has not begun", () => {
    expect(() => new ReadTurns().end("disk", "ahead")).toThrow("more reads ended");
  });
});
