import { BUILT_IN_CATALOG, CatalogError } from "../../catalog/catalog.ts";
import { toDeviceSpec } from "../../catalog/device-spec.ts";
import { vllmCalibration, vllmOverheads } from "../../catalog/host-overheads.ts";
import { specOf } from "../../catalog/resolve.ts";
import type { Precision } from "../../core/perf/precision.ts";
import { plainRequest } from "../workload/plain-request.ts";
import type { WorkloadRequest, WorkloadSource } from "../workload/workload.ts";
import { CsvError, type CsvRow, readCsv } from "./csv.ts";
import { dataFiles } from "./data-files.ts";
import { quantile } from "./quantile.ts";
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
const MEMORY_UTILISATION = 0.9;

const METRICS = ["median_ttft", "p99_ttft", "median_e2el", "p99_e2el", "median_tpot", "p99_tpot"] as const;
const COLUMNS = ["source_file", "model_id", "isl", "osl", "num_prompts", "max_concurrency", ...METRICS];

/** Predicts closed loops of clients: each sends its next prompt when the last one is answered. Times in the file are seconds. */
export async function validateInferencex(path: string): Promise<ValidationReport> {
  const report = new ReportBuilder();
  for (const file of await dataFiles(path, [".csv"])) {
    for (const row of await readCsv(file, COLUMNS)) {
      report.addRows(METRICS.length);
      const name = row.values.source_file!;
      const setup = SETUPS.find(([pattern]) => pattern.test(name))?.[1];
      if (setup === undefined)
        report.leaveOut(name, "no set-up of the server is known for results of this name");
      else if ("problem" in setup) report.leaveOut(name, setup.problem);
      else judge(report, file, row, setup);
    }
  }
  return report.build("inferencex", path, "nothing was fitted on these measurements");
}

function judge(report: ReportBuilder, path: string, row: CsvRow, setup: Setup): void {
  const name = row.values.source_file!;
  const predicted = predict(path, row, setup);
  if ("problem" in predicted) {
    report.leaveOut(name, predicted.problem);
    return;
  }
  const group = `${row.values.model_id} tp${setup.tp} dp${setup.dp} ep${setup.ep}`;
  for (const metric of METRICS) {
    const measuredMs = numberOf(path, row, metric) * 1000;
    report.add(metric, metricOf(metric, predicted.served), measuredMs, group);
  }
}

function predict(
  path: string,
  row: CsvRow,
  setup: Setup,
): { readonly served: readonly ServedRequest[] } | { readonly problem: string } {
  const concurrency = numberOf(path, row, "max_concurrency");
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
    const loop = new ClosedLoop({
      concurrency,
      numRequests: numberOf(path, row, "num_prompts"),
      inputTokens: numberOf(path, row, "isl"),
      outputTokens: numberOf(path, row, "osl"),
    });
    const overheads = vllmOverheads({ deviceId: device.id, model, isOffloading: false });
    const { served, summary } = runEngine(
      { kernels: kernels.model, model, overheads, tokenBudget: TOKEN_BUDGET * setup.dp, maxRunning },
      loop,
      1,
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
  return quantile(values, share);
}

function numberOf(path: string, { line, values }: CsvRow, column: string): number {
  const value = values[column] === "" ? Number.NaN : Number(values[column]);
  if (value > 0 && value < 1e9) return value;
  throw new CsvError(
    `${path}:${line}: ${column} is ${JSON.stringify(values[column])}; allowed: numbers above 0`,
  );
}

interface LoopOptions {
  readonly concurrency: number;
  readonly numRequests: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/** Clients that each have one request under way until all requests have been sent. */
class ClosedLoop implements WorkloadSource {
  readonly isClosedLoop = true;
  readonly #options: LoopOptions;
  /** Arrivals that are known and not taken, in order. */
  readonly #due: number[];
  #numSent: number;
  #numTaken = 0;

  constructor(options: LoopOptions) {
    this.#options = options;
    this.#numSent = Math.min(options.concurrency, options.numRequests);
    this.#due = new Array<number>(this.#numSent).fill(0);
  }

  get nextArrivalMs(): number {
    return this.#due[0] ?? Number.POSITIVE_INFINITY;
  }

  take(): WorkloadRequest {
    const { inputTokens, outputTokens } = this.#options;
    const arrivalMs = this.#due.shift()!;
    return { ...plainRequest(`${this.#numTaken++}`, inputTokens, outputTokens), arrivalMs };
  }

  ended(_: WorkloadRequest, nowMs: number): void {
    if (this.#numSent === this.#options.numRequests) return;
    this.#numSent++;
    this.#due.push(nowMs);
  }
}
