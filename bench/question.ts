/**
 * Who should read prompts of 128 k to 1 M tokens? The capacity of each fleet of examples/twin/long-context-*.yaml: the highest Poisson rate at
 * which 90 % of all requests meet the bounds of their class, by bisection, the same requests for every fleet and rate.
 *
 *   npm run bench:question                      capacities at equal power and equal cost, a common load, sensitivities
 *   npm run bench:question -- --only=NAME,…     some of: power, cost, load, sensitivities, or names of these
 *   npm run bench:question -- --fleets=NAME,…   capacities of these fleets
 *   npm run bench:question -- --search          how many workers for prompts, and which chunks: what the scenario files have
 */
import { join } from "node:path";
import { estimate } from "../src/twin/report/statistics.ts";
import { FleetUnderLoad, goodShare } from "./lib/capacity.ts";
import { type Budget, candidates, readScenario, sizeOf } from "./lib/question-fleets.ts";
import { SENSITIVITIES, type Sensitivity } from "./lib/question-sensitivities.ts";
import { report, round } from "./lib/report.ts";

const FOLDER = join(import.meta.dirname, "../examples/twin");
const SCENARIOS: Readonly<Record<"power" | "cost", string>> = {
  power: join(FOLDER, "long-context-equal-power.yaml"),
  cost: join(FOLDER, "long-context-equal-cost.yaml"),
};
const LIMITS: Readonly<Record<Budget, number>> = { watts: 370_100, dollars: 9_800_000 };
const SEEDS = [1, 2, 3, 4, 5];
const REQUESTS = ["workload.requests=1000"];
/** Seeds and requests of searches and sensitivities. */
const FEW_SEEDS = [1, 2, 3];
const FEW_REQUESTS = ["workload.requests=400"];
/** Where the search for a capacity starts, requests per second. */
const FIRST_GUESS = 0.8;
/** Fleets that a sensitivity is computed for unless it names its own. */
const COMPARED = ["rubin-split", "cpx-rack-mixed"];

const rows: Record<string, string | number>[] = [];
const only = process.argv
  .find((arg) => arg.startsWith("--only="))
  ?.slice("--only=".length)
  .split(",");
const wantedFleets = process.argv
  .find((arg) => arg.startsWith("--fleets="))
  ?.slice("--fleets=".length)
  .split(",");
const isWanted = (name: string): boolean => only?.includes(name) ?? true;
const say = (text: string): void => console.error(text);

if (process.argv.includes("--search")) search();
else {
  const result: Record<string, unknown> = {};
  for (const name of ["power", "cost"] as const) if (isWanted(name)) result[name] = capacities(name);
  if (isWanted("load")) result.load = commonLoad();
  for (const each of SENSITIVITIES)
    if (isWanted(each.name) || only?.includes("sensitivities")) result[each.name] = sensitivity(each);
  report({ title: "Prompts of 128 k to 1 M tokens: capacity in requests per second", rows, result });
}

/** Capacity of every fleet with its 95 % interval over seeds, and its difference from the first, paired by seed. */
function capacities(scenario: keyof typeof SCENARIOS): Record<string, unknown> {
  const path = SCENARIOS[scenario];
  const file = readScenario(path);
  const result: Record<string, unknown> = {};
  let base: readonly number[] | null = null;
  let guess = FIRST_GUESS;
  for (const fleet of wantedFleets ?? Object.keys(file.values.fleets)) {
    const found = new FleetUnderLoad(path, fleet, REQUESTS).capacities(SEEDS, guess);
    guess = found[0] || guess;
    if (fleet === "rubin-split") base = found;
    const size = sizeOf(file, fleet);
    const { mean, low95, high95 } = estimate(found)!;
    const ratio = base === null ? null : estimate(found.map((value, i) => value / base![i]!));
    const figures = {
      accelerators: size.accelerators,
      kw: size.watts / 1e3,
      millionDollars: size.dollars / 1e6,
      requestsPerSecond: mean,
      low95,
      high95,
      perMw: mean / (size.watts / 1e6),
      perMillionDollars: mean / (size.dollars / 1e6),
      ofRubinSplit: ratio?.mean ?? null,
      ofRubinSplitLow95: ratio?.low95 ?? null,
      ofRubinSplitHigh95: ratio?.high95 ?? null,
      bySeed: found,
    };
    result[fleet] = figures;
    const { bySeed: _, ...shown } = figures;
    rows.push({ part: `equal ${scenario}`, fleet, ...blank(shown) });
    say(`${scenario} ${fleet}: ${found.map(round).join(" ")}`);
  }
  return result;
}

