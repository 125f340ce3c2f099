import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import type { PerfModel } from "../../src/core/perf/perf-model.ts";
import { parseScenarioFile } from "../../src/protocol/scenario-file.ts";
import type { RunResult } from "../../src/protocol/simulation-schema.ts";
import type { TwinParts } from "../../src/twin/parts.ts";
import { PRODUCTION_PARTS } from "../../src/twin/production-parts.ts";
import { Simulation } from "../../src/twin/simulate.ts";

/** Share of all requests that has to meet the bounds of its class. */
const ATTAINMENT = 0.9;
/** A capacity is known when the highest rate that passed and the lowest that failed are this close. */
const PRECISION = 1.04;
/** Steps of the search for a first bracket, in either direction: for the first seed, and for others, which start near it. */
const FIRST_STEP = 1.35;
const NEXT_STEP = 1.09;
/** Below this rate a fleet counts as unable to serve the load at all. */
const LOWEST_RATE = 0.02;

/** Perf models by what they are made from: rates and seeds change none of them, and their curves fill as they are used. */
const models = new Map<string, PerfModel>();

const PARTS: TwinParts = {
  ...PRODUCTION_PARTS,
  perf(query) {
    const key = JSON.stringify(query);
    const model = models.get(key) ?? PRODUCTION_PARTS.perf(query);
    models.set(key, model);
    return model;
  },
};

/** One fleet of a scenario under changing rates. The scenario's workload is one request per second in all at a time scale of 1. */
export class FleetUnderLoad {
  readonly #path: string;
  readonly #text: string;
  readonly #fleet: string;
  readonly #overrides: readonly string[];

  constructor(path: string, fleet: string, overrides: readonly string[]) {
    this.#path = path;
    this.#text = readFileSync(path, "utf8");
    this.#fleet = fleet;
    this.#overrides = overrides;
  }

  /** Runs the same requests for each seed whatever the rate: only the times of arrival are scaled. */
  run(requestsPerSecond: number, seed: number): RunResult {
    const overrides = [...this.#overrides, `workload.timeScale=${1 / requestsPerSecond}`];
    const file = parseScenarioFile(this.#text, this.#path, overrides);
    return new Simulation(file, PARTS, dirname(this.#path)).run(this.#fleet, seed).result;
  }

  /** Whether enough requests meet their bounds, and the fleet could go on like this. */
  passes(requestsPerSecond: number, seed: number): boolean {
    const run = this.run(requestsPerSecond, seed);
    return goodShare(run) >= ATTAINMENT && prefillLoad(run, requestsPerSecond) <= 1;
  }

  /** Highest rate at which enough requests meet their bounds, by bisection from `guess`; 0 when there is none. */
  capacity(seed: number, guess: number, step = FIRST_STEP): number {
    const passes = (rate: number): boolean => this.passes(rate, seed);
    let low = guess;
    let high = guess;
    if (passes(guess)) {
      do {
        low = high;
        high *= step;
      } while (passes(high));
    } else {
      do {
        high = low;
        low /= step;
        if (low < LOWEST_RATE) return 0;
      } while (!passes(low));
    }
    while (high / low > PRECISION) {
      const middle = Math.sqrt(high * low);
      if (passes(middle)) low = middle;
      else high = middle;
    }
    return low;
  }

  /** Capacities by seed, each searched from the one before. */
  capacities(seeds: readonly number[], guess: number): number[] {
    let from = guess;
    return seeds.map((seed, i) => {
      const found = this.capacity(seed, from, i === 0 ? FIRST_STEP : NEXT_STEP);
      if (found > 0) from = found;
      return found;
    });
  }
}

/**
 * Time in steps with prompt tokens over the time that the workers which read prompts had while requests arrived. Above 1 the queue
 * grows for as long as the load lasts; a run of some minutes may end before the bounds notice.
 */
function prefillLoad({ workers, requests }: RunResult, requestsPerSecond: number): number {
  const windowMs = (requests.arrived / requestsPerSecond) * 1e3;
  const readers = workers.filter(({ prefillTokens }) => prefillTokens > 0);
  const busyMs = readers.reduce((sum, { prefillMs, mixedMs }) => sum + prefillMs + mixedMs, 0);
  return busyMs / (windowMs * readers.length);
}

/** Share of the requests that met the bounds of their class. */
export function goodShare({ slos, requests }: RunResult): number {
  let good = 0;
  for (const slo of slos) if (slo.kind === "requests") good += slo.good;
  return good / requests.arrived;
}
