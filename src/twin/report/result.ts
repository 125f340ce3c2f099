import {
  type Assumption,
  type FleetResult,
  type PoolDescription,
  type RunResult,
  SIMULATION_SCHEMA_VERSION,
  type SimulationResult,
} from "../../protocol/simulation-schema.ts";
import { type Metric, metricsOf } from "./metrics.ts";
import { estimate } from "./statistics.ts";

/** A fleet and the runs of it that there are, one per seed. */
export interface FleetRuns {
  readonly name: string;
  readonly description: string;
  readonly pools: readonly PoolDescription[];
  readonly runs: readonly RunResult[];
}

export interface ResultContext {
  readonly twofoldVersion: string;
  readonly scenario: SimulationResult["scenario"];
  readonly assumptions: readonly Assumption[];
  readonly isInterrupted: boolean;
}

/** Puts runs together: figures over seeds, and differences between every two fleets on the seeds that both ran. */
export function makeSimulationResult(fleets: readonly FleetRuns[], context: ResultContext): SimulationResult {
  const metrics = metricsOf(fleets.flatMap((fleet) => fleet.runs));
  return {
    schemaVersion: SIMULATION_SCHEMA_VERSION,
    twofoldVersion: context.twofoldVersion,
    assumptions: [...context.assumptions],
    warnings: collectWarnings(fleets),
    scenario: context.scenario,
    isInterrupted: context.isInterrupted,
    fleets: fleets.map((fleet) => describeFleet(fleet, metrics)),
    comparisons: fleets.flatMap((first, index) =>
      fleets.slice(index + 1).map((second) => compare(first, second, metrics)),
    ),
  };
}

function describeFleet(fleet: FleetRuns, metrics: readonly Metric[]): FleetResult {
  const estimates = metrics.flatMap((metric) => {
    const values = fleet.runs.map(metric.of).filter((value) => value !== null);
    const found = estimate(values);
    return found === null ? [] : [[metric.name, found] as const];
  });
  return {
    name: fleet.name,
    description: fleet.description,
    numDevices: fleet.pools.reduce((sum, pool) => sum + pool.count * pool.devicesPerWorker, 0),
    pools: [...fleet.pools],
    runs: [...fleet.runs],
    estimates: Object.fromEntries(estimates),
  };
}

function compare(
  first: FleetRuns,
  second: FleetRuns,
  metrics: readonly Metric[],
): SimulationResult["comparisons"][number] {
  const bySeed = new Map(first.runs.map((run) => [run.seed, run]));
  const differences = metrics.flatMap((metric) => {
    const values = second.runs.flatMap((run) => {
      const partner = bySeed.get(run.seed);
      const before = partner === undefined ? null : metric.of(partner);
      const after = metric.of(run);
      return before === null || after === null ? [] : [after - before];
    });
    const found = estimate(values);
    if (found === null) return [];
    const isSignificant =
      found.low95 !== null && found.high95 !== null && (found.low95 > 0 || found.high95 < 0);
    return [[metric.name, { ...found, isSignificant }] as const];
  });
  return { first: first.name, second: second.name, differences: Object.fromEntries(differences) };
}

/** Runs that did not finish come first, then those over capacity, then the rest in order. What several seeds share stands once. */
function collectWarnings(fleets: readonly FleetRuns[]): string[] {
  const lines = fleets.flatMap(({ name, runs }) => {
    const alike = new Map<string, { text: string; seeds: number[] }>();
    for (const { seed, warnings } of runs) {
      for (const text of warnings) {
        const key = text.replace(/\d+(\.\d+)?/g, "#");
        const found = alike.get(key);
        if (found === undefined) alike.set(key, { text, seeds: [seed] });
        else found.seeds.push(seed);
      }
    }
    return [...alike.values()].map(({ text, seeds }) => {
      const others = seeds.length - 1;
      const also = others === 0 ? "" : ` (likewise ${others} other ${others === 1 ? "seed" : "seeds"})`;
      return { text, line: `${name}, seed ${seeds[0]}: ${text}${also}` };
    });
  });
  const rank = (text: string): number =>
    text.startsWith("DID NOT FINISH") ? 0 : text.startsWith("DEMAND OVER") ? 1 : 2;
  return lines.sort((a, b) => rank(a.text) - rank(b.text)).map(({ line }) => line);
}
