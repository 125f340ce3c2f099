import { createPerfModel } from "../../core/perf/create-perf-model.ts";
import type { DeviceSpec } from "../../core/perf/device-spec.ts";
import type { EngineCalibration } from "../../core/perf/engine-calibration.ts";
import { EngineModel, type EngineOverheads } from "../../core/perf/engine-overheads.ts";
import type { ModelShape } from "../../core/perf/model-shape.ts";
import type { PerfModel, StepTime } from "../../core/perf/perf-model.ts";
import type { Precision } from "../../core/perf/precision.ts";
import type { StepLoad } from "../../core/perf/step-load.ts";
import { NO_HOST_COSTS } from "../../core/perf/step-pricer.ts";
import { createLoadPlacement } from "../../core/router/placement.ts";
import { runTwin } from "../driver/run-twin.ts";
import type { FlowId, Network } from "../network/network.ts";
import type { RequestOutcome, TwinObserver } from "../observer.ts";
import type { TwinSummary } from "../twin-spec.ts";
import type { WorkloadRequest, WorkloadSource } from "../workload/workload.ts";

/** One serving engine with vLLM's semantics. */
export interface ServedDeployment {
  readonly device: DeviceSpec;
  readonly model: ModelShape;
  readonly tp: number;
  /** Attention groups that share the experts. Default 1. */
  readonly dp?: number;
  /** Devices that experts are spread over. Default 1: every device has a slice of every expert. */
  readonly ep?: number;
  readonly weightPrecision: Precision;
  readonly tokenBudget: number;
  readonly maxRunning: number;
  readonly memoryUtilisation: number;
  readonly calibration: EngineCalibration;
}

/** Bytes per device beside weights, activations and KV: context, communication buffers. */
const RESERVE_BYTES = 1e9;
const BLOCK_TOKENS = 16;
/** A run that has not ended by then is given up. */
const MAX_VIRTUAL_MS = 4 * 3600_000;
const MAX_REQUESTS = 100_000;

/** The perf model of kernels of a deployment, or why there is none. */
export function kernelModel(deployment: ServedDeployment): { model: PerfModel } | { problem: string } {
  const { device, model, tp, weightPrecision, tokenBudget, maxRunning, memoryUtilisation, calibration } =
    deployment;
  const dp = deployment.dp ?? 1;
  const { model: perf, problem } = createPerfModel({
    device,
    model,
    parallelism: { tp, pp: 1, ep: deployment.ep ?? 1, dp },
    weightPrecision,
    kvPrecision: "bf16",
    // Every device holds a slice of every expert, so that no expert makes others wait; which ones are popular does not matter.
    routingSkew: 0,
    tokenBudget,
    maxRunning,
    memoryUtilisation,
    calibration,
    reserveBytes: RESERVE_BYTES,
    blockTokens: BLOCK_TOKENS,
    host: NO_HOST_COSTS,
  });
  return perf === null ? { problem: problem.message } : { model: perf };
}

/** How an engine is run. */
export interface EngineRun {
  readonly kernels: PerfModel;
  readonly model: ModelShape;
  readonly overheads: EngineOverheads;
  readonly tokenBudget: number;
  readonly maxRunning: number;
  /** Default: what the perf model's capacity allows. */
  readonly numBlocks?: number;
  /** How long the engine stops once, when its load has built up, to compile what it had not met before. Default 0. */
  readonly warmUpMs?: number;
}

/** What the client of a request measured. */
export interface ServedRequest {
  readonly request: WorkloadRequest;
  readonly ttftMs: number;
  readonly e2eMs: number;
}

/** Runs a workload on one aggregated worker with asynchronous chunked-prefill scheduling. Returns completed requests by end. */
export function runEngine(
  run: EngineRun,
  source: WorkloadSource,
): { readonly served: readonly ServedRequest[]; readonly summary: TwinSummary } {
  const served: ServedRequest[] = [];
  const observer: TwinObserver = {
    ...SILENT,
    requestEnded(request: WorkloadRequest, outcome: RequestOutcome) {
      if (outcome.isCompleted) served.push({ request, ttftMs: outcome.ttftMs, e2eMs: outcome.e2eMs });
    },
  };
  const summary = runTwin(
    {
      workers: [
        {
          id: "engine",
          role: "both",
          perf: new WarmingModel(new EngineModel(run.kernels, run.model, run.overheads), run.warmUpMs ?? 0),
          endpoint: "engine",
          policy: "chunked",
          tokenBudget: run.tokenBudget,
          maxRunning: run.maxRunning,
          maxWaiting: MAX_REQUESTS,
          blockTokens: BLOCK_TOKENS,
          ...(run.numBlocks === undefined ? {} : { numBlocks: run.numBlocks }),
          startUpMs: 0,
          plansAhead: true,
        },
      ],
      network: new NoNetwork(),
      placement: createLoadPlacement({ localPrefillBelowTokens: 0 }),
      faults: [],
      maxRequests: MAX_REQUESTS,
      // Load generators ask for a fixed number of tokens and tell the engine to go on to the end.
      outputBound: "true",
      checks: false,
      maxVirtualMs: MAX_VIRTUAL_MS,
    },
    source,
    observer,
  );
  return { served, summary };
}

/** Prefill steps after which an engine has met its load. */
const WARM_UP_STEPS = 40;

/** An engine that stops once: the step with its nth prefill takes longer. Good for one run. */
class WarmingModel implements PerfModel {
  readonly host: PerfModel["host"];
  readonly kvCapacityTokens: number;
  readonly kvBytesPerToken: number;
  readonly #engine: PerfModel;
  readonly #warmUpMs: number;
  #numPrefillSteps = 0;

  constructor(engine: PerfModel, warmUpMs: number) {
    this.#engine = engine;
    this.#warmUpMs = warmUpMs;
    this.host = engine.host;
    this.kvCapacityTokens = engine.kvCapacityTokens;
    this.kvBytesPerToken = engine.kvBytesPerToken;
  }

  stepTime(load: StepLoad, out: StepTime): void {
    this.#engine.stepTime(load, out);
    if (load.numPrefills > 0 && ++this.#numPrefillSteps === WARM_UP_STEPS) out.hostMs += this.#warmUpMs;
  }
}

const SILENT: TwinObserver = {
  requestArrived() {},
  requestPlaced() {},
  tokenGap() {},
  tokenGaps() {},
  requestEnded() {},
  stepsDone() {},
  transferDone() {},
  kvChanged() {},
  workerChanged() {},
};

/** One worker sends nothing to anyone. */
class NoNetwork implements Network {
  readonly nextEndMs = Number.POSITIVE_INFINITY;
  start(): FlowId {
    throw new Error("a single worker has nobody to send KV to");
  }
  cancel(): void {}
  takeEnded(): null {
    return null;
  }
  latencyMs(): number {
    return 0;
  }
  scale(): void {}
}
