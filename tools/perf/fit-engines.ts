/**
 * Fits how engines differ from bare kernels to end-to-end measurements, and writes `src/core/perf/coefficients/engines.ts`.
 *
 *   node --import tsx tools/perf/fit-engines.ts ../shared/silicon/aiconfigurator/silicon_sample.csv
 *
 * Half of the rows, by a hash of their id, is fitted: non-negative least absolute relative errors, drawn towards kernels as they were
 * measured. With `--by-group` the halves are cut between pairs of model and system instead, and nothing is written: how well the
 * coefficients carry over to what they have not seen.
 */
import { writeFileSync } from "node:fs";
import type { EngineCalibration, EngineFit, TtftWeights } from "../../src/core/perf/engine-calibration.ts";
import { PLAIN_KERNELS } from "../../src/core/perf/engine-calibration.ts";
import { readCsv } from "../../src/twin/csv-file.ts";
import {
  calibrationKey,
  type Prediction,
  SiliconPredictor,
} from "../../src/twin/validate/aiconfigurator-predict.ts";
import { ErrorSample } from "../../src/twin/validate/error-stats.ts";
import { SILICON_COLUMNS, type SiliconRow, siliconRow } from "../../src/twin/validate/silicon-row.ts";
import { halfOf } from "../../src/twin/validate/split.ts";

interface Column {
  readonly name: string;
  /** The value without evidence, and how far evidence of one row may draw it. */
  readonly prior: number;
  readonly scale: number;
}

const factor = (name: string): Column => ({ name, prior: 1, scale: 0.5 });
const TPOT_COLUMNS: readonly Column[] = [
  ...[
    "attention-gemm",
    "ffn-gemm",
    "moe",
    "moe-4bit",
    "output-gemm",
    "prefill-attention",
    "decode-attention",
    "mla-floor",
  ].map(factor),
  ...["mla-decode", "mla-prefill", "linear-attention", "elementwise", "collective", "sampling"].map(factor),
  { name: "step", prior: 0.5, scale: 1 },
  { name: "layer", prior: 0.005, scale: 0.02 },
  { name: "sequence", prior: 0.002, scale: 0.01 },
];
const TTFT_COLUMNS: readonly Column[] = [
  { name: "request", prior: 10, scale: 50 },
  { name: "kiloTokens", prior: 0, scale: 20 },
  { name: "prefill", prior: 1, scale: 1 },
  { name: "step", prior: 1, scale: 2 },
  { name: "queue", prior: 1, scale: 1 },
  { name: "burst", prior: 0.1, scale: 0.2 },
];

const ROUNDS = 3;
const REWEIGHTINGS = 12;
const SWEEPS = 40;
const PRIOR_WEIGHT = 1e-3;
const SMALLEST_ERROR = 0.03;
const MIN_ROWS = 12;
const OUTPUT = new URL("../../src/core/perf/coefficients/engines.ts", import.meta.url);

interface Sample {
  readonly parts: readonly number[];
  readonly measured: number;
}

/** Weights of the columns: coordinate descent on reweighted squares of relative errors. */
function fitWeights(columns: readonly Column[], samples: readonly Sample[]): number[] {
  const weights = columns.map(({ prior }) => prior);
  const omega = samples.map(() => 1);
  const predicted = ({ parts }: Sample): number =>
    parts.reduce((sum, part, j) => sum + part * weights[j]!, 0);
  for (let round = 0; round < REWEIGHTINGS; round++) {
    const residuals = samples.map((sample) => 1 - predicted(sample) / sample.measured);
    for (let sweep = 0; sweep < SWEEPS; sweep++)
      columns.forEach(({ prior, scale }, j) => {
        let curvature = (PRIOR_WEIGHT * samples.length) / scale ** 2;
        let slope = curvature * prior;
        samples.forEach(({ parts, measured }, i) => {
          const x = parts[j]! / measured;
          curvature += omega[i]! * x * x;
          slope += omega[i]! * x * (residuals[i]! + weights[j]! * x);
        });
        const next = Math.max(0, slope / curvature);
        const change = next - weights[j]!;
        if (change !== 0)
          samples.forEach(({ parts, measured }, i) => {
            residuals[i]! -= (change * parts[j]!) / measured;
          });
        weights[j] = next;
      });
    const raw = samples.map(
      (sample) => 1 / Math.max(SMALLEST_ERROR, Math.abs(predicted(sample) / sample.measured - 1)),
    );
    const mean = raw.reduce((sum, value) => sum + value, 0) / raw.length;
    raw.forEach((value, i) => {
      omega[i] = value / mean;
    });
  }
  return weights.map((weight) => Math.round(weight * 1e3) / 1e3);
}

