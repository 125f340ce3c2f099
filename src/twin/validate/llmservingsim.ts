import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { BUILT_IN_CATALOG, CatalogError } from "../../catalog/catalog.ts";
import { toDeviceSpec } from "../../catalog/device-spec.ts";
import { vllmCalibration, vllmOverheads } from "../../catalog/host-overheads.ts";
import { specOf } from "../../catalog/resolve.ts";
import type { DeviceSpec } from "../../core/perf/device-spec.ts";
import type { EngineOverheads } from "../../core/perf/engine-overheads.ts";
import type { ModelShape } from "../../core/perf/model-shape.ts";
import type { PerfModel } from "../../core/perf/perf-model.ts";
import { interpolatedQuantile, mean } from "../../core/util/quantiles.ts";
import { LayerTablePerf } from "../tables/layer-table-perf.ts";
import { LayerTableError, readLayerTables } from "../tables/layer-tables.ts";
import { ListSource } from "../workload/list-source.ts";
import { plainRequest } from "../workload/plain-request.ts";
import { type MeasuredRun, readMeasuredRun } from "./measured-run.ts";
import { ReportBuilder, type ValidationReport } from "./report.ts";
import { kernelModel, runEngine } from "./serving-run.ts";

const RIVAL = "llmservingsim";
/** Folders below the given one that are searched for runs. */
const MAX_DEPTH = 5;
/** Folders above a run that are searched for profiles. */
const MAX_HEIGHT = 8;

const QUANTILES: ReadonlyArray<readonly [string, number]> = [
  ["median", 0.5],
  ["p90", 0.9],
  ["p95", 0.95],
  ["p99", 0.99],
];

/**
 * Replays recorded vLLM runs in LLMServingSim's layout: arrivals and lengths as recorded, KV blocks as logged. Steps are priced from
 * the layer profile of device and model where the data has one, otherwise from fitted kernels.
 */
export async function validateLlmservingsim(path: string): Promise<ValidationReport> {
  const report = new ReportBuilder();
  const folders = await findRuns(path, MAX_DEPTH);
  if (folders.length === 0)
    throw new Error(`${path}: no folder below has vllm/requests.jsonl and vllm/meta.json`);
  for (const folder of folders) await judge(report, folder, await readMeasuredRun(folder));
  return report.build("llmservingsim", path, "nothing was fitted on these runs");
}

async function findRuns(folder: string, depth: number): Promise<string[]> {
  if (existsSync(join(folder, "vllm", "requests.jsonl")) && existsSync(join(folder, "vllm", "meta.json")))
    return [folder];
  if (depth === 0) return [];
  const entries = await readdir(folder, { withFileTypes: true });
  const found: string[] = [];
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1)))
    if (entry.isDirectory()) found.push(...(await findRuns(join(folder, entry.name), depth - 1)));
  return found;
}

async function judge(report: ReportBuilder, folder: string, run: MeasuredRun): Promise<void> {
  const measured = figuresOf(
    run.requests.map(({ queuedS, firstTokenS, lastTokenS, outputTokens }) => ({
      ttftMs: (firstTokenS - queuedS) * 1000,
      e2eMs: (lastTokenS - queuedS) * 1000,
      outputTokens,
    })),
  );
  report.addRows(measured.size);
  const predicted = await predict(folder, run);
  if ("problem" in predicted) {
    report.leaveOut(run.name, `${measured.size} rows: ${predicted.problem}`);
    return;
  }
  for (const [metric, measuredMs] of measured) {
    report.add(metric, predicted.figures.get(metric)!, measuredMs, run.name);
    const rivalMs = run.rivalMs.get(metric);
    if (rivalMs !== undefined) report.addRival(RIVAL, metric, rivalMs, measuredMs);
  }
}

type Prediction = { readonly figures: ReadonlyMap<string, number> } | { readonly problem: string };

