import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { workerFacts } from "../../../../test/support/placement.ts";
import { LearnedSteps } from "./learned-steps.ts";
import { StepPrices } from "./step-prices.ts";
import { type BookedPrefill, WorkerBook } from "./worker-book.ts";

function bookOf(): WorkerBook {
  return new WorkerBook(0, 0, workerFacts({ id: "w" }), new StepPrices(null, new LearnedSteps()));
}

describe("WorkerBook", () => {
  it("queues what is ahead by priority, less the time that it has been worked on", () => {
    const book = bookOf();
    expect(book.queueMs(0, 0)).toBe(0);
    const first = { baseMs: 100, priority: 0 };
    book.addPrefill(first, 1000);
    book.addPrefill({ baseMs: 50, priority: 5 }, 1000);
    expect(book.queueMs(5, 1000)).toBe(150);
    expect(book.queueMs(0, 1000)).toBe(100);
    expect(book.queueMs(5, 1040)).toBe(110);
    expect(book.freeAtMs(1040)).toBe(1150);
    book.removePrefill(first, true, 1080);
    expect(book.queueMs(5, 1080)).toBe(50);
    expect(book.freeAtMs(1080)).toBe(1130);
  });

  it("has worked on the first one, whoever else is given up", () => {
    const book = bookOf();
    const [first, second] = [100, 50].map((baseMs) => ({ baseMs, priority: 0 }));
    book.addPrefill(first!, 0);
    book.addPrefill(second!, 0);
    book.removePrefill(second!, false, 60);
    expect(book.queueMs(0, 60)).toBe(40);
    book.addPrefill(second!, 60);
    book.removePrefill(first!, false, 70);
    expect(book.queueMs(0, 70)).toBe(50);
  });

  it("expects what is overdue to take longer the longer it is overdue", () => {
    const book = bookOf();
    book.addPrefill({ baseMs: 100, priority: 0 }, 0);
    expect(book.queueMs(0, 95)).toBe(10);
    expect(book.queueMs(0, 1100)).toBe(500);
  });

  it("keeps its sums whatever comes and goes", () => {
    const change = fc.record({
      add: fc.boolean(),
      at: fc.nat(),
      baseMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
      priority: fc.integer({ min: -2, max: 2 }),
    });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 60 }), (changes) => {
        const book = bookOf();
        const present: BookedPrefill[] = [];
        for (const [i, { add, at, baseMs, priority }] of changes.entries()) {
          if (add || present.length === 0) {
            const prefill = { baseMs, priority };
            present.push(prefill);
            book.addPrefill(prefill, i);
          } else book.removePrefill(present.splice(at % present.length, 1)[0]!, at % 3 > 0, i);
          book.checkInvariants();
          expect(book.numPrefills).toBe(present.length);
          if (present.length === 0) expect(book.queueMs(0, i)).toBe(0);
          // Whoever is more urgent never waits longer, but for what sums of fractions keep of those that have gone.
          expect(book.queueMs(-2, i)).toBeLessThanOrEqual(book.queueMs(2, i) + 1e-6);
        }
      }),
    );
  });
});
