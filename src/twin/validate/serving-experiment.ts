import type { CsvRow } from "../csv-file.ts";
import { CsvError, readCsv } from "../csv-file.ts";
import type { NamedLoad } from "./serving-workloads.ts";
import { LOAD_NAMES, namedLoad } from "./serving-workloads.ts";

/** One measured figure of an experiment, with what others predicted. */
export interface MeasuredRow {
  readonly line: number;
  /** Stage of the load, counted from 0; -1: all of them together. */
  readonly stage: number;
  /** Such as `e2e_mean` or `ttft_p99`. */
  readonly metric: string;
  readonly measuredMs: number;
  readonly rivals: ReadonlyMap<string, number>;
}

/** One server under one load. */
export interface ServingExperiment {
  /** Names it in reports and in lists of what was fitted; nothing is predicted from it. */
  readonly name: string;
  readonly modelName: string;
  readonly hardware: string;
  readonly tp: number;
  readonly dp: number;
  readonly precision: string;
  readonly isOffloading: boolean;
  readonly memoryUtilisation: number;
  readonly tokenBudget: number;
  readonly maxRunning: number;
  /** Null: nobody knows a load of that name. */
  readonly load: NamedLoad | null;
  readonly loadName: string;
  /** Tokens that the client counted per output, where the file says so. */
  readonly recountedTokens: number | null;
  /** Share of requests that failed; 0 where the file does not say. */
  readonly failedShare: number;
  readonly rows: MeasuredRow[];
}

const COLUMNS = [
  "exp_id",
  "model",
  "hardware",
  "tp",
  "workload",
  "precision",
  "cpu_offload",
  "gpu_mem_util",
  "max_num_batched_tokens",
  "stage_index",
  "metric_name",
  "measured_ms",
] as const;

const RIVAL_PREFIX = "pred_ms_";
/** Failed requests beyond which the load is not what its settings say. */
const MAX_FAILED_SHARE = 0.05;
/** Sequences that the measured servers ran at once, by the settings of those that state them. */
const MAX_RUNNING = 128;

/** Reads measured experiments from a leaderboard: one line per experiment, stage and metric. Throws {@link CsvError} for bad lines. */
export function readLeaderboard(path: string): ServingExperiment[] {
  const experiments = new Map<string, ServingExperiment>();
  for (const row of readCsv(path, COLUMNS)) {
    const name = nameOf(row);
    let experiment = experiments.get(name);
    if (experiment === undefined) {
      experiment = experimentOf(row, name);
      experiments.set(name, experiment);
    }
    experiment.rows.push(measuredRowOf(row));
  }
  return [...experiments.values()];
}

function nameOf({ values }: CsvRow): string {
  const { exp_id, model, hardware, tp, workload, precision, cpu_offload, gpu_mem_util } = values;
  const offload = cpu_offload === "True" ? " offload" : "";
  return `${exp_id} ${model} ${hardware} tp${tp} ${workload} ${precision} ${gpu_mem_util} ${values.max_num_batched_tokens}${offload}`;
}

function experimentOf(row: CsvRow, name: string): ServingExperiment {
  const { values } = row;
  const workload = values.workload!;
  return {
    name,
    modelName: values.model!,
    hardware: values.hardware!,
    tp: row.number("tp", { min: 1, max: 1024, isWhole: true }),
    dp: (values.dp ?? "") === "" ? 1 : row.number("dp", { min: 1, max: 1024, isWhole: true }),
    precision: values.precision!,
    isOffloading: values.cpu_offload!.toLowerCase() === "true",
    memoryUtilisation: row.number("gpu_mem_util", { min: 0.01, max: 1 }),
    tokenBudget: row.number("max_num_batched_tokens", { min: 1, max: 1e6, isWhole: true }),
    maxRunning: MAX_RUNNING,
    load: namedLoad(workload),
    loadName: workload,
    recountedTokens: null,
    failedShare: 0,
    rows: [],
  };
}

function measuredRowOf(row: CsvRow): MeasuredRow {
  const rivals = new Map<string, number>();
  for (const [column, text] of Object.entries(row.values)) {
    if (!column.startsWith(RIVAL_PREFIX) || text === "") continue;
    rivals.set(column.slice(RIVAL_PREFIX.length), row.number(column, { min: 0, max: 1e12 }));
  }
  return {
    line: row.line,
    stage: row.number("stage_index", { min: -1, max: 1000, isWhole: true }),
    metric: row.values.metric_name!,
    measuredMs: row.number("measured_ms", { min: Number.MIN_VALUE, max: 1e12 }),
    rivals,
  };
}

/** Why an experiment's load cannot be run, or null. */
export function loadProblem(experiment: ServingExperiment): string | null {
  if (experiment.failedShare > MAX_FAILED_SHARE)
    return `${Math.round(experiment.failedShare * 100)} % of its requests failed, and when clients gave up is not known; allowed: ${MAX_FAILED_SHARE * 100} %`;
  if (experiment.load !== null) return null;
  return `no load is known by the name ${JSON.stringify(experiment.loadName)}; known: ${LOAD_NAMES.join(", ")}`;
}
