import { ConfigError, show } from "../protocol/config-error.ts";
import { nearMiss } from "../protocol/near-miss.ts";
import type { ScenarioFile } from "../protocol/scenario-file.ts";
import { MAX_JOBS } from "../twin/run/run-pool.ts";

export interface SimulateOptions {
  readonly fileName: string;
  /** Null: all. */
  readonly fleets: readonly string[] | null;
  /** As `--set`, seeds included. */
  readonly overrides: readonly string[];
  /** Null: one per core. */
  readonly jobs: number | null;
  /** Folder of measured kernel tables, or null. */
  readonly tables: string | null;
  readonly html: string | null;
  readonly chromeTrace: string | null;
  readonly record: string | null;
  readonly json: boolean;
}

/** Checks what commander parsed. Throws {@link ConfigError}. */
export function loadSimulateOptions(
  fileName: string,
  flags: Readonly<Record<string, unknown>>,
): SimulateOptions {
  const list = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);
  const text = (value: unknown): string | null => (typeof value === "string" ? value : null);
  const seeds = text(flags.seeds);
  const jobs = text(flags.jobs);
  return {
    fileName,
    fleets: flags.fleet === undefined ? null : list(flags.fleet),
    overrides: [...list(flags.set), ...(seeds === null ? [] : [`seeds=${parseSeeds(seeds)}`])],
    jobs: jobs === null ? null : parseJobs(jobs),
    tables: text(flags.tables),
    html: text(flags.html),
    chromeTrace: text(flags.chromeTrace),
    record: text(flags.record),
    json: flags.json === true,
  };
}

/** The fleets that are to run, in the order of the scenario. Throws {@link ConfigError} for a name that it does not have. */
export function chooseFleets(file: ScenarioFile, names: readonly string[] | null): string[] {
  const known = Object.keys(file.values.fleets);
  if (names === null) return known;
  for (const name of names) {
    if (known.includes(name)) continue;
    const meant = nearMiss(name, known);
    const hint = meant === null ? "" : ` (did you mean ${meant}?)`;
    const message = `the scenario has no fleet ${show(name)}${hint}; it has ${known.join(", ")}`;
    throw new ConfigError([{ origin: "--fleet", message }]);
  }
  return known.filter((name) => names.includes(name));
}

/** `5`, or `1,2,5` as a list of YAML. */
function parseSeeds(text: string): string {
  if (/^\d+$/.test(text)) return text;
  if (/^\d+(,\d+)*,?$/.test(text)) return `[${text.replace(/,$/, "")}]`;
  const message = `${show(text)} is not a number of seeds or a list of them, such as 5 or 1,2,5`;
  throw new ConfigError([{ origin: "--seeds", message }]);
}

function parseJobs(text: string): number {
  const jobs = /^\d+$/.test(text) ? Number(text) : 0;
  if (jobs >= 1 && jobs <= MAX_JOBS) return jobs;
  const message = `${show(text)} is out of range; allowed: 1 to ${MAX_JOBS}`;
  throw new ConfigError([{ origin: "--jobs", message }]);
}