/** Latencies and energy of all fleets at the load that the equal-power scenario has. */
function commonLoad(): Record<string, unknown> {
  const path = SCENARIOS.power;
  const file = readScenario(path);
  const rate = 1 / file.values.workload.timeScale;
  const result: Record<string, unknown> = {};
  for (const fleet of Object.keys(file.values.fleets)) {
    const load = new FleetUnderLoad(path, fleet, REQUESTS);
    const runs = SEEDS.map((seed) => load.run(rate, seed));
    const mean = (pick: (run: (typeof runs)[number]) => number | null | undefined): number | null =>
      estimate(runs.map((run) => pick(run) ?? Number.NaN))!.mean;
    const figures = {
      requestsPerSecond: rate,
      goodShare: mean(goodShare),
      ttftP50S: mean(({ latency }) => (latency.ttftMs?.p50 ?? Number.NaN) / 1e3),
      ttftP90S: mean(({ latency }) => (latency.ttftMs?.p90 ?? Number.NaN) / 1e3),
      tpotP50Ms: mean(({ latency }) => latency.tpotMs?.p50),
      tpotP90Ms: mean(({ latency }) => latency.tpotMs?.p90),
      joulesPerToken: mean(({ energy }) => energy?.joulesPerToken),
      joulesPerOutputToken: mean(({ energy }) => energy?.joulesPerOutputToken),
      dollarsPerMillionTokens: mean(({ cost }) => cost?.dollarsPerMillionTokens),
    };
    result[fleet] = figures;
    rows.push({ part: "common load", fleet, ...blank(figures) });
    say(`load ${fleet}`);
  }
  return result;
}

/** Capacities at equal power with some assumption changed. */
function sensitivity({
  name,
  overrides,
  fleets = COMPARED,
  searched = [],
  guess = FIRST_GUESS,
}: Sensitivity): unknown {
  const path = SCENARIOS.power;
  const result: Record<string, unknown> = {};
  for (const fleet of fleets) {
    const shared = [...FEW_REQUESTS, ...overrides];
    const best = searched.includes(fleet)
      ? bestCandidate(path, fleet, shared, "watts", guess)
      : { overrides: [], requestsPerSecond: guess };
    const found = new FleetUnderLoad(path, fleet, [...shared, ...best.overrides]).capacities(
      FEW_SEEDS,
      best.requestsPerSecond || guess,
    );
    const file = readScenario(path, best.overrides);
    const size = sizeOf(file, fleet);
    const { mean, low95, high95 } = estimate(found)!;
    const figures = {
      requestsPerSecond: mean,
      low95,
      high95,
      perMw: mean / (size.watts / 1e6),
      perMillionDollars: mean / (size.dollars / 1e6),
    };
    const counts = file.values.fleets[fleet]!.workers.map((pool) => `${pool.count} ${pool.name}`).join(", ");
    result[fleet] = { ...figures, workers: counts, changed: best.overrides };
    rows.push({ part: name, fleet, ...blank(figures), workers: counts });
    say(`${name} ${fleet}: ${found.map(round).join(" ")} with ${best.overrides.join(" ")}`);
  }
  return result;
}

interface Candidate {
  readonly overrides: readonly string[];
  readonly requestsPerSecond: number;
}

/** The candidate with the highest capacity for one seed. Later ones are searched from the best so far, and left when they fail there. */
function bestCandidate(
  path: string,
  fleet: string,
  shared: readonly string[],
  budget: Budget,
  guess: number,
): Candidate {
  const [seed] = SEEDS;
  let best: Candidate = { overrides: [], requestsPerSecond: 0 };
  const options = candidates(readScenario(path, shared), fleet, budget, LIMITS[budget]);
  if (options.length === 1) return { overrides: options[0]!, requestsPerSecond: guess };
  for (const overrides of options) {
    const load = new FleetUnderLoad(path, fleet, [...shared, ...overrides]);
    const beaten = best.requestsPerSecond;
    if (beaten > 0 && !load.passes(beaten * 1.01, seed!)) continue;
    const requestsPerSecond = load.capacity(seed!, beaten > 0 ? beaten * 1.01 : guess);
    if (requestsPerSecond > beaten) best = { overrides, requestsPerSecond };
  }
  return best;
}

function search(): void {
  const result: Record<string, unknown> = {};
  for (const [scenario, budget] of [
    ["power", "watts"],
    ["cost", "dollars"],
  ] as const) {
    if (!isWanted(scenario)) continue;
    const path = SCENARIOS[scenario];
    for (const fleet of Object.keys(readScenario(path).values.fleets)) {
      const { overrides, requestsPerSecond } = bestCandidate(path, fleet, FEW_REQUESTS, budget, FIRST_GUESS);
      result[`${scenario} ${fleet}`] = overrides;
      rows.push({ part: scenario, fleet, requestsPerSecond, best: overrides.join(" ") });
      say(`${scenario} ${fleet}: ${round(requestsPerSecond)} with ${overrides.join(" ")}`);
    }
  }
  report({ title: "Best workers and chunks, one seed", rows, result });
}

/** A table has no nulls. */
function blank(figures: Readonly<Record<string, number | null>>): Record<string, string | number> {
  return Object.fromEntries(Object.entries(figures).map(([key, value]) => [key, value ?? "-"]));
}
