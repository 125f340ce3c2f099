import { COEFFICIENTS } from "../../core/perf/coefficients/index.ts";
import type { DeviceSpec } from "../../core/perf/device-spec.ts";
import { efficienciesOf } from "../../core/perf/efficiencies.ts";
import type { KernelMeasurement, ReferenceRates } from "../tables/kernel-rows.ts";
import { tableOf } from "../tables/kernel-tables.ts";
import { deviceIdOf, findTables, loadTable, ratesOf, type TableFile } from "../tables/table-folder.ts";
import { ReportBuilder, type ValidateOptions, type ValidationReport } from "./report.ts";
import { isHeldOutShape } from "./split.ts";

/** Name under which predictions by interpolation in the other seven tenths of the same table are reported. */
const TABLE_RIVAL = "table interpolation";

/**
 * Predicts measured kernels from fitted coefficients, and by interpolating in the table itself. Both are judged on the shapes that
 * neither has seen: three tenths by hash. For a device without coefficients those of the nearest architecture are judged.
 */
export async function validateKernels(path: string, options: ValidateOptions): Promise<ValidationReport> {
  const report = new ReportBuilder();
  for (const file of await findTables(path)) {
    const name = `${file.system} ${file.operator} (${file.engine} ${file.version})`;
    const rates = await ratesOf(file);
    if (rates === null) {
      report.leaveOut(name, `no ${file.system}.yaml beside its data folder says the rates of this system`);
      continue;
    }
    const { measurements, skipped } = await loadTable(file, rates);
    for (const [reason, rows] of skipped) report.leaveOut(name, `${rows} rows: ${reason}`);
    report.addRows(measurements.length);
    judge(report, file, rates, measurements, options);
  }
  return report.build(
    "kernels",
    path,
    "three tenths of the shapes, by hash, which neither fits nor tables have seen",
  );
}

function judge(
  report: ReportBuilder,
  file: TableFile,
  rates: ReferenceRates,
  measurements: readonly KernelMeasurement[],
  options: ValidateOptions,
): void {
  const device = deviceIdOf(file.system);
  const { lookup } = efficienciesOf(specOf(device, rates), undefined);
  const own = COEFFICIENTS[device];
  for (const [key, group] of byKey(measurements)) {
    const known = group.filter(({ shape }) => !isHeldOutShape(shape));
    const table = known.length > 0 ? tableOf(known) : null;
    const isFitted = own?.surfaces[key] !== undefined;
    const efficiency = lookup(key);
    for (const { metric, shape, coordinates, rooflineMs, measuredMs } of group) {
      const isHeldOut = isHeldOutShape(shape);
      // Where nothing was fitted, no shape has been seen.
      if (isHeldOut || !isFitted || options.includesFitted) {
        const predictedMs = rooflineMs * 2 ** efficiency.log2Factor(coordinates);
        report.add(`${metric}_ms`, predictedMs, measuredMs, `${device} ${key}`);
      }
      if (isHeldOut && table !== null)
        report.addRival(
          TABLE_RIVAL,
          `${metric}_ms`,
          rooflineMs * 2 ** table.log2Factor(coordinates),
          measuredMs,
        );
    }
  }
}

function byKey(measurements: readonly KernelMeasurement[]): Map<string, KernelMeasurement[]> {
  const groups = new Map<string, KernelMeasurement[]>();
  for (const measurement of measurements) {
    const group = groups.get(measurement.key);
    if (group === undefined) groups.set(measurement.key, [measurement]);
    else group.push(measurement);
  }
  return groups;
}

/** As much of a device as efficiencies depend on. */
function specOf(id: string, rates: ReferenceRates): DeviceSpec {
  return {
    id,
    denseFlops: rates.denseFlops,
    memoryBytes: 1,
    memoryBytesPerSecond: rates.memoryBytesPerSecond,
    scaleUp: rates.scaleUp,
    scaleUpDevices: 8,
    scaleOut: rates.scaleUp,
    host: rates.scaleUp,
    attentionAcceleration: null,
  };
}
