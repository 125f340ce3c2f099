import { VLLM_FIT } from "../../catalog/vllm-fit.ts";
import { dataFiles } from "./data-files.ts";
import { predictServing, resolveExperiment } from "./predict-serving.ts";
import { ReportBuilder, type ValidateOptions, type ValidationReport } from "./report.ts";
import { readLeaderboard, type ServingExperiment } from "./serving-experiment.ts";
import { readExperimentsJson } from "./serving-json.ts";

const SPLIT = [
  "experiments of each model and device take turns between the fitted half and the reported half; experiments that the fit has never seen are reported",
  "rates of the loads whose names end in -lite were inferred from measured times without regard to the halves",
  "itl_mean is divided by the output length that the client counted, where a reported run states its own, by that",
].join("; ");

/**
 * Predicts whole vLLM servers under constant load. `metrics` are those of whole runs (stage -1); the same metrics of single
 * stages are reported as `stage_<metric>`. Experiments that the terms were fitted on are left out unless asked for.
 */
export async function validateVllmServing(path: string, options: ValidateOptions): Promise<ValidationReport> {
  const report = new ReportBuilder();
  const fitted = new Set(VLLM_FIT.fittedOn);
  for (const file of await dataFiles(path, [".csv", ".json"])) {
    const read = file.toLowerCase().endsWith(".json") ? readExperimentsJson : readLeaderboard;
    for (const experiment of await read(file)) {
      const { name, rows } = experiment;
      report.addRows(rows.length);
      if (fitted.has(name) && !options.includesFitted)
        report.leaveOut(name, `${rows.length} rows: the terms were fitted on this experiment`);
      else judge(report, experiment);
    }
  }
  return report.build("vllm-serving", path, SPLIT);
}

function judge(report: ReportBuilder, experiment: ServingExperiment): void {
  const { name, rows } = experiment;
  const resolved = resolveExperiment(experiment);
  if ("problem" in resolved) {
    report.leaveOut(name, `${rows.length} rows: ${resolved.problem}`);
    return;
  }
  const prediction = predictServing(resolved);
  if (prediction.problem !== null) {
    report.leaveOut(name, `${rows.length} rows: ${prediction.problem}`);
    return;
  }
  for (const row of rows) {
    const predictedMs = prediction.valueOf(row.stage, row.metric);
    if (predictedMs === null) {
      report.leaveOut(
        `${name}, line ${row.line}`,
        `no prediction for ${row.metric} of stage ${row.stage} in a load of ${experiment.load!.stages.length} stages`,
      );
      continue;
    }
    const metric = row.stage === -1 ? row.metric : `stage_${row.metric}`;
    report.add(
      metric,
      predictedMs,
      row.measuredMs,
      `${resolved.modelId} on ${resolved.device.id} x ${experiment.tp}`,
    );
    for (const [rival, rivalMs] of row.rivals) report.addRival(rival, metric, rivalMs, row.measuredMs);
  }
}
