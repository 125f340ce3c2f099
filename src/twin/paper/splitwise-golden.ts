import type { SplitwisePerf } from "../../core/perf/paper/splitwise.ts";
import { interpolatedQuantile } from "../../core/util/quantiles.ts";
import { type CsvRow, readCsv } from "../csv-file.ts";
import { runTwin } from "../driver/run-twin.ts";
import { ListSource, type PlainRequest } from "../workload/list-source.ts";
import { OutcomeList, type PaperOutcome } from "./outcomes.ts";
import { parseSplitwiseDesign, type SplitwiseDesign, splitwiseFleet } from "./splitwise-fleet.ts";
import type { SplitwiseHardware } from "./splitwise-table.ts";

/** Percentiles that the paper sets goals for. */
const PERCENTILES = [50, 90, 99] as const;

/** Names of the eighteen figures of a run, as the golden file has them. */
export const SPLITWISE_METRICS: readonly string[] = ["slowdown", "s"].flatMap((unit) =>
  ["ttft", "tbt", "e2e"].flatMap((what) => PERCENTILES.map((p) => `${what}_${unit}_p${p}`)),
);

/** Largest slowdowns against an A100 machine without load: the paper's nine goals, all of which a fleet has to meet. */
const GOALS: ReadonlyArray<readonly [metric: string, slowdown: number]> = [
  ["ttft_slowdown_p50", 2],
  ["ttft_slowdown_p90", 3],
  ["ttft_slowdown_p99", 6],
  ...["tbt", "e2e"].flatMap((what) => [
    [`${what}_slowdown_p50`, 1.25] as const,
    [`${what}_slowdown_p90`, 1.5] as const,
    [`${what}_slowdown_p99`, 5] as const,
  ]),
];

export type SplitwiseFigures = Readonly<Record<string, number>>;

/** One row of the golden file: a fleet, a trace, and what the paper's own simulator made of them. */
export interface SplitwiseGolden {
  readonly config: string;
  readonly design: SplitwiseDesign;
  readonly trace: string;
  readonly numCompleted: number;
  readonly figures: SplitwiseFigures;
}

/** Reads golden rows. A row that cannot be simulated is handed to `skip` with the reason. */
export function readSplitwiseGolden(
  file: string,
  skip: (row: number, reason: string) => void,
): SplitwiseGolden[] {
  const names = ["config", "completed", "workload", "rps", ...SPLITWISE_METRICS];
  const golden: SplitwiseGolden[] = [];
  readCsv(file, names).forEach((row, index) => {
    const design = parseSplitwiseDesign(row.text("config"));
    if (design === null) {
      skip(index + 1, `unknown design ${row.text("config")}`);
      return;
    }
    golden.push(goldenOf(row, design));
  });
  return golden;
}

function goldenOf(row: CsvRow, design: SplitwiseDesign): SplitwiseGolden {
  return {
    config: row.text("config"),
    design,
    trace: `${row.text("workload")}_${row.text("rps")}`,
    numCompleted: row.count("completed", 0),
    figures: Object.fromEntries(SPLITWISE_METRICS.map((name) => [name, row.number(name, { min: 0 })])),
  };
}

/** Reads a trace: `arrival_timestamp` in seconds, `prompt_size` and `token_size` in tokens. */
export function readSplitwiseTrace(file: string): PlainRequest[] {
  let earlierMs = 0;
  return readCsv(file, ["arrival_timestamp", "prompt_size", "token_size"]).map((row) => {
    const arrivalMs = row.number("arrival_timestamp", { min: 0 }) * 1000;
    if (arrivalMs < earlierMs)
      throw row.error("arrives before the row above; allowed: times that do not fall");
    earlierMs = arrivalMs;
    return {
      arrivalMs,
      inputTokens: row.count("prompt_size", 1),
      outputTokens: row.count("token_size", 1),
    };
  });
}

/** Runs one fleet on one trace. Throws when a request fails: the paper's fleets refuse nothing. */
export function runSplitwise(
  design: SplitwiseDesign,
  perfs: ReadonlyMap<SplitwiseHardware, SplitwisePerf>,
  trace: readonly PlainRequest[],
): SplitwiseFigures {
  const list = new OutcomeList();
  const summary = runTwin(splitwiseFleet(design, perfs), ListSource.ofPlain(trace), list);
  if (summary.end !== "finished" || list.numFailed > 0)
    throw new Error(`the run ended as ${summary.end} with ${list.numFailed} failed requests`);
  return figuresOf(list.outcomes, perfs.get("a100-80gb")!);
}

/** Time between tokens is what follows the first token over all tokens of the output, as the paper's simulator has it. */
function figuresOf(outcomes: readonly PaperOutcome[], unloaded: SplitwisePerf): SplitwiseFigures {
  const columns: Record<string, (outcome: PaperOutcome) => number> = {
    ttft_s: ({ ttftMs }) => ttftMs / 1000,
    tbt_s: ({ e2eMs, ttftMs, outputTokens }) => (e2eMs - ttftMs) / outputTokens / 1000,
    e2e_s: ({ e2eMs }) => e2eMs / 1000,
    ttft_slowdown: ({ ttftMs, inputTokens }) => ttftMs / unloaded.promptMs(inputTokens),
    tbt_slowdown: ({ e2eMs, ttftMs, inputTokens, outputTokens }) =>
      (e2eMs - ttftMs) / outputTokens / unloaded.tokenMs(inputTokens),
    e2e_slowdown: ({ e2eMs, inputTokens, outputTokens }) =>
      e2eMs / (unloaded.promptMs(inputTokens) + unloaded.tokenMs(inputTokens) * (outputTokens - 1)),
  };
  const figures: Record<string, number> = {};
  for (const [name, figureOf] of Object.entries(columns)) {
    const values = outcomes.map(figureOf);
    for (const p of PERCENTILES) figures[`${name}_p${p}`] = interpolatedQuantile(values, p / 100);
  }
  return figures;
}

export function meetsSplitwiseGoals(figures: SplitwiseFigures): boolean {
  return GOALS.every(([metric, slowdown]) => figures[metric]! < slowdown);
}

/** Arrivals of a trace closer together or further apart, so that `fromRate` becomes `toRate`: requests are kept, times scaled. */
export function atRate(trace: readonly PlainRequest[], fromRate: number, toRate: number): PlainRequest[] {
  return trace.map((request) => ({ ...request, arrivalMs: (request.arrivalMs * fromRate) / toRate }));
}
