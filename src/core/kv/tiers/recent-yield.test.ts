import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MIN_YIELD, PROBE_EVERY, RecentYield } from "./recent-yield.ts";

const settlements = fc.array(
  fc.tuple(fc.nat(20), fc.nat(20)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const),
  { maxLength: 40 },
);

/** How many of so many turns would be brought up for. */
function numWorthIt(recent: RecentYield, numTurns: number): number {
  return Array.from({ length: numTurns }, () => recent.isWorthIt()).filter(Boolean).length;
}

describe("RecentYield", () => {
  it("is the mean of what turns used, each weighing nine tenths of the one after it", () => {
    fc.assert(
      fc.property(settlements, (all) => {
        const recent = new RecentYield();
        for (const [used, total] of all) recent.settled(used, total);
        const known = all.filter(([, total]) => total > 0);
        const weighed = (at: 0 | 1) =>
          known.reduce((sum, each, i) => sum + each[at] * 0.9 ** (known.length - 1 - i), 0);
        if (known.length < 8) expect(recent.share).toBe(1);
        else expect(recent.share).toBeCloseTo(weighed(0) / weighed(1), 9);
        const isPoor = recent.share < MIN_YIELD;
        expect(numWorthIt(recent, 3 * PROBE_EVERY)).toBe(isPoor ? 3 : 3 * PROBE_EVERY);
      }),
    );
  });

  it("recovers by what its probes find", () => {
    const recent = new RecentYield();
    for (let i = 0; i < 50; i++) recent.settled(0, 10);
    expect(recent.share).toBe(0);
    let numTurns = 0;
    while (recent.share < MIN_YIELD) {
      if (recent.isWorthIt()) recent.settled(10, 10);
      numTurns++;
    }
    expect(numTurns).toBe(3 * PROBE_EVERY);
    expect(numWorthIt(recent, 10)).toBe(10);
  });
});
