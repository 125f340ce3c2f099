/**
 * Speed of the twin on one thread: simulated requests per second of wall time on the Mooncake traces, with everything that `twofold
 * simulate` records, and how cost and memory grow with workers and requests. The traces are the user's: without them only growth is
 * measured.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseScenarioFile } from "../src/protocol/scenario-file.ts";
import type { RunResult } from "../src/protocol/simulation-schema.ts";
import { PRODUCTION_PARTS } from "../src/twin/production-parts.ts";
import { Simulation } from "../src/twin/simulate.ts";
import { median, report, round } from "./lib/report.ts";

const TRACES = join(import.meta.dirname, "../../shared/traces/mooncake-fast25");
const ROUNDS = 7;
/** Rounds that are not counted: a trace takes half a second, of which the compiler takes most at first. */
const WARM_UP_ROUNDS = 3;
/** The traces' own blocks. Smaller ones find the same prefixes and cost more. */
const BLOCK_TOKENS = 512;
const FULL = process.argv.includes("--full");

interface Measured {
  readonly wallS: number;
  readonly cpuS: number;
  readonly result: RunResult;
}

/** Runs one scenario of `count` H100s with an 8 B model in this thread. */
function run(options: {
  count: number;
  workload: string;
  blockTokens?: number;
  requests?: number;
}): Measured {
  const text = `
name: bench
model: llama-3.1-8b
fleets:
  all:
    workers:
      - { name: w, role: both, count: ${options.count}, device: h100-sxm, blockTokens: ${options.blockTokens ?? BLOCK_TOKENS}, tokenBudget: 8192 }
workload: ${options.workload}
`;
  const overrides = options.requests === undefined ? [] : [`limits.requests=${options.requests}`];
  const simulation = new Simulation(
    parseScenarioFile(text, "bench.yaml", overrides),
    PRODUCTION_PARTS,
    import.meta.dirname,
  );
  simulation.plan("all");
  const cpu = process.cpuUsage();
  const start = performance.now();
  const { result } = simulation.run("all", 1);
  const wallS = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  if (result.requests.completed !== result.requests.arrived) throw new Error("requests were lost");
  return { wallS, cpuS: (user + system) / 1e6, result };
}

const rows: Record<string, string | number>[] = [];

/** Requests per second of wall time and of processor time: the second is the fairer one on a machine that others use. */
interface Speed {
  readonly perSecond: number;
  readonly perCpuSecond: number;
}

function trace(name: string, blockTokens: number): Speed | null {
  const path = join(TRACES, `${name}_trace.jsonl`);
  if (!existsSync(path)) return null;
  const workload = `{ kind: trace, path: ${path} }`;
  const all = Array.from({ length: WARM_UP_ROUNDS + ROUNDS }, () => run({ count: 8, workload, blockTokens }));
  const rounds = all.slice(WARM_UP_ROUNDS);
  const { arrived } = rounds[0]!.result.requests;
  const perSecond = median(rounds.map(({ wallS }) => arrived / wallS));
  const perCpuSecond = median(rounds.map(({ cpuS }) => arrived / cpuS));
  rows.push({
    what: `${name}, ${blockTokens}-token blocks`,
    requests: arrived,
    requestsPerSecond: perSecond,
    requestsPerCpuSecond: perCpuSecond,
    slowest: Math.min(...rounds.map(({ wallS }) => arrived / wallS)),
    fastest: Math.max(...rounds.map(({ wallS }) => arrived / wallS)),
  });
  return { perSecond: round(perSecond), perCpuSecond: round(perCpuSecond) };
}

/** Short requests in proportion to the fleet, so that each worker has the same to do. */
function growth(count: number, requests: number): { usPerEvent: number; bytes: number } {
  globalThis.gc?.();
  const before = process.memoryUsage().rss;
  const workload = `{ kind: requests, inputTokens: "uniform:64:256", outputTokens: "uniform:1:16", arrivals: { kind: poisson, requestsPerSecond: ${20 * count} }, requests: ${requests} }`;
  const { cpuS, result } = run({ count, workload, blockTokens: 64 });
  const bytes = Math.max(0, process.memoryUsage().rss - before);
  const usPerEvent = (cpuS * 1e6) / result.numEvents;
  rows.push({
    what: `${count} workers, short requests`,
    requests,
    requestsPerCpuSecond: requests / cpuS,
    usPerEvent,
    rssGrowthMb: bytes / 1e6,
  });
  return { usPerEvent, bytes };
}

const synthetic = trace("synthetic", BLOCK_TOKENS);
const conversation = trace("conversation", BLOCK_TOKENS);
for (const blockTokens of [64, 16]) trace("synthetic", blockTokens);
growth(8, 20_000);
const few = growth(8, 100_000);
const many = growth(1000, 100_000);
const long = growth(8, FULL ? 10_000_000 : 1_000_000);
report({
  title: "Simulated requests per second, one thread",
  rows,
  result: {
    requestsPerSecond: synthetic?.perSecond ?? null,
    requestsPerCpuSecond: synthetic?.perCpuSecond ?? null,
    conversationRequestsPerSecond: conversation?.perSecond ?? null,
    conversationRequestsPerCpuSecond: conversation?.perCpuSecond ?? null,
    // What a run a hundred times as long holds more, per further request.
    bytesPerRequest: round(Math.max(0, long.bytes - few.bytes) / (FULL ? 9_900_000 : 900_000)),
    eventCostRatio1000To8Workers: round(many.usPerEvent / few.usPerEvent),
    eventCostRatioLongToShort: round(long.usPerEvent / few.usPerEvent),
  },
});
