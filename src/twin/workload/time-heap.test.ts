import fc from "fast-check";
import { expect, it } from "vitest";
import { TimeHeap } from "./time-heap.ts";

it("gives things by time, and of equal times in the order they came", () => {
  const step = fc.oneof(fc.record({ timeMs: fc.nat(5) }), fc.constant("pop" as const));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const heap = new TimeHeap<number>();
      const naive: { timeMs: number; value: number }[] = [];
      let numPushed = 0;
      for (const one of steps) {
        if (one !== "pop") {
          naive.push({ timeMs: one.timeMs, value: numPushed });
          heap.push(one.timeMs, numPushed++);
        } else if (naive.length > 0) {
          naive.sort((a, b) => a.timeMs - b.timeMs || a.value - b.value);
          expect(heap.pop()).toBe(naive.shift()?.value);
        }
        const first = Math.min(Number.POSITIVE_INFINITY, ...naive.map(({ timeMs }) => timeMs));
        expect([heap.size, heap.firstMs]).toEqual([naive.length, first]);
      }
    }),
  );
});

it("is not asked for what it does not have", () => {
  expect(() => new TimeHeap().pop()).toThrow("the heap is empty");
});
