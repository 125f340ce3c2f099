import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { makeSequence } from "../../../test/support/make.ts";
import type { Sequence } from "../sequence.ts";
import { IncomingLine } from "./incoming-line.ts";

const sized = (order: number, size: number): Sequence =>
  makeSequence({ order, prompt: Array.from({ length: size }, () => 1) });

/** Gives room to whoever fits `free` tokens. */
function roomOf(free: number): (sequence: Sequence) => boolean {
  let left = free;
  return ({ numPromptTokens }) => {
    if (numPromptTokens > left) return false;
    left -= numPromptTokens;
    return true;
  };
}

describe("a line of incoming sequences", () => {
  it("gives room in order, and at once", () => {
    const line = new IncomingLine(null);
    const [large, small] = [sized(0, 10), sized(1, 1)];
    for (const sequence of [small, large]) line.push(sequence);
    expect(line.take(0, roomOf(5))).toEqual([]);
    expect(line.nextAskMs).toBe(Number.POSITIVE_INFINITY);
    expect(line.take(1, roomOf(11))).toEqual([large, small]);
    expect(line.length).toBe(0);
  });

  it("lets each ask when it comes and after every pause, and a small one overtake", () => {
    const line = new IncomingLine(1000);
    const [large, small] = [sized(0, 10), sized(1, 1)];
    line.push(large);
    expect(line.take(5, roomOf(9))).toEqual([]);
    expect(line.nextAskMs).toBe(1005);
    line.push(small);
    expect(line.take(600, roomOf(9))).toEqual([small]);
    // There is room now, but nobody asks for it.
    expect(line.take(1004, roomOf(99))).toEqual([]);
    expect(line.take(1005, roomOf(99))).toEqual([large]);
    expect(line.nextAskMs).toBe(Number.POSITIVE_INFINITY);
  });

  it("asks at the times that a list of times says, whoever leaves meanwhile", () => {
    const step = fc.record({
      afterMs: fc.integer({ min: 0, max: 700 }),
      push: fc.option(fc.integer({ min: 1, max: 9 })),
      removes: fc.boolean(),
      free: fc.integer({ min: 0, max: 12 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const line = new IncomingLine(1000);
        let naive: Array<{ sequence: Sequence; askMs: number }> = [];
        let nowMs = 0;
        steps.forEach(({ afterMs, push, removes, free }, order) => {
          nowMs += afterMs;
          if (removes && naive[0] !== undefined) {
            expect(line.remove(naive[0].sequence)).toBe(true);
            naive.shift();
          }
          if (push !== null) {
            const sequence = sized(order, push);
            line.push(sequence);
            naive.push({ sequence, askMs: 0 });
          }
          const room = roomOf(free);
          const taken = naive.filter((waiter) => {
            if (waiter.askMs > nowMs) return false;
            waiter.askMs = nowMs + 1000;
            return room(waiter.sequence);
          });
          naive = naive.filter((waiter) => !taken.includes(waiter));
          expect(line.take(nowMs, roomOf(free))).toEqual(taken.map(({ sequence }) => sequence));
          expect(line.nextAskMs).toBe(Math.min(...naive.map(({ askMs }) => askMs)));
          line.checkInvariants();
        });
      }),
    );
  });
});
