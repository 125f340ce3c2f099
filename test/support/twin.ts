import type { PerfModel, StepTime } from "../../src/core/perf/perf-model.ts";
import type { StepLoad } from "../../src/core/perf/step-load.ts";
import { createLoadPlacement } from "../../src/core/router/placement.ts";
import type { FlowId, Network } from "../../src/twin/network/network.ts";
import type { RequestOutcome, StepRow, TwinObserver } from "../../src/twin/observer.ts";
import type { TwinSpec, TwinWorkerSpec } from "../../src/twin/twin-spec.ts";
import { plainRequest } from "../../src/twin/workload/plain-request.ts";
import type { WorkloadRequest } from "../../src/twin/workload/workload.ts";

/** Prices steps as the stub engine does: so much per step, per prompt token and per decoding sequence. */
export function linearPerf(times: {
  stepMs: number;
  prefillMsPerToken: number;
  decodeMs: number;
  kvCapacityTokens?: number;
  handoffTail?: PerfModel["handoffTail"];
}): PerfModel {
  return {
    host: { requestMs: 0, outputMs: 0 },
    kvCapacityTokens: times.kvCapacityTokens ?? 16_384,
    kvBytesPerToken: 1000,
    handoffTail: times.handoffTail,
    stepTime(load: StepLoad, out: StepTime) {
      out.deviceMs =
        times.stepMs + times.prefillMsPerToken * load.numPrefillTokens + times.decodeMs * load.numDecodes;
      out.hostMs = 0;
      out.source = "profile";
      out.isExtrapolated = false;
    },
  };
}

/** Every flow has its own bandwidth. */
export class PrivateLinks implements Network {
  readonly #bytesPerMs: number;
  readonly #latencyMs: number;
  readonly #ends = new Map<FlowId, number>();
  #numFlows = 0;

  constructor(options: { bytesPerSecond: number; latencyMs: number }) {
    this.#bytesPerMs = options.bytesPerSecond / 1000;
    this.#latencyMs = options.latencyMs;
  }

  start(_from: string, _to: string, bytes: number, nowMs: number): FlowId {
    this.#ends.set(++this.#numFlows, nowMs + this.#latencyMs + bytes / this.#bytesPerMs);
    return this.#numFlows;
  }

  cancel(flow: FlowId): void {
    this.#ends.delete(flow);
  }

  get nextEndMs(): number {
    return Math.min(...this.#ends.values());
  }

  takeEnded(nowMs: number): FlowId | null {
    for (const [flow, endMs] of this.#ends) {
      if (endMs !== this.nextEndMs || endMs > nowMs) continue;
      this.#ends.delete(flow);
      return flow;
    }
    return null;
  }

  latencyMs(): number {
    return this.#latencyMs;
  }

  scale(): void {}
}

/** A request of a workload; name only what the test is about. */
export function workloadRequest(overrides: Partial<WorkloadRequest> = {}): WorkloadRequest {
  return { ...plainRequest("r", 100, 10), arrivalMs: 0, ...overrides };
}

/** Keeps everything: for tests with few requests. */
export class ListObserver implements TwinObserver {
  readonly outcomes = new Map<string, RequestOutcome>();
  readonly gaps: Array<[gapMs: number, count: number]> = [];
  readonly steps: string[] = [];
  readonly transfers: Array<{ from: string; to: string; bytes: number; startMs: number; endMs: number }> = [];

  requestArrived(): void {}
  requestPlaced(): void {}
  tokenGap(gapMs: number, count: number): void {
    this.gaps.push([gapMs, count]);
  }
  requestEnded(request: WorkloadRequest, outcome: RequestOutcome): void {
    this.outcomes.set(request.id, outcome);
  }
  tokenGaps(timesMs: Float64Array, from: number, to: number, count: number): void {
    for (let i = from; i < to; i++) this.tokenGap(timesMs[i + 1]! - timesMs[i]!, count);
  }
  stepsDone(worker: string, { load, boundsMs, from, to }: StepRow): void {
    const { numDecodes, decodeContextTokens, numPrefillTokens } = load;
    for (let step = from; step < to; step++) {
      const contextTokens = decodeContextTokens + (step - from) * numDecodes;
      const times = `${boundsMs[step]}-${boundsMs[step + 1]}`;
      this.steps.push(`${worker} ${times} ${numDecodes}/${contextTokens}+${numPrefillTokens}`);
    }
  }
  transferDone(from: string, to: string, bytes: number, startMs: number, endMs: number): void {
    this.transfers.push({ from, to, bytes, startMs, endMs });
  }
  kvChanged(): void {}
  workerChanged(): void {}
}

export function twinWorker(overrides: Partial<TwinWorkerSpec> = {}): TwinWorkerSpec {
  return {
    id: "w",
    role: "both",
    perf: linearPerf({ stepMs: 5, prefillMsPerToken: 0.1, decodeMs: 0.5 }),
    endpoint: "w",
    policy: "chunked",
    tokenBudget: 256,
    maxRunning: 16,
    maxWaiting: 1000,
    blockTokens: 16,
    startUpMs: 0,
    ...overrides,
  };
}

export function twinSpec(overrides: Partial<TwinSpec> = {}): TwinSpec {
  return {
    workers: [twinWorker()],
    network: new PrivateLinks({ bytesPerSecond: 1e9, latencyMs: 0.1 }),
    placement: createLoadPlacement({ localPrefillBelowTokens: 0 }),
    faults: [],
    maxRequests: 10_000,
    outputBound: 2000,
    checks: true,
    maxVirtualMs: 1e9,
    ...overrides,
  };
}
