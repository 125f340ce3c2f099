import type { KernelTables } from "../../core/perf/efficiencies.ts";
import { KernelTable } from "../../core/perf/operators/kernel-table.ts";
import type { KernelMeasurement } from "./kernel-rows.ts";
import { TableError } from "./parquet-rows.ts";
import { deviceIdOf, findTables, loadTable, ratesOf, type TableFile } from "./table-folder.ts";

/**
 * The measured tables of devices below `folder` (`--tables`), by their ids in the catalogue, as `createPerfModel` takes them. Of several
 * versions of one engine's table the latest counts, of several engines' vLLM's. Devices without tables are left out. Throws
 * {@link TableError} when all are, and for tables that cannot be used.
 */
export async function loadKernelTables(
  folder: string,
  deviceIds: Iterable<string>,
): Promise<Map<string, KernelTables>> {
  const files = await findTables(folder);
  const tables = new Map<string, KernelTables>();
  for (const id of deviceIds) {
    const own = files.filter(({ system }) => deviceIdOf(system) === id);
    if (own.length > 0) tables.set(id, await loadTables(folder, own));
  }
  if (tables.size > 0) return tables;
  const known = [...new Set(files.map(({ system }) => deviceIdOf(system)))].join(", ");
  throw new TableError(`${folder}: no tables of ${[...deviceIds].join(", ")}; there are those of ${known}`);
}

async function loadTables(folder: string, files: readonly TableFile[]): Promise<KernelTables> {
  const rates = await ratesOf(files[0]!);
  if (rates === null) {
    const { path, system } = files[0]!;
    throw new TableError(`${path}: no ${system}.yaml beside the data folder says the rates of this system`);
  }
  const points = new Map<string, KernelMeasurement[]>();
  for (const file of chooseTables(folder, files)) {
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

/** The engine that is modelled: its tables count where it has some. */
const MODELLED_ENGINE = "vllm";

/**
 * One table of each operator: points of two engines, which have different kernels, are not points of one surface. Throws
 * {@link TableError} when it is not clear which engine's to take.
 */
export function chooseTables(folder: string, files: readonly TableFile[]): TableFile[] {
  const byOperator = new Map<string, Map<string, TableFile>>();
  // By the numbers in their names: 0.19.0 is later than 0.9.0.
  const sorted = [...files].sort((a, b) => a.version.localeCompare(b.version, "en", { numeric: true }));
  for (const file of sorted) {
    const engines = byOperator.get(file.operator) ?? new Map<string, TableFile>();
    byOperator.set(file.operator, engines.set(file.engine, file));
  }
  return [...byOperator].map(([operator, engines]) => {
    const [only, ...others] = engines.values();
    const chosen = others.length === 0 ? only : engines.get(MODELLED_ENGINE);
    if (chosen !== undefined) return chosen;
    const names = [...engines.keys()].sort().join(" and ");
    throw new TableError(
      `${folder}: ${operator} of ${only?.system} was measured with ${names}; leave the tables of one engine there`,
    );
  });
}
