import type { KernelTables } from "../../core/perf/efficiencies.ts";
import { KernelTable } from "../../core/perf/operators/kernel-table.ts";
import type { KernelMeasurement } from "./kernel-rows.ts";
import { TableError } from "./parquet-rows.ts";
import { deviceIdOf, findTables, loadTable, ratesOf, type TableFile } from "./table-folder.ts";

/**
 * The measured tables of one device below `folder` (`--tables`), as `createPerfModel` takes them. Of several versions of
 * one engine's table the latest counts. Throws {@link TableError} when there is none for the device.
 */
export async function loadKernelTables(folder: string, deviceId: string): Promise<KernelTables> {
  const files = (await findTables(folder)).filter(({ system }) => deviceIdOf(system) === deviceId);
  if (files.length === 0) {
    const known = [...new Set((await findTables(folder)).map(({ system }) => deviceIdOf(system)))];
    throw new TableError(`${folder}: no tables of ${deviceId}; there are those of ${known.join(", ")}`);
  }
  const rates = await ratesOf(files[0]!);
  if (rates === null) {
    const { path, system } = files[0]!;
    throw new TableError(`${path}: no ${system}.yaml beside the data folder says the rates of this system`);
  }
  const points = new Map<string, KernelMeasurement[]>();
  for (const file of latest(files)) {
    for (const measurement of (await loadTable(file, rates)).measurements) {
      const group = points.get(measurement.key);
      if (group === undefined) points.set(measurement.key, [measurement]);
      else group.push(measurement);
    }
  }
  return { rates, efficiencies: new Map([...points].map(([key, group]) => [key, tableOf(group)])) };
}

/** A table of measurements of one operator class and variant. At least one measurement. */
export function tableOf(measurements: readonly KernelMeasurement[]): KernelTable {
  return new KernelTable(
    measurements.map(({ coordinates }) => coordinates),
    measurements.map(({ measuredMs, rooflineMs }) => Math.log2(measuredMs / rooflineMs)),
  );
}

function latest(files: readonly TableFile[]): TableFile[] {
  const byTable = new Map<string, TableFile>();
  // By the numbers in their names: 0.19.0 is later than 0.9.0.
  const sorted = [...files].sort((a, b) => a.version.localeCompare(b.version, "en", { numeric: true }));
  for (const file of sorted) byTable.set(`${file.engine} ${file.operator}`, file);
  return [...byTable.values()];
}
