/**
 * Placement policies against each other in the twin: Mooncake's traces and agentic coding sessions, three loads, one pool and two, the
 * same requests for every policy of a seed. The traces are the user's: what is not there is named and left out.
 *
 *   npm run bench:routing                             everything (about half an hour on two cores)
 *   npm run bench:routing -- --policies=priced,load   only these
 *   npm run bench:routing -- --only=conversation,…    cells with one of these words in their name
 *   npm run bench:routing -- --seeds=2
 *   npm run bench:routing -- --goals                  the others, and priced once more with each request's goal for the first token
 *   npm run bench:routing -- --keep=FILE              runs that the file has are not run again, others are added to it
 */

import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { PLACEMENT_POLICY_NAMES } from "../src/core/router/policies/registry.ts";
import type { RunResult } from "../src/protocol/simulation-schema.ts";
import { estimate } from "../src/twin/report/statistics.ts";
import { runTasks } from "../src/twin/run/run-pool.ts";
import { report } from "./lib/report.ts";
import { type Cell, cells, goalMsOf, scenarioOf, WITH_GOALS } from "./lib/routing-cells.ts";
import { unlimitedCache } from "./lib/unlimited-cache.ts";

/** The policy that the others are compared with. */
const OURS = "priced";
const JOBS = 2;
const ENTRY = pathToFileURL(join(import.meta.dirname, "../dist/twin/run/thread-main.js"));

/** What is kept of a run. */
interface Figures {
  readonly ttftMeanMs: number;
  readonly ttftP99Ms: number;
  readonly goodputPerS: number;
  readonly hitRate: number;
  readonly isFinished: boolean;
  readonly traceHash: string;
}

/** What policies are compared by. */
const METRICS = ["ttftMeanMs", "ttftP99Ms", "goodputPerS"] as const;

function figuresOf(run: RunResult): Figures {
  const set = run.slos.find(({ kind }) => kind === "requests");
  return {
    ttftMeanMs: run.latency.ttftMs?.mean ?? Number.NaN,
    ttftP99Ms: run.latency.ttftMs?.p99 ?? Number.NaN,
    goodputPerS: set?.kind === "requests" ? set.requestsPerSecond : Number.NaN,
    hitRate: run.prefixHitRate ?? 0,
    isFinished: run.end === "finished",
    traceHash: run.traceHash,
  };
}

const option = (name: string): string | undefined =>
  process.argv.find((arg) => arg.startsWith(`--${name}=`))?.slice(name.length + 3);
/** Policies of papers' scenarios, which do not look at caches or have pools of their own, are no rivals here. */
const OTHERS = new Set(["token-jsq", "mixed-pool", "fewest-requests", "random"]);
const policies = option("policies")?.split(",") ?? PLACEMENT_POLICY_NAMES.filter((name) => !OTHERS.has(name));
if (process.argv.includes("--goals")) policies.push(WITH_GOALS);
const keepFile = option("keep");
const kept = new Map<string, Figures>();
if (keepFile !== undefined && existsSync(keepFile)) {
  for (const line of readFileSync(keepFile, "utf8").split("\n").filter(Boolean)) {
    const { key, figures } = JSON.parse(line) as { key: string; figures: Figures };
    kept.set(key, figures);
  }
}
const words = option("only")?.split(",");
const seeds = Array.from({ length: Number(option("seeds") ?? 5) }, (_, i) => i + 1);

const { present, missing } = cells();
for (const name of missing) console.error(`no trace for ${name}: left out`);
const rows: Record<string, string | number>[] = [];
const result: Record<string, unknown> = {};
for (const cell of present) {
  const name = `${cell.workload} ${cell.load} ${cell.shape}`;
  if (words !== undefined && !words.some((word) => name.includes(word))) continue;
  result[name] = await compare(cell, name);
}
report({
  title: "Placement policies in the twin",
  rows,
  result: { seeds: seeds.length, missing, cells: result },
});

/** Runs what is not kept yet. */
async function runAll(cell: Cell, name: string): Promise<void> {
  const keyOf = (fleet: string, seed: number): string => `${name}, ${fleet}, ${seed}`;
  for (const seed of seeds) {
    const tasks = policies
      .filter((fleet) => !kept.has(keyOf(fleet, seed)))
      .map((fleet) => ({ fleet, seed, wantsDetail: false }));
    if (tasks.length === 0) continue;
    const text = scenarioOf(cell, policies, seed);
    const outcomes = await runTasks({
      scenario: { text, fileName: `${name}.yaml`, overrides: [], folder: process.cwd(), tables: null },
      tasks,
      jobs: JOBS,
      signal: new AbortController().signal,
      entry: ENTRY,
    });
    for (const [i, { fleet }] of tasks.entries()) {
      const figures = figuresOf(outcomes[i]!.result);
      const key = keyOf(fleet, seed);
      kept.set(key, figures);
      if (keepFile !== undefined) appendFileSync(keepFile, `${JSON.stringify({ key, figures })}\n`);
    }
  }
}

/** Every policy on one cell: means over the seeds with their 95 % intervals, and against ours, paired by seed. */
async function compare(cell: Cell, name: string): Promise<unknown> {
  const started = performance.now();
  await runAll(cell, name);
  const runsOf = (policy: string): Figures[] => seeds.map((seed) => kept.get(`${name}, ${policy}, ${seed}`)!);
  const ours = policies.includes(OURS) ? runsOf(OURS) : null;
  const byPolicy: Record<string, unknown> = {};
  const unlimited = unlimitedCache(scenarioOf(cell, policies, seeds[0]!), seeds[0]!, goalMsOf(cell));
  const ceiling = unlimited.hitRate;
  for (const policy of policies) {
    const runs = runsOf(policy);
    const figures: Record<string, unknown> = {};
    const row: Record<string, string | number> = { cell: name, policy };
    for (const metric of METRICS) {
      const values = runs.map((run) => run[metric]);
      const { mean, low95, high95 } = estimate(values)!;
      const ratio = ours === null ? null : estimate(values.map((value, i) => value / ours[i]![metric]));
      figures[metric] = { mean, low95, high95, ofOurs: ratio?.mean, low: ratio?.low95, high: ratio?.high95 };
      row[metric] = mean;
      if (low95 !== null && high95 !== null) row[`± ${metric}`] = (high95 - low95) / 2;
    }
    const hitRate = estimate(runs.map((run) => run.hitRate))!.mean;
    const unfinished = runs.filter(({ isFinished }) => !isFinished).length;
    byPolicy[policy] = { ...figures, hitRate, hitsOfCeiling: hitRate / ceiling, unfinished };
    rows.push({
      ...row,
      hitRate,
      hitsOfCeiling: hitRate / ceiling,
      ...(unfinished > 0 ? { unfinished } : {}),
    });
  }
  console.error(`${name}: ${((performance.now() - started) / 1000).toFixed(0)} s`);
  return { ceiling, unlimited, policies: byPolicy };
}
