import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { ReportBuilder, type ValidationReport } from "../validate/report.ts";
import { WorkloadError } from "../workload/workload.ts";
import {
  readSplitwiseGolden,
  readSplitwiseTrace,
  runSplitwise,
  SPLITWISE_METRICS,
} from "./splitwise-golden.ts";
import { readSplitwiseTable } from "./splitwise-table.ts";

const GOLDEN_FILE = "splitwisesim_bloom176b_2min.csv";
const TABLE_FILE = "perf_model.csv";

/**
 * Compares the twin in paper mode with recorded runs of Splitwise's own simulator. `folder` has `splitwisesim_bloom176b_2min.csv` and a
 * trace `rr_<workload>_<rate>_2min.csv` for each of its rows; the simulator's `perf_model.csv` lies there or one folder up. Metrics
 * are the file's: `ttft_s_p50`, `tbt_slowdown_p99`, … Throws {@link WorkloadError} for missing or broken files; a row without a trace
 * or with an unknown design is skipped.
 */
export function validateSplitwise(folder: string): ValidationReport {
  const report = new ReportBuilder();
  const goldenFile = join(folder, GOLDEN_FILE);
  const table = [join(folder, TABLE_FILE), join(dirname(resolve(folder)), TABLE_FILE)].find((path) =>
    existsSync(path),
  );
  if (!existsSync(goldenFile)) throw new WorkloadError(goldenFile, 1, "does not exist");
  if (table === undefined)
    throw new WorkloadError(join(folder, TABLE_FILE), 1, "exists neither there nor one folder up");
  const perfs = readSplitwiseTable(table, "bloom-176b");
  const golden = readSplitwiseGolden(goldenFile, (row, reason) => {
    report.addRows(1);
    report.leaveOut(`${GOLDEN_FILE}:${row + 1}`, reason);
  });
  for (const { config, design, trace, numCompleted, figures } of golden) {
    report.addRows(1);
    const traceFile = join(folder, `rr_${trace}_2min.csv`);
    if (!existsSync(traceFile)) {
      report.leaveOut(`${config} ${trace}`, `no ${traceFile}`);
      continue;
    }
    const requests = readSplitwiseTrace(traceFile);
    if (requests.length !== numCompleted) {
      report.leaveOut(
        `${config} ${trace}`,
        `${numCompleted} requests, but ${traceFile} has ${requests.length}`,
      );
      continue;
    }
    const predicted = runSplitwise(design, perfs, requests);
    for (const metric of SPLITWISE_METRICS) {
      if (figures[metric]! > 0) report.add(metric, predicted[metric]!, figures[metric]!, config);
    }
  }
  return report.build("splitwise", folder);
}
