import { BUILT_IN_CATALOG, CatalogError } from "../../catalog/catalog.ts";
import { toDeviceSpec } from "../../catalog/device-spec.ts";
import {
  recountedPerToken,
  type ServingFit,
  vllmCalibration,
  vllmOverheads,
  vllmWarmUpMs,
} from "../../catalog/host-overheads.ts";
import { specOf } from "../../catalog/resolve.ts";
import type { DeviceSpec } from "../../core/perf/device-spec.ts";
import type { ModelShape } from "../../core/perf/model-shape.ts";
import type { Precision } from "../../core/perf/precision.ts";
import { interpolatedQuantile, mean } from "../../core/util/quantiles.ts";
import { Rng } from "../../core/util/rng.ts";
import { LoadStages } from "./load-stages.ts";
import { loadProblem, type ServingExperiment } from "./serving-experiment.ts";
import { kernelModel, runEngine, type ServedRequest } from "./serving-run.ts";

/** Names of hardware in measurements that the catalogue does not know as aliases. */
const HARDWARE: Readonly<Record<string, string>> = {
  h100: "h100-sxm",
  "h100-80gb": "h100-sxm",
  "a100-80gb": "a100-80g-sxm",
  a100: "a100-80g-sxm",
  l40s: "l40s",
};

const PRECISIONS: Readonly<Record<string, Precision>> = { FP16: "bf16", BF16: "bf16", FP8: "fp8" };

const SEED = 1;

/** An experiment with everything that a run needs, from the catalogue. */
export interface ResolvedExperiment {
  readonly experiment: ServingExperiment;
  readonly device: DeviceSpec;
  readonly modelId: string;
  readonly model: ModelShape;
  readonly weightPrecision: Precision;
}

/** Finds device, model and load of an experiment, or says what is missing. */
export function resolveExperiment(experiment: ServingExperiment): ResolvedExperiment | { problem: string } {
  const problem = loadProblem(experiment);
  if (problem !== null) return { problem };
  const weightPrecision = PRECISIONS[experiment.precision.toUpperCase()];
  if (weightPrecision === undefined)
    return {
      problem: `no precision ${JSON.stringify(experiment.precision)}; known: ${Object.keys(PRECISIONS).join(", ")}`,
    };
  if (experiment.dp > 1) return { problem: "several replicas behind one address are not predicted" };
  try {
    const name = HARDWARE[experiment.hardware.toLowerCase()] ?? experiment.hardware;
    const { spec: device } = specOf(toDeviceSpec(BUILT_IN_CATALOG.get("accelerator", name)));
    const { id: modelId, shape: model } = BUILT_IN_CATALOG.get("model", experiment.modelName);
    return { experiment, device, modelId, model, weightPrecision };
  } catch (error) {
    if (error instanceof CatalogError) return { problem: error.message };
    throw error;
  }
}

/** How an experiment is run. Fits shorten its stages. */
export interface PredictOptions {
  readonly fit?: ServingFit;
  /** Most seconds that a stage lasts. Default: as long as it was. */
  readonly maxStageS?: number;
  /** Share of each stage's requests, from its start, that do not count. Default 0. */
  readonly ignoredShare?: number;
  /** Leaves out the stop of a fresh engine. */
  readonly isWarm?: boolean;
}

/** Predicted figures of an experiment. */
export interface ServingPrediction {
  /** Why a run did not come to its end, or null. */
  readonly problem: string | null;
  /** A metric over a stage (-1: all), or null when it has no such stage or nobody knows the metric. */
  valueOf(stage: number, metric: string): number | null;
}

/** Runs an experiment in the twin. */
export function predictServing(
  resolved: ResolvedExperiment,
  options: PredictOptions = {},
): ServingPrediction {
  const { experiment, device, model, modelId } = resolved;
  const { stages, prompts } = experiment.load!;
  const maxStageS = options.maxStageS ?? Number.POSITIVE_INFINITY;
  const source = new LoadStages(
    stages.map(({ rate, durationS }) => ({ rate, durationS: Math.min(durationS, maxStageS) })),
    prompts,
    new Rng(SEED).stream("arrivals"),
  );
  const { isOffloading, tokenBudget, maxRunning, tp, memoryUtilisation } = experiment;
  const calibration = vllmCalibration(options.fit);
  const kernels = kernelModel({ ...resolved, tp, tokenBudget, maxRunning, memoryUtilisation, calibration });
  if ("problem" in kernels) return { problem: kernels.problem, valueOf: () => null };
  const overheads = vllmOverheads({ deviceId: device.id, model, isOffloading }, options.fit);
  const { served, summary } = runEngine(
    {
      kernels: kernels.model,
      model,
      overheads,
      tokenBudget,
      maxRunning,
      warmUpMs: options.isWarm === true ? 0 : vllmWarmUpMs(model, options.fit),
    },
    source,
  );
  const counted =
    experiment.recountedTokens ?? prompts.outputTokens * recountedPerToken(modelId, options.fit);
  const byStage = stages.map(({ rate, durationS }, stage) => {
    const ignored = Math.floor(rate * Math.min(durationS, maxStageS) * (options.ignoredShare ?? 0));
    const all = served.filter(({ request }) => request.kind === `${stage}`);
    return all.sort((a, b) => a.request.arrivalMs - b.request.arrivalMs).slice(ignored);
  });
  return {
    problem: summary.end === "finished" ? null : `the simulated run did not end (${summary.end})`,
    valueOf: (stage, metric) => {
      const requests = stage === -1 ? byStage.flat() : byStage[stage];
      return requests === undefined || requests.length === 0 ? null : metricOf(metric, requests, counted);
    },
  };
}

/** `countedTokens`: how many tokens the client counts per output. */
function metricOf(metric: string, served: readonly ServedRequest[], countedTokens: number): number | null {
  const e2e = served.map(({ e2eMs }) => e2eMs);
  const ttft = served.map(({ ttftMs }) => ttftMs);
  switch (metric) {
    case "e2e_mean":
      return mean(e2e);
    case "e2e_median":
      return interpolatedQuantile(e2e, 0.5);
    case "e2e_p90":
      return interpolatedQuantile(e2e, 0.9);
    case "e2e_p99":
      return interpolatedQuantile(e2e, 0.99);
    case "ttft_mean":
      return mean(ttft);
    case "ttft_median":
      return interpolatedQuantile(ttft, 0.5);
    case "ttft_p90":
      return interpolatedQuantile(ttft, 0.9);
    case "ttft_p99":
      return interpolatedQuantile(ttft, 0.99);
    case "decode_mean":
      return mean(e2e) - mean(ttft);
    case "itl_mean":
      // As the files have it: time after the first token, over the tokens that the client counts after the first.
      return (mean(e2e) - mean(ttft)) / (countedTokens - 1);
    default:
      return null;
  }
}