function calibrationOf(weights: readonly number[]): EngineCalibration {
  const named = Object.fromEntries(TPOT_COLUMNS.map(({ name }, j) => [name, weights[j]!]));
  const { step, layer, sequence, ...factors } = named;
  return { factors, stepMs: step!, layerMs: layer!, sequenceMs: sequence! };
}

function fitEngine(rows: readonly SiliconRow[], predictor: SiliconPredictor): EngineFit {
  let calibration = PLAIN_KERNELS;
  let predictions: Prediction[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    predictions = rows.map((row) => predictor.predict(row, { calibration, ttft: {}, rows: 0 }));
    const samples = rows.map((row, i) => ({
      parts: TPOT_COLUMNS.map(({ name }) => predictions[i]!.tpotTerms.get(name as never) ?? 0),
      measured: row.tpotMs,
    }));
    calibration = calibrationOf(fitWeights(TPOT_COLUMNS, samples));
  }
  predictions = rows.map((row) => predictor.predict(row, { calibration, ttft: {}, rows: 0 }));
  const ttft: Record<string, TtftWeights> = {};
  for (const generator of ["inferencex", "other"]) {
    const samples = rows.flatMap((row, i) =>
      row.loadGenerator === generator
        ? [
            {
              parts: TTFT_COLUMNS.map(({ name }) => predictions[i]!.ttftParts[name as "request"]),
              measured: row.ttftMs,
            },
          ]
        : [],
    );
    if (samples.length < MIN_ROWS) continue;
    const weights = fitWeights(TTFT_COLUMNS, samples);
    ttft[generator] = Object.fromEntries(
      TTFT_COLUMNS.map(({ name }, j) => [name, weights[j]!]),
    ) as TtftWeights;
  }
  return { calibration, ttft, rows: rows.length };
}

async function main(args: readonly string[]): Promise<void> {
  const path = args.find((arg) => !arg.startsWith("--"));
  if (path === undefined) throw new Error("usage: fit-engines.ts silicon_sample.csv [--by-group]");
  const isByGroup = args.includes("--by-group");
  const half = (row: SiliconRow): 0 | 1 =>
    halfOf(isByGroup ? `${row.engine} ${row.model.name} ${row.system}` : row.id);
  const rows: SiliconRow[] = [];
  for (const csvRow of readCsv(path, SILICON_COLUMNS)) {
    const row = siliconRow(csvRow);
    if (!("reason" in row)) rows.push(row);
  }
  const predictor = new SiliconPredictor();
  const fits: Record<string, EngineFit> = {};
  const errors = new Map<string, ErrorSample>();
  for (const key of [...new Set(rows.map(calibrationKey))].sort()) {
    const group = rows.filter((row) => calibrationKey(row) === key);
    const seen = group.filter((row) => half(row) === 0);
    if (seen.length < MIN_ROWS) continue;
    const fit = fitEngine(seen, predictor);
    fits[key] = fit;
    for (const row of group) {
      const { tpotMs, ttftMs } = predictor.predict(row, fit);
      const name = half(row) === 0 ? "fitted" : "held out";
      for (const scope of [`${name} ${key}`, `${name} all`]) {
        sampleOf(errors, `${scope} TPOT`).add(tpotMs, row.tpotMs);
        sampleOf(errors, `${scope} TTFT`).add(ttftMs, row.ttftMs);
      }
    }
  }
  for (const [name, sample] of [...errors].sort(([a], [b]) => (a < b ? -1 : 1)))
    console.log(name, sample.stats());
  if (!isByGroup) write(fits);
}

function sampleOf(samples: Map<string, ErrorSample>, name: string): ErrorSample {
  const sample = samples.get(name) ?? new ErrorSample();
  samples.set(name, sample);
  return sample;
}

function write(fits: Readonly<Record<string, EngineFit>>): void {
  writeFileSync(
    OUTPUT,
    `// Made by tools/perf/fit-engines.ts from end-to-end measurements; made again, not edited.
import type { EngineFit } from "../engine-calibration.ts";

/** By engine and device generation: how steps differ from bare kernels. */
export const ENGINE_CALIBRATIONS: Readonly<Record<string, EngineFit>> = ${JSON.stringify(fits, null, 2)};
`,
  );
}

await main(process.argv.slice(2));
