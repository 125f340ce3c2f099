/**
 * Fits the efficiencies of `src/core/perf/coefficients` to measured kernel tables.
 *
 *   node --import tsx tools/perf/fit-kernels.ts ../shared/silicon/aiconfigurator [system …]
 *
 * Seven tenths of the shapes, by hash, are fitted; the errors in the files are those on the other three tenths.
 */
import { readdirSync, writeFileSync } from "node:fs";
import {
  FittedSurface,
  type SurfaceData,
  storeSurface,
} from "../../src/core/perf/operators/fitted-surface.ts";
import type { KernelMeasurement } from "../../src/twin/tables/kernel-rows.ts";
import {
  deviceIdOf,
  findTables,
  loadTable,
  ratesFromYaml,
  type TableFile,
} from "../../src/twin/tables/table-folder.ts";
import { ErrorSample } from "../../src/twin/validate/error-stats.ts";
import { isHeldOutShape } from "../../src/twin/validate/split.ts";
import { fitSurface } from "./surface-fit.ts";

/** Knots by operator class, per coordinate; those outside the measured range are left out, its ends are put in. */
const KNOTS: Readonly<Record<string, readonly (readonly number[])[]>> = {
  gemm: [
    [0, 4, 6, 7, 8, 9, 10, 11, 12, 13, 15],
    [5, 7, 8, 9, 10, 11, 12, 13, 14, 16],
    [5, 7, 8, 9, 10, 11, 12, 13, 14, 16],
    [0, 1],
  ],
  "prefill-attention": [
    [0, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14],
    [0, 2, 4, 5, 6, 7, 8, 10, 12, 14],
    [0, 2, 4, 6],
    [6, 7, 8],
    [7, 10, 13],
  ],
  "decode-attention": [
    [0, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17],
    [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14],
    [0, 1, 2, 3, 4, 6],
    [6, 7, 8],
    [7, 10, 13],
  ],
  "mla-prefill": [
    [0, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [0, 1, 2, 3, 4, 5, 6, 8],
    [0, 2, 4, 5, 6, 7],
  ],
  "mla-decode": [
    [1, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15, 17],
    [0, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    [0, 2, 4, 5, 6, 7],
  ],
  moe: [
    [-8, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 8, 10],
    [0, 3, 5, 7, 8],
    [18, 20, 22, 24],
    [0, 2, 4, 6],
    [0, 1.01, 1.2],
  ],
  collective: [
    [8, 10, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 26, 28, 30],
    [1, 2, 3],
  ],
};

/** Points that a surface needs at least. */
const MIN_POINTS = 10;
const SCALE = 1000;
const OUTPUT = new URL("../../src/core/perf/coefficients/", import.meta.url);

interface FittedKey {
  readonly key: string;
  readonly metric: string;
  readonly data: SurfaceData;
}

await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<void> {
  const [folder, ...only] = args;
  if (folder === undefined) throw new Error("usage: fit-kernels.ts FOLDER [system …]");
  const files = await findTables(folder);
  const systems = [...new Set(files.map((file) => file.system))];
  for (const system of systems) {
    if (only.length > 0 && !only.includes(system)) continue;
    await fitSystem(
      system,
      files.filter((file) => file.system === system),
    );
  }
  writeIndex();
}

async function fitSystem(system: string, files: readonly TableFile[]): Promise<void> {
  const rates = await ratesFromYaml(files[0]!);
  if (rates === null) throw new Error(`${system}: no ${system}.yaml with its rates`);
  const byKey = new Map<string, KernelMeasurement[]>();
  const software = new Set<string>();
  for (const file of files) {
    const { measurements, skipped } = await loadTable(file, rates);
    for (const [reason, rows] of skipped)
      console.log(`${system} ${file.operator}: ${rows} skipped, ${reason}`);
    if (measurements.length > 0) software.add(`${file.engine} ${file.version}`);
    for (const measurement of measurements) {
      const group = byKey.get(measurement.key);
      if (group === undefined) byKey.set(measurement.key, [measurement]);
      else group.push(measurement);
    }
  }
  const fitted: FittedKey[] = [];
  for (const [key, measurements] of [...byKey].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const data = fitKey(key, measurements);
    if (data === null) continue;
    fitted.push({ key, metric: measurements[0]!.metric, data });
    const knots = data.knots.map((axis) => axis.length).join("x");
    console.log(
      `${system} ${key}: ${data.rows} fitted by ${knots} knots, ${data.heldOutRows} left out: median ${data.medianAbsPct} %, ` +
        `p90 ${data.p90AbsPct} %, mean ${data.meanSignedPct} %`,
    );
  }
  writeSystem(system, rates, [...software].sort(), fitted);
}

function fitKey(key: string, measurements: readonly KernelMeasurement[]): SurfaceData | null {
  const train = measurements.filter(({ shape }) => !isHeldOutShape(shape));
  const test = measurements.filter(({ shape }) => isHeldOutShape(shape));
  if (train.length < MIN_POINTS) return null;
  const range = train[0]!.coordinates.map((_, d): [number, number] => {
    let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (const { coordinates } of measurements) {
      low = Math.min(low, coordinates[d]!);
      high = Math.max(high, coordinates[d]!);
    }
    return [round(low), round(high)];
  });
  const templates = KNOTS[key.split("/")[0]!] ?? KNOTS.collective!;
  // Where only aligned rows were measured, others run the same kernel after a copy.
  if (key.startsWith("gemm/")) range[3] = [0, 1];
  const knots = range.map(([low, high], d) => {
    if (key.startsWith("gemm/") && d === 3) return alignmentKnots(measurements);
    const inner = templates[d]!.filter((knot) => knot > low + 0.3 && knot < high - 0.3);
    const axis = templates[d]!.includes(1.01)
      ? templates[d]!.filter((knot) => knot >= low && knot <= high)
      : [low, ...inner, high];
    return [...new Set(axis)];
  });
  const values = fitSurface(
    knots,
    train.map(({ coordinates }) => coordinates),
    train.map(({ measuredMs, rooflineMs }) => Math.log2(measuredMs / rooflineMs)),
  );
  const data = {
    knots,
    values,
    range,
    rows: train.length,
    heldOutRows: test.length,
    medianAbsPct: 0,
    p90AbsPct: 0,
    meanSignedPct: 0,
  };
  const surface = new FittedSurface(data, "fitted");
  const errors = new ErrorSample();
  for (const { coordinates, rooflineMs, measuredMs } of test)
    errors.add(rooflineMs * 2 ** surface.log2Factor(coordinates), measuredMs);
  const { medianAbsPct, p90AbsPct, meanSignedPct } = errors.stats();
  return { ...data, medianAbsPct, p90AbsPct, meanSignedPct };
}

/** One knot where all rows were aligned. */
function alignmentKnots(measurements: readonly KernelMeasurement[]): number[] {
  return measurements.some(({ coordinates }) => coordinates[3] === 1) ? [0, 1] : [0];
}

function round(value: number): number {
  return Math.round(value * SCALE) / SCALE;
}

function constantName(device: string): string {
  return device.replaceAll("-", "_").toUpperCase();
}

function writeSystem(
  system: string,
  rates: object,
  software: readonly string[],
  fitted: readonly FittedKey[],
): void {
  const device = deviceIdOf(system);
  const surfaces = fitted.map(({ key, data }) => {
    const [knots, range, errors, values] = storeSurface(data).map((part) => JSON.stringify(part));
    return `    ${JSON.stringify(key)}: [\n      ${knots},\n      ${range},\n      ${errors},\n      ${values},\n    ],`;
  });
  const text = `// Made by tools/perf/fit-kernels.ts from measured kernel tables; made again, not edited.
import type { DeviceFits } from "../device-fits.ts";

export const ${constantName(device)}: DeviceFits = {
  device: ${JSON.stringify(device)},
  measuredWith: ${JSON.stringify(software.join(", "))},
  reference: ${JSON.stringify(rates)},
  surfaces: {
${surfaces.join("\n")}
  },
};
`;
  writeFileSync(new URL(`${device}.ts`, OUTPUT), text);
}

/** Lists all devices that have a file, those of earlier runs too. */
function writeIndex(): void {
  const devices = readdirSync(OUTPUT)
    .filter((name) => name !== "index.ts" && name !== "engines.ts")
    .map((name) => name.replace(/\.ts$/, ""))
    .sort();
  const imports = devices.map((device) => `import { ${constantName(device)} } from "./${device}.ts";`);
  const entries = devices.map((device) => `  ${JSON.stringify(device)}: ${constantName(device)},`);
  writeFileSync(
    new URL("index.ts", OUTPUT),
    `import type { DeviceFits } from "../device-fits.ts";
${imports.join("\n")}

/** Fitted efficiencies by catalogue id. */
export const COEFFICIENTS: Readonly<Record<string, DeviceFits>> = {
${entries.join("\n")}
};
`,
  );
}
