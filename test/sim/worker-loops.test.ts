import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { chooserFrom, interleaving, LoopFleet, requestMaker, workerOptions } from "../support/loop-fleet.ts";
import { expectedOutput } from "../support/naive-worker.ts";

describe("worker loops", () => {
  it("give every request its exact output, split or not, under any policy, pressure and interleaving", () => {
    fc.assert(
      fc.property(
        workerOptions,
        fc.array(fc.tuple(requestMaker, fc.nat(2)), { minLength: 1, maxLength: 8 }),
        interleaving,
        (options, shapes, numbers) => {
          const fleet = new LoopFleet(["p", "d"], options, chooserFrom(numbers));
          const requests = shapes.map(([make, place], i) => ({ request: make(i), place }));
          for (const { request, place } of requests) {
            if (place === 0) fleet.local(request, "d");
            else fleet.split(request, "p", "d");
          }
          fleet.finish();
          for (const { request } of requests) {
            expect(fleet.outcomes.get(request.id)!.end).toBe("finished");
            expect(fleet.textOf(request)).toEqual(expectedOutput(request));
          }
          fleet.expectBaseline();
        },
      ),
      { numRuns: 250 },
    );
  });

  it("return to the baseline after cancels at any moment, and never emit a wrong token", () => {
    fc.assert(
      fc.property(
        workerOptions,
        fc.array(fc.tuple(requestMaker, fc.nat(2), fc.nat(400)), { minLength: 1, maxLength: 8 }),
        interleaving,
        (options, shapes, numbers) => {
          const fleet = new LoopFleet(["p", "d"], options, chooserFrom(numbers));
          const requests = shapes.map(([make, place, cancelAt], i) => ({
            request: make(i),
            place,
            cancelAt,
          }));
          for (const { request, place } of requests) {
            if (place === 0) fleet.local(request, "d");
            else fleet.split(request, "p", "d");
          }
          for (let turn = 0; turn < 400; turn++) {
            for (const { request, cancelAt } of requests) if (cancelAt === turn) fleet.cancel(request);
            if (!fleet.advance()) break;
          }
          fleet.finish();
          for (const { request } of requests) {
            const { tokens, end } = fleet.outcomes.get(request.id)!;
            const expected = expectedOutput(request);
            expect(end).not.toBeNull();
            for (const [index, token] of tokens) expect(token).toBe(expected[index]);
            if (end === "finished") expect(tokens.size).toBe(expected.length);
          }
          fleet.expectBaseline();
        },
      ),
      { numRuns: 250 },
    );
  });

  it("fail or finish every request when the other worker dies, and hold nothing afterwards", () => {
    fc.assert(
      fc.property(
        workerOptions,
        fc.array(requestMaker, { minLength: 1, maxLength: 6 }),
        fc.nat(300),
        fc.boolean(),
        interleaving,
        (options, shapes, killAt, killPrefill, numbers) => {
          const fleet = new LoopFleet(["p", "d"], options, chooserFrom(numbers));
          const requests = shapes.map((make, i) => make(i));
          for (const request of requests) fleet.split(request, "p", "d");
          for (let turn = 0; turn < killAt; turn++) if (!fleet.advance()) break;
          fleet.kill(killPrefill ? "p" : "d");
          fleet.finish();
          for (const request of requests) {
            const { tokens, end } = fleet.outcomes.get(request.id)!;
            const expected = expectedOutput(request);
            for (const [index, token] of tokens) expect(token).toBe(expected[index]);
            if (end === "finished" && !killPrefill) expect(tokens.size).toBeLessThanOrEqual(expected.length);
          }
          fleet.expectBaseline();
        },
      ),
      { numRuns: 250 },
    );
  });
});
