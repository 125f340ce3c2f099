import { describe, expect, it } from "vitest";
import { makeRequest } from "../../../test/support/make.ts";
import { MAX_KEPT_CANDIDATES } from "../../protocol/dispatch-log.ts";
import { DecisionLog } from "./decision-log.ts";

const DECISION = { prefillWorker: "a", decodeWorker: "a", reason: "aggregated" } as const;

describe("DecisionLog", () => {
  it("keeps the latest requests and forgets the oldest first", () => {
    const log = new DecisionLog("load", 3);
    for (const id of ["a", "b", "c", "d"]) {
      log.submitted(makeRequest({ id, cacheSalt: "s" }));
      log.placed(id, DECISION, 5);
    }
    expect(log.explain("a", "s")).toEqual([]);
    expect(log.explain("b", "s")).toMatchObject([
      { requestId: "b", attempts: [{ atMs: 5, decision: DECISION }] },
    ]);
    // What is heard of a request that is forgotten changes nothing.
    log.placed("a", DECISION, 6);
    log.cached("a", 16);
    expect(log.explain("a", "s")).toEqual([]);
  });

  it("keeps the winner and the cheapest of many candidates", () => {
    const log = new DecisionLog("load");
    log.submitted(makeRequest({ id: "r", cacheSalt: "s" }));
    const candidates = Array.from({ length: 500 }, (_, i) => {
      // The winner need not be the cheapest: a policy may look at more than the cost.
      const cost = i === 0 ? 1000 : 500 - i;
      return { prefillWorker: `p${i}`, decodeWorker: "d", fetch: null, terms: { all: cost }, cost };
    });
    log.placed("r", { ...DECISION, candidates }, 1);
    const kept = log.explain("r", "s")[0]!.attempts[0]!.decision.candidates!;
    expect(kept).toHaveLength(MAX_KEPT_CANDIDATES);
    expect(kept.slice(0, 3).map(({ cost }) => cost)).toEqual([1000, 1, 2]);
    expect(candidates).toHaveLength(500);
  });

  it("finds the choices of a request, and those of no other", () => {
    const log = new DecisionLog("load");
    for (const id of ["r-0", "r-1", "r-x", "r-10-2", "rr-0"])
      log.submitted(makeRequest({ id, cacheSalt: "s" }));
    expect(log.explain("r", "s").map(({ requestId }) => requestId)).toEqual(["r-0", "r-1"]);
    expect(log.explain("r", "t")).toEqual([]);
  });
});
