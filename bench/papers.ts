/**
 * Published results of the papers, by the twin: claim, paper, twin, difference. Data that is not ours is read from `../shared` beside
 * the repository; what is not there is skipped and said so. `--only NAME` runs one of splitwise, ratios, distserve, orca, sarathi.
 */
import { existsSync } from "node:fs";
import { interpolatedQuantile } from "../src/core/util/quantiles.ts";
import { highestRate } from "../src/twin/paper/capacity.ts";
import { DistserveData } from "../src/twin/paper/distserve-data.ts";
import { distserveExample, distserveFigure1 } from "../src/twin/paper/distserve-experiments.ts";
import { fitOrcaFixedMs, orcaFigure10 } from "../src/twin/paper/orca-experiments.ts";
import {
  readLengths,
  sarathiCapacity,
  sarathiPerf,
  sarathiTails,
} from "../src/twin/paper/sarathi-experiments.ts";
import { parseSplitwiseDesign } from "../src/twin/paper/splitwise-fleet.ts";
import {
  atRate,
  meetsSplitwiseGoals,
  readSplitwiseGolden,
  readSplitwiseTrace,
  runSplitwise,
  SPLITWISE_METRICS,
} from "../src/twin/paper/splitwise-golden.ts";
import { readSplitwiseTable } from "../src/twin/paper/splitwise-table.ts";
import { report } from "./lib/report.ts";

const SHARED = new URL("../../shared/", import.meta.url).pathname;
const GOLDEN = `${SHARED}silicon/splitwise-sim/golden/`;
const DISTSERVE = `${SHARED}silicon/distserve/`;
const LENGTHS = `${SHARED}traces/length-stats/`;
/** A percentile further away than this counts as missed. */
const TOLERANCE = 0.05;
const EXAMPLE_SEEDS = 16;

interface Claim {
  readonly claim: string;
  readonly paper: number | string;
  readonly twin: number;
}

const only = process.argv.includes("--only") ? process.argv[process.argv.indexOf("--only") + 1] : null;
const claims: Claim[] = [];
const skipped: string[] = [];
const result: Record<string, unknown> = {};

run("splitwise", [`${GOLDEN}splitwisesim_bloom176b_2min.csv`], splitwiseRows);
run("ratios", [`${GOLDEN}rr_conv_110_2min.csv`], splitwiseRatios);
run("distserve", [`${DISTSERVE}profiler-a100-80g.vllm.json`], distserve);
run("orca", [], orca);
run("sarathi", [`${LENGTHS}sharegpt_8k_filtered_stats_llama2_tokenizer.csv`], sarathi);

report({
  title: "Results of papers, by the twin",
  rows: claims.map(({ claim, paper, twin }) => ({
    claim,
    paper,
    twin: twin < 100 ? twin.toFixed(2) : twin.toFixed(0),
    difference: typeof paper === "number" ? `${(100 * (twin / paper - 1)).toFixed(1)} %` : "",
  })),
  result: { ...result, claims, skipped },
});

function run(name: string, files: readonly string[], part: () => void): void {
  if (only !== null && only !== name) return;
  const missing = files.filter((file) => !existsSync(file));
  if (missing.length === 0) part();
  else {
    skipped.push(name);
    if (!process.argv.includes("--json")) console.log(`Skipped ${name}: there is no ${missing.join(", ")}`);
  }
}

function splitwiseRows(): void {
  const perfs = readSplitwiseTable(`${GOLDEN}../perf_model.csv`, "bloom-176b");
  const golden = readSplitwiseGolden(`${GOLDEN}splitwisesim_bloom176b_2min.csv`, (row, reason) =>
    skipped.push(`golden row ${row}: ${reason}`),
  );
  const errors: number[] = [];
  const misses: Array<{ readonly row: string; readonly numMissed: number; readonly worst: number }> = [];
  let numSameGoals = 0;
  for (const { config, design, trace, figures } of golden) {
    const twin = runSplitwise(design, perfs, readSplitwiseTrace(`${GOLDEN}rr_${trace}_2min.csv`));
    const ofRow = SPLITWISE_METRICS.map((metric) => Math.abs(twin[metric]! / figures[metric]! - 1));
    errors.push(...ofRow);
    const numMissed = ofRow.filter((error) => error > TOLERANCE).length;
    if (numMissed > 0) misses.push({ row: `${config} ${trace}`, numMissed, worst: Math.max(...ofRow) });
    if (meetsSplitwiseGoals(twin) === meetsSplitwiseGoals(figures)) numSameGoals++;
  }
  const numWithin = errors.filter((error) => error <= TOLERANCE).length;
  claims.push({ claim: "Splitwise: percentiles within 5 %", paper: errors.length, twin: numWithin });
  claims.push({
    claim: "Splitwise: rows within 5 % throughout",
    paper: golden.length,
    twin: golden.length - misses.length,
  });
  claims.push({
    claim: "Splitwise: same verdict on the nine goals",
    paper: golden.length,
    twin: numSameGoals,
  });
  result.splitwise = {
    rows: golden.length,
    percentiles: errors.length,
    percentilesWithin5Pct: numWithin,
    medianErrorPct: 100 * interpolatedQuantile(errors, 0.5),
    p99ErrorPct: 100 * interpolatedQuantile(errors, 0.99),
    worstErrorPct: 100 * Math.max(...errors),
    misses,
  };
}

