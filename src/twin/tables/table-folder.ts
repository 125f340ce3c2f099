import { readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { COEFFICIENTS } from "../../core/perf/coefficients/index.ts";
import type { Precision } from "../../core/perf/precision.ts";
import { readYaml } from "../../protocol/yaml-document.ts";
import { type KernelMeasurement, KNOWN_OPERATORS, type ReferenceRates, readerOf } from "./kernel-rows.ts";
import { readParquet, TableError } from "./parquet-rows.ts";

/** A table file of a folder in AIConfigurator's layout: `<system>/<family>/<engine>/<version>/<operator>_perf.parquet`. */
export interface TableFile {
  readonly path: string;
  readonly system: string;
  readonly engine: string;
  readonly version: string;
  readonly operator: string;
}

/** Rows of one table in the perf model's terms. */
export interface LoadedTable {
  readonly file: TableFile;
  readonly measurements: readonly KernelMeasurement[];
  /** Reasons why rows were left out, with how many. */
  readonly skipped: ReadonlyMap<string, number>;
}

const SUFFIX = "_perf.parquet";
const MAX_DEPTH = 10;
const MAX_FILES = 5000;
/** Largest description of a system: the known ones have 2 kB. */
const MAX_YAML_BYTES = 2 ** 20;

/** Catalogue ids of the systems whose folder has another name. */
const DEVICE_IDS: Readonly<Record<string, string>> = {
  a100_sxm: "a100-80g-sxm",
  h100_sxm: "h100-sxm",
  h200_sxm: "h200-sxm",
  b200_sxm: "b200-sxm",
  b300_sxm: "b300-sxm",
  gb200: "gb200",
  gb300: "gb300",
  l40s: "l40s",
  rtx_pro_6000_server: "rtx-pro-6000-bse",
};

/** The catalogue id of a system: `h100_sxm` is `h100-sxm`. */
export function deviceIdOf(system: string): string {
  return DEVICE_IDS[system] ?? system.replaceAll("_", "-");
}

/** All table files below `folder`, sorted. Throws {@link TableError} when there are none. */
export async function findTables(folder: string): Promise<TableFile[]> {
  const found: TableFile[] = [];
  await walk(resolve(folder), 0, found);
  if (found.length === 0)
    throw new TableError(
      `${folder}: no *${SUFFIX} below it; expected <system>/<family>/<engine>/<version>/<operator>${SUFFIX}`,
    );
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function walk(folder: string, depth: number, found: TableFile[]): Promise<void> {
  if (depth > MAX_DEPTH) return;
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await walk(path, depth + 1, found);
    else if (entry.name.endsWith(SUFFIX)) {
      if (found.length >= MAX_FILES) throw new TableError(`${folder}: more than ${MAX_FILES} tables`);
      const version = dirname(path);
      const engine = dirname(version);
      found.push({
        path,
        system: basename(dirname(dirname(engine))),
        engine: basename(engine),
        version: basename(version),
        operator: entry.name.slice(0, -SUFFIX.length),
      });
    }
  }
}

/** Reads a table with the rates of its system. */
export async function loadTable(file: TableFile, rates: ReferenceRates): Promise<LoadedTable> {
  const skipped = new Map<string, number>();
  const read = readerOf(file.operator);
  if (read === null) {
    skipped.set(`no operator for ${file.operator} tables; known are ${KNOWN_OPERATORS.join(", ")}`, 1);
    return { file, measurements: [], skipped };
  }
  const measurements: KernelMeasurement[] = [];
  for (const row of await readParquet(file.path)) {
    const result = read(row, rates);
    if ("reason" in result) skipped.set(result.reason, (skipped.get(result.reason) ?? 0) + 1);
    else measurements.push(result);
  }
  return { file, measurements, skipped };
}

/**
 * Rates of the system of a table: those that its fits were made with, or what `<system>.yaml` beside the `data` folder says; null
 * when there is neither.
 */
export async function ratesOf(file: TableFile): Promise<ReferenceRates | null> {
  return COEFFICIENTS[deviceIdOf(file.system)]?.reference ?? (await ratesFromYaml(file));
}

/** Rates from `<system>.yaml`, which stands beside the `data` folder; null without such a file. */
export async function ratesFromYaml(file: TableFile): Promise<ReferenceRates | null> {
  // data/<system>/<family>/<engine>/<version>/<file>
  const systems = resolve(dirname(file.path), "../../../../..");
  const path = join(systems, `${file.system}.yaml`);
  const size = (await stat(path).catch(() => null))?.size;
  if (size === undefined) return null;
  if (size > MAX_YAML_BYTES) throw new TableError(`${path}: is larger than ${MAX_YAML_BYTES} bytes`);
  const spec: unknown = readYaml(await readFile(path, "utf8"), path, {
    what: "the description of a system",
    maxLength: MAX_YAML_BYTES,
  }).data;
  const gpu = section(spec, "gpu");
  const node = section(spec, "node");
  const denseFlops: Partial<Record<Precision, number>> = {};
  const names = { bf16: "bfloat16", fp8: "fp8", fp4: "fp4", int8: "int8" } as const;
  for (const [precision, name] of Object.entries(names)) {
    const flops = Number(gpu[`${name}_tc_flops`]);
    if (flops > 0) denseFlops[precision as Precision] = flops;
  }
  const memoryBytesPerSecond = Number(gpu.mem_bw);
  const bytesPerSecond = Number(node.intra_node_bw);
  if (!(memoryBytesPerSecond > 0) || !(bytesPerSecond > 0) || denseFlops.bf16 === undefined) return null;
  return {
    denseFlops,
    memoryBytesPerSecond,
    scaleUp: { bytesPerSecond, latencyMs: Number(node.p2p_latency ?? 0) * 1e3 },
  };
}

function section(value: unknown, key: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || !(key in value)) return {};
  const inner = (value as Record<string, unknown>)[key];
  return typeof inner === "object" && inner !== null ? (inner as Record<string, unknown>) : {};
}
