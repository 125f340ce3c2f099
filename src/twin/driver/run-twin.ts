import type { TwinObserver } from "../observer.ts";
import type { TwinSpec, TwinSummary } from "../twin-spec.ts";
import type { WorkloadSource } from "../workload/workload.ts";
import { TwinRun } from "./twin-run.ts";

/**
 * Runs a workload on a simulated fleet, from the first arrival until every request is over. Synchronous and deterministic: the same
 * specification and workload give the same trace hash, in any process.
 */
export function runTwin(spec: TwinSpec, source: WorkloadSource, observer: TwinObserver): TwinSummary {
  return new TwinRun(spec, source, observer).run();
}
