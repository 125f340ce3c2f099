import type { PerfModel } from "../../core/perf/perf-model.ts";
import type { WorkerRole } from "../../core/request.ts";
import { createPlacementPolicy } from "../../core/router/policies/registry.ts";
import { findSchedulingPolicy } from "../../core/scheduler/policies/registry.ts";
import type { ServeConfig } from "../../protocol/fleet-file.ts";
import { networkSchema } from "../../protocol/network-schema.ts";
import type { RecordedRequest } from "../../protocol/run-record.ts";
import { runTwin } from "../driver/run-twin.ts";
import { buildNetwork } from "../network/build-network.ts";
import type { RequestOutcome, StepRow, TwinObserver } from "../observer.ts";
import type { TwinSpec, TwinWorkerSpec } from "../twin-spec.ts";
import { plainRequest } from "../workload/plain-request.ts";
import { PulledSource } from "../workload/trace-source.ts";
import type { WorkloadRequest } from "../workload/workload.ts";

/** As many requests as the server takes at once (`serve/start.ts`). */
const MAX_REQUESTS = 4096;
/** Virtual time after the last arrival by which a replay has to be over. */
const MAX_DRAIN_MS = 24 * 3_600_000;

/** How workers of one machine reach each other. */
export interface LinkTimes {
  readonly latencyMs: number;
  readonly bytesPerSecond: number;
}

/** What the twin says of a recorded run. */
export interface Replay {
  /** By place in the list of requests; absent: it did not complete. */
  readonly outcomes: ReadonlyMap<number, RequestOutcome>;
  /** Shares of steps that left the range of the perf model. */
  readonly extrapolatedShare: number;
  /** Share of the run's time in which each worker ran steps. */
  readonly busyShares: ReadonlyMap<string, number>;
}

/** Runs requests with the arrivals and lengths of a recorded run on the fleet of a server's configuration. */
export function replayRun(
  requests: readonly RecordedRequest[],
  config: ServeConfig,
  perf: PerfModel,
  link: LinkTimes,
): Replay {
  const ordered = requests
    .map((request, index) => ({ request, index }))
    .sort((a, b) => a.request.arrivalMs - b.request.arrivalMs);
  const workers = workersOf(config, perf);
  const spec: TwinSpec = {
    workers,
    network: buildNetwork({
      network: networkSchema.parse({ preset: "uncontended", pair: link }),
      groups: [],
      workers: workers.map(({ id }) => ({ name: id, group: "workers", numDevices: 1 })),
    }).network,
    placement: createPlacementPolicy(config.placement.policy, config.placement),
    faults: [],
    maxRequests: MAX_REQUESTS,
    outputBound: "true",
    checks: false,
    maxVirtualMs: (ordered.at(-1)?.request.arrivalMs ?? 0) + MAX_DRAIN_MS,
  };
  let next = 0;
  const source = new PulledSource(() => {
    const entry = ordered[next++];
    return entry === undefined ? null : toWorkload(entry.request, entry.index);
  });
  const observer = new ReplayObserver();
  const { endMs } = runTwin(spec, source, observer);
  return {
    outcomes: observer.outcomes,
    extrapolatedShare: observer.numSteps === 0 ? 0 : observer.numExtrapolated / observer.numSteps,
    busyShares: new Map([...observer.busyMs].map(([id, ms]) => [id, ms / Math.max(endMs, 1)])),
  };
}

function workersOf(config: ServeConfig, perf: PerfModel): TwinWorkerSpec[] {
  const isWhole = findSchedulingPolicy(config.policy)?.wholePrompts === true;
  const counts = new Map<WorkerRole, number>();
  return config.workers.flatMap((entry) =>
    Array.from({ length: "count" in entry ? entry.count : 1 }, (): TwinWorkerSpec => {
      const number = (counts.get(entry.role) ?? 0) + 1;
      counts.set(entry.role, number);
      const id = `${entry.role}-${number}`;
      return {
        id,
        role: entry.role,
        perf,
        endpoint: id,
        policy: config.policy,
        tokenBudget: isWhole ? Math.max(config.contextTokens, config.chunkTokens) : config.chunkTokens,
        maxRunning: config.maxRunning,
        maxWaiting: config.maxWaiting,
        blockTokens: config.blockSizeTokens,
        numBlocks: Math.floor(config.kvTokensPerWorker / config.blockSizeTokens),
        maxCachedBlocks: Math.floor(config.prefixCacheTokens / config.blockSizeTokens),
        startUpMs: 0,
      };
    }),
  );
}

function toWorkload(request: RecordedRequest, index: number): WorkloadRequest {
  const { arrivalMs, inputTokens, outputTokens } = request;
  return { ...plainRequest(String(index), inputTokens, outputTokens), arrivalMs };
}

class ReplayObserver implements TwinObserver {
  readonly wantsGaps = true;
  readonly outcomes = new Map<number, RequestOutcome>();
  readonly busyMs = new Map<string, number>();
  numSteps = 0;
  numExtrapolated = 0;

  requestArrived(): void {}
  requestPlaced(): void {}
  transferDone(): void {}
  kvChanged(): void {}
  workerChanged(): void {}
  tokenGap(): void {}
  tokenGaps(): void {}

  requestEnded(request: WorkloadRequest, outcome: RequestOutcome): void {
    if (outcome.isCompleted) this.outcomes.set(Number(request.id), outcome);
  }

  stepsDone(worker: string, { boundsMs, from, to, isExtrapolated }: StepRow): void {
    this.numSteps += to - from;
    if (isExtrapolated) this.numExtrapolated += to - from;
    this.busyMs.set(worker, (this.busyMs.get(worker) ?? 0) + boundsMs[to]! - boundsMs[from]!);
  }
}
