import type { PlacementQuery, WorkerFacts } from "../../src/core/router/placement.ts";

/** A query about which only the given fields matter. */
export function placementQuery(fields: Partial<PlacementQuery> = {}): PlacementQuery {
  return {
    requestId: "r1",
    nowMs: 0,
    numPromptTokens: 100,
    maxOutputTokens: 100,
    promptBlockHashes: null,
    priority: 0,
    firstTokenDeadlineMs: null,
    ...fields,
  };
}

/** Facts of a worker about which only the given fields matter. */
export function workerFacts(fields: Partial<WorkerFacts> & Pick<WorkerFacts, "id">): WorkerFacts {
  return {
    role: "both",
    kvTokensTotal: 1000,
    perf: null,
    tokenBudget: 256,
    maxRunning: 16,
    kvBytesPerToken: 1000,
    ...fields,
  };
}
