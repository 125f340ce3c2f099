import type { PerfModel } from "../../core/perf/perf-model.ts";
import type { WorkerRole } from "../../core/request.ts";
import type { PlacementPolicy } from "../../core/router/placement.ts";
import { createFewestRequestsPlacement } from "../../core/router/policies/fewest-requests.ts";
import { runTwin } from "../driver/run-twin.ts";
import { DedicatedLinks } from "../network/dedicated-links.ts";
import { ListSource, type PlainRequest } from "../workload/list-source.ts";
import { OutcomeList } from "./outcomes.ts";

/** One kind of worker of a paper's fleet. */
export interface PaperPool {
  readonly role: WorkerRole;
  readonly count: number;
  readonly perf: PerfModel;
  readonly policy: string;
  readonly tokenBudget: number;
  readonly maxRunning: number;
}

/** Requests that may wait: papers refuse none. */
const MAX_REQUESTS = 1_000_000;
const BLOCK_TOKENS = 16;
const MAX_VIRTUAL_MS = 86_400_000;

/**
 * Runs requests on the fleet of a paper: workers as it has them, no prefix cache, transfers that take no time, output lengths as known
 * to the policies as the papers assume. Throws when a request fails.
 */
export function runPaperFleet(
  pools: readonly PaperPool[],
  requests: readonly PlainRequest[],
  placement: PlacementPolicy = createFewestRequestsPlacement(),
): OutcomeList {
  const list = new OutcomeList();
  const workers = pools.flatMap(({ count, ...pool }, at) =>
    Array.from({ length: count }, (_, index) => ({
      ...pool,
      id: `${pool.role}-${at}-${index}`,
      endpoint: `${pool.role}-${at}-${index}`,
      maxWaiting: MAX_REQUESTS,
      blockTokens: BLOCK_TOKENS,
      maxCachedBlocks: 0,
      startUpMs: 0,
    })),
  );
  const summary = runTwin(
    {
      workers,
      network: new DedicatedLinks({ bytesPerSecond: Number.POSITIVE_INFINITY, latencyMs: 0 }),
      oneConnectionPerRequest: true,
      handoffOrder: "compute-first",
      placement,
      faults: [],
      maxRequests: MAX_REQUESTS,
      outputBound: "true",
      checks: false,
      maxVirtualMs: MAX_VIRTUAL_MS,
    },
    ListSource.ofPlain(requests),
    list,
  );
  if (summary.end !== "finished" || list.numFailed > 0)
    throw new Error(`the run ended as ${summary.end} with ${list.numFailed} failed requests`);
  return list;
}