async function predict(folder: string, run: MeasuredRun): Promise<Prediction> {
  try {
    const { spec: device } = specOf(
      toDeviceSpec(BUILT_IN_CATALOG.get("accelerator", deviceName(run.hardware))),
    );
    const { shape: model } = BUILT_IN_CATALOG.get("model", run.modelName);
    const priced = await priceSteps(folder, run, device, model);
    if ("problem" in priced) return priced;
    const numBlocks = run.numBlocks === null ? {} : { numBlocks: run.numBlocks * run.dp };
    const { served, summary } = runEngine(
      {
        kernels: priced.perf,
        model,
        overheads: priced.overheads,
        // Every attention group is an engine of its own with these limits.
        tokenBudget: run.tokenBudget * run.dp,
        maxRunning: run.maxRunning * run.dp,
        ...numBlocks,
      },
      replayOf(run),
    );
    if (summary.end !== "finished" || served.length !== run.requests.length)
      return { problem: `the simulated run did not end well (${summary.end})` };
    const figures = figuresOf(
      served.map(({ request, ttftMs, e2eMs }) => ({ ttftMs, e2eMs, outputTokens: request.outputTokens })),
    );
    return { figures };
  } catch (error) {
    if (error instanceof CatalogError || error instanceof LayerTableError) return { problem: error.message };
    throw error;
  }
}

/** The catalogue's name for the folder names of profiles. */
function deviceName(hardware: string): string {
  return hardware === "RTXPRO6000" ? "rtx-pro-6000-bse" : hardware;
}

async function priceSteps(
  folder: string,
  run: MeasuredRun,
  device: DeviceSpec,
  model: ModelShape,
): Promise<{ perf: PerfModel; overheads: EngineOverheads } | { problem: string }> {
  const { tp, dp, tokenBudget, maxRunning, memoryUtilisation } = run;
  const kernels = kernelModel({
    device,
    model,
    tp,
    weightPrecision: "bf16",
    tokenBudget,
    maxRunning,
    memoryUtilisation,
    calibration: vllmCalibration(),
    ...(dp > 1 ? { dp, ep: tp * dp } : {}),
  });
  if ("problem" in kernels) return kernels;
  // Requests are timed from the engine's queue on, behind its front end.
  const overheads = { ...vllmOverheads({ deviceId: device.id, model, isOffloading: false }), requestMs: 0 };
  const profile = findProfile(folder, run);
  const tables = profile === null ? null : readLayerTables(profile);
  if (tables === null) {
    if (dp > 1)
      return { problem: "data-parallel attention is only predicted from a profile, and there is none" };
    return { perf: kernels.model, overheads };
  }
  const perf = new LayerTablePerf({
    tables,
    model,
    tp,
    dp,
    kvCapacityTokens: kernels.model.kvCapacityTokens,
    kvBytesPerToken: kernels.model.kvBytesPerToken,
    link: run.link ?? device.scaleUp,
  });
  // The profile has the sampler, and is of equal contexts in a step.
  return { perf, overheads: { ...overheads, vocabularyMs: 0, contextSkew: 0 } };
}

/** The folder of the run's layer profile, in the nearest folder above that has profiles. */
function findProfile(folder: string, { hardware, modelName, tp }: MeasuredRun): string | null {
  let above = folder;
  for (let height = 0; height < MAX_HEIGHT; height++) {
    const profile = join(above, "profiler", "perf", hardware, ...modelName.split("/"), "bf16", `tp${tp}`);
    if (existsSync(profile)) return profile;
    above = dirname(above);
  }
  return null;
}

interface Times {
  readonly ttftMs: number;
  readonly e2eMs: number;
  readonly outputTokens: number;
}

/** Means and quantiles over requests. Time per output token is each request's own mean. */
function figuresOf(requests: readonly Times[]): Map<string, number> {
  const columns: ReadonlyArray<readonly [string, number[]]> = [
    ["ttft", requests.map(({ ttftMs }) => ttftMs)],
    [
      "tpot",
      requests
        .filter(({ outputTokens }) => outputTokens > 1)
        .map(({ ttftMs, e2eMs, outputTokens }) => (e2eMs - ttftMs) / (outputTokens - 1)),
    ],
    ["latency", requests.map(({ e2eMs }) => e2eMs)],
  ];
  const figures = new Map<string, number>();
  for (const [name, values] of columns) {
    if (values.length === 0) continue;
    figures.set(`${name}_mean`, mean(values));
    for (const [suffix, share] of QUANTILES)
      figures.set(`${name}_${suffix}`, interpolatedQuantile(values, share));
  }
  return figures;
}

/** The recorded requests at their recorded times. */
function replayOf({ requests }: MeasuredRun): ListSource {
  const startS = requests[0]!.queuedS;
  return new ListSource(
    requests.map(({ id, queuedS, inputTokens, outputTokens }) => ({
      ...plainRequest(id, inputTokens, outputTokens),
      arrivalMs: (queuedS - startS) * 1000,
    })),
  );
}
