import { expect, test } from "vitest";
import { makeRequest } from "../../../test/support/make.ts";
import { workerFacts } from "../../../test/support/placement.ts";
import type { PlacementPolicy, PlacementQuery } from "../router/placement.ts";
import { Dispatcher } from "./dispatcher.ts";
import { type DispatchEntry, RecordedDispatcher, repeatInput } from "./recorded-dispatcher.ts";

const LIMITS = { maxRequests: 4, maxWaitMs: 10_000, maxAttempts: 2 };

/** Places on the only worker there is, and notes what it is asked. */
function asked(queries: PlacementQuery[]): PlacementPolicy {
  return {
    name: "asked",
    place(query, [worker]) {
      queries.push(query);
      if (worker === undefined) return null;
      return { prefillWorker: worker.id, decodeWorker: worker.id, reason: "no_prefill_workers" };
    },
  };
}

test("wishes reach placement: a goal for the first token counts from the request's arrival, through waiting, failures and a replay", () => {
  const queries: PlacementQuery[] = [];
  const entries: DispatchEntry[] = [];
  const dispatcher = new RecordedDispatcher({ ...LIMITS, placement: asked(queries) }, (entry) =>
    entries.push(entry),
  );
  dispatcher.submit(makeRequest({ id: "hurried", firstTokenGoalMs: 500, expectedFanOut: 8 }), 100);
  dispatcher.submit(makeRequest({ id: "patient" }), 100);
  dispatcher.workerReady(workerFacts({ id: "w" }), 300);
  dispatcher.attemptFailed("hurried", 1, "worker_lost", 450);
  const deadlines = queries.map(({ requestId, firstTokenDeadlineMs }) => [requestId, firstTokenDeadlineMs]);
  expect(deadlines).toEqual([
    ["hurried", 600],
    ["patient", null],
    ["hurried", 600],
    ["patient", null],
    ["hurried", 600],
  ]);

  expect(queries[0]!.expectedFanOut).toBe(8);

  const again: PlacementQuery[] = [];
  const repeated = new Dispatcher({ ...LIMITS, placement: asked(again) });
  for (const entry of entries) if (entry.kind !== "decision") repeatInput(repeated, entry);
  expect(again).toEqual(queries);
});