function splitwiseRatios(): void {
  const perfs = readSplitwiseTable(`${GOLDEN}../perf_model.csv`, "bloom-176b");
  const traces = {
    conversation: readSplitwiseTrace(`${GOLDEN}rr_conv_110_2min.csv`),
    code: readSplitwiseTrace(`${GOLDEN}rr_code_110_2min.csv`),
  };
  const rates = new Map<string, number>();
  const rateOf = (name: string, workload: keyof typeof traces): number => {
    const key = `${name}, ${workload}`;
    if (!rates.has(key)) {
      const design = parseSplitwiseDesign(name)!;
      const meets = (rate: number) =>
        meetsSplitwiseGoals(runSplitwise(design, perfs, atRate(traces[workload], 110, rate)));
      rates.set(key, highestRate({ max: 192, tolerance: 4 }, meets));
    }
    return rates.get(key)!;
  };
  const ratio = (claim: string, paper: number, workload: keyof typeof traces, a: string, b: string) =>
    claims.push({
      claim: `Splitwise, ${workload}: ${claim}`,
      paper,
      twin: rateOf(a, workload) / rateOf(b, workload),
    });
  ratio("iso-power AA over Baseline-A100", 2.15, "conversation", "Splitwise-AA-45-25", "Baseline-A100-70");
  ratio("iso-power HA over Baseline-H100", 1.18, "conversation", "Splitwise-HA-25-26", "Baseline-H100-40");
  // The paper does not say of which trace the last one is, and lists fleets for both.
  ratio("iso-cost AA over Baseline-H100", 1.4, "conversation", "Splitwise-AA-51-35", "Baseline-H100-40");
  ratio("iso-cost AA over Baseline-H100", 1.4, "code", "Splitwise-AA-66-20", "Baseline-H100-40");
  result.splitwiseRates = Object.fromEntries(rates);
}

function distserve(): void {
  const kvFile = `${DISTSERVE}max_num_tokens.csv`;
  const own = new DistserveData(`${DISTSERVE}profiler-a100-80g.distserve.json`, kvFile);
  const vllm = new DistserveData(`${DISTSERVE}profiler-a100-80g.vllm.json`, kvFile);
  const examples = Array.from({ length: EXAMPLE_SEEDS }, (_, seed) =>
    distserveExample(own, { seed, count: 300 }),
  );
  const example = interpolatedQuantile(examples, 0.5);
  claims.push({ claim: "DistServe: OPT-13B example, req/s per GPU", paper: 1.56, twin: example });
  const goals = { ttftMs: 200, tpotMs: 40 };
  const figure1 = distserveFigure1({ together: vllm, apart: vllm }, { seed: 1, count: 1000, goals });
  claims.push({ claim: "DistServe: figure 1 together, req/s per GPU", paper: 1.6, twin: figure1.together });
  claims.push({ claim: "DistServe: figure 1 apart, req/s per GPU", paper: 3.3, twin: figure1.apart });
  claims.push({ claim: "DistServe: figure 1 ratio", paper: 2.1, twin: figure1.apart / figure1.together });
  result.distserve = { example, exampleBySeed: examples, figure1 };
}

function orca(): void {
  const fixedMs = fitOrcaFixedMs();
  const figure10 = orcaFigure10({ seed: 1, fixedMs, batches: [1, 8, 16, 32, 64] });
  claims.push({ claim: "ORCA: static at 190 ms/token, req/s", paper: 0.185, twin: figure10.static });
  claims.push({ claim: "ORCA: ORCA at 190 ms/token, req/s", paper: 6.81, twin: figure10.orca });
  claims.push({ claim: "ORCA: ratio", paper: 36.9, twin: figure10.orca / figure10.static });
  result.orca = { fixedMs, ...figure10 };
}

function sarathi(): void {
  const perf = sarathiPerf();
  const files = {
    sharegpt: "sharegpt_8k_filtered_stats_llama2_tokenizer.csv",
    arxiv: "arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv",
  };
  const paper = { sharegpt: { strict: 2.78, relaxed: 2.15 }, arxiv: { strict: 1.82, relaxed: 1.97 } };
  for (const data of ["sharegpt", "arxiv"] as const) {
    const lengths = readLengths(LENGTHS + files[data]);
    for (const goal of ["strict", "relaxed"] as const) {
      const capacity = (policy: "orca" | "prefill-first" | "chunked") =>
        sarathiCapacity(perf, policy, { goal, lengths });
      const [chunked, overOrca, overVllm] = [
        capacity("chunked"),
        capacity("orca"),
        capacity("prefill-first"),
      ];
      claims.push({
        claim: `Sarathi: ${data}, ${goal}, over ORCA`,
        paper: paper[data][goal],
        twin: chunked / overOrca,
      });
      if (goal === "strict")
        claims.push({
          claim: `Sarathi: ${data}, strict, over vLLM`,
          paper: data === "sharegpt" ? 2.6 : "not stated",
          twin: chunked / overVllm,
        });
    }
    const tails = (policy: "orca" | "prefill-first" | "chunked") =>
      sarathiTails(perf, policy, { requestsPerSecond: 2, lengths });
    const [chunked, whole] = [tails("chunked"), tails("prefill-first")];
    claims.push({
      claim: `Sarathi: ${data} at 2 req/s, P99 gap whole over chunked`,
      paper: "> 1",
      twin: whole.gapP99Ms / chunked.gapP99Ms,
    });
  }
}
