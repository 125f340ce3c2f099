import { BUILT_IN_CATALOG, CatalogError } from "../../catalog/catalog.ts";
import { toDeviceSpec } from "../../catalog/device-spec.ts";
import { vllmCalibration, vllmOverheads } from "../../catalog/host-overheads.ts";
import { specOf } from "../../catalog/resolve.ts";
import type { Precision } from "../../core/perf/precision.ts";
import { interpolatedQuantile } from "../../core/util/quantiles.ts";
import { type CsvRow, readCsv } from "../csv-file.ts";
import { plainRequest } from "../workload/plain-request.ts";
import { paced } from "../workload/untimed.ts";
import { dataFiles } from "./data-files.ts";
import { ReportBuilder, type ValidationReport } from "./report.ts";
import { kernelModel, runEngine, type ServedRequest } from "./serving-run.ts";

/** How the servers of a set of measurements ran, by their scripts; the rows do not say it. */
interface Setup {
  readonly device: string;
  readonly tp: number;
  readonly dp: number;
  readonly ep: number;
  readonly weightPrecision: Precision;
}

/** By the name of the result's file. Where the GPU is not stated, nothing is predicted. */
const SETUPS: ReadonlyArray<readonly [RegExp, Setup | { readonly problem: string }]> = [
  [/minimax_m25_vllm_tep8/, { device: "h200-sxm", tp: 8, dp: 1, ep: 8, weightPrecision: "fp8" }],
  [/minimax_m25_vllm_dep8/, { device: "h200-sxm", tp: 1, dp: 8, ep: 8, weightPrecision: "fp8" }],
  [/qwen35_vllm_tp8/, { device: "h200-sxm", tp: 8, dp: 1, ep: 1, weightPrecision: "bf16" }],
  [/glm5_fp8_vllm_tp8/, { problem: "the GPU of these measurements is not stated" }],
];

/** vLLM's defaults on large GPUs: tokens of a step, sequences, share of memory. */
const TOKEN_BUDGET = 8192;
const MAX_RUNNING = 1024;
/** Bounds of what a row may ask for. */
const MAX_REQUESTS = 100_000;
const MAX_TOKENS = 1_000_000;
const MAX_SECONDS = 1e6;
const counts = (min: number, max: number) => ({ min, max, isWhole: true });
const MEMORY_UTILISATION = 0.9;

const METRICS = ["median_ttft", "p99_ttft", "median_e2el", "p99_e2el", "median_tpot", "p99_tpot"] as const;
const COLUMNS = ["source_file", "model_id", "isl", "osl", "num_prompts", "max_concurrency", ...METRICS];

/** Predicts closed loops of clients: each sends its next prompt when the last one is answered. Times in the file are seconds. */
export async function validateInferencex(path: string): Promise<ValidationReport> {
  const report = new ReportBuilder();
  for (const file of await dataFiles(path, [".csv"])) {
    for (const row of readCsv(file, COLUMNS)) {
      report.addRows(METRICS.length);
      const name = row.values.source_file!;
      const setup = SETUPS.find(([pattern]) => pattern.test(name))?.[1];
      if (setup === undefined)
        report.leaveOut(name, "no set-up of the server is known for results of this name");
      else if ("problem" in setup) report.leaveOut(name, setup.problem);
      else judge(report, row, setup);
    }
  }
  return report.build("inferencex", path, "nothing was fitted on these measurements");
}

function judge(report: ReportBuilder, row: CsvRow, setup: Setup): void {
  const name = row.values.source_file!;
  const predicted = predict(row, setup);
  if ("problem" in predicted) {
    report.leaveOut(name, predicted.problem);
    return;
  }
  const group = `${row.values.model_id} tp${setup.tp} dp${setup.dp} ep${setup.ep}`;
  for (const metric of METRICS) {
    const measuredMs = row.number(metric, { min: Number.MIN_VALUE, max: MAX_SECONDS }) * 1000;
    report.add(metric, metricOf(metric, predicted.served), measuredMs, group);
  }
}

function predict(
  row: CsvRow,
  setup: Setup,
): { readonly served: readonly ServedRequest[] } | { readonly problem: string } {
  const concurrency = row.number("max_concurrency", counts(1, MAX_REQUESTS));
  try {
    const { spec: device } = specOf(toDeviceSpec(BUILT_IN_CATALOG.get("accelerator", setup.device)));
    const { shape: model } = BUILT_IN_CATALOG.get("model", row.values.model_id!);
    const maxRunning = Math.min(MAX_RUNNING, Math.max(setup.dp, concurrency));
    const kernels = kernelModel({
      device,
      model,
      tp: setup.tp,
      dp: setup.dp,
      ep: setup.ep,
      weightPrecision: setup.weightPrecision,
      tokenBudget: TOKEN_BUDGET,
      maxRunning,
      memoryUtilisation: MEMORY_UTILISATION,
      calibration: vllmCalibration(),
    });
    if ("problem" in kernels) return kernels;
    const numRequests = row.number("num_prompts", counts(1, MAX_REQUESTS));
    const inputTokens = row.number("isl", counts(1, MAX_TOKENS));
    const outputTokens = row.number("osl", counts(2, MAX_TOKENS));
    let numMade = 0;
    const make = () =>
      numMade < numRequests ? plainRequest(String(numMade++), inputTokens, outputTokens) : null;
    const loop = paced(make, { concurrency, thinkMs: 0 });
    const overheads = vllmOverheads({ deviceId: device.id, model, isOffloading: false });
    const { served, summary } = runEngine(
      { kernels: kernels.model, model, overheads, tokenBudget: TOKEN_BUDGET * setup.dp, maxRunning },
      loop,
    );
    if (summary.end !== "finished") return { problem: `the simulated run did not end (${summary.end})` };
    return { served };
  } catch (error) {
    if (error instanceof CatalogError) return { problem: error.message };
    throw error;
  }
}

function metricOf(metric: (typeof METRICS)[number], served: readonly ServedRequest[]): number {
  const share = metric.startsWith("median") ? 0.5 : 0.99;
  const values = served.map(({ request, ttftMs, e2eMs }) => {
    if (metric.endsWith("_ttft")) return ttftMs;
    return metric.endsWith("_e2el") ? e2eMs : (e2eMs - ttftMs) / (request.outputTokens - 1);
  });
  return interpolatedQuantile(values, share);
}
