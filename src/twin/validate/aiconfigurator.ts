import { readCsv } from "../csv-file.ts";
import { SiliconPredictor } from "./aiconfigurator-predict.ts";
import { ReportBuilder, type ValidateOptions, type ValidationReport } from "./report.ts";
import { SILICON_COLUMNS, siliconRow } from "./silicon-row.ts";
import { halfOf } from "./split.ts";

/**
 * Predicts AIConfigurator's end-to-end measurements: a closed loop of clients with fixed or nearly fixed lengths. Rows of the half
 * that the engines' coefficients were fitted on are left out unless asked for.
 */
export async function validateAiconfigurator(
  path: string,
  options: ValidateOptions,
): Promise<ValidationReport> {
  const report = new ReportBuilder();
  const predictor = new SiliconPredictor();
  const rows = readCsv(path, SILICON_COLUMNS);
  report.addRows(rows.length);
  for (const csvRow of rows) {
    const name = csvRow.values.id || `line ${csvRow.line}`;
    const row = siliconRow(csvRow);
    if ("reason" in row) {
      report.leaveOut(name, row.reason);
      continue;
    }
    if (!options.includesFitted && halfOf(row.id) === 0) {
      report.leaveOut(name, "of the half that coefficients were fitted on");
      continue;
    }
    const { ttftMs, tpotMs } = predictor.predict(row);
    const kind = row.prefill === null ? "agg" : "disagg";
    const group = `${row.engine} ${row.model.name} ${row.system} ${kind}`;
    report.add("silicon_ttft_ms", ttftMs, row.ttftMs, group);
    report.add("silicon_tpot_ms", tpotMs, row.tpotMs, group);
  }
  return report.build(
    "aiconfigurator",
    path,
    "half of the rows, by a hash of their id, was fitted on; the other half is reported",
  );
}
