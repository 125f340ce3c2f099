import type { z } from "zod";
import { ConfigError, type ConfigPath, type ConfigProblem, type Origin, show } from "./config-error.ts";
import { nearMiss } from "./near-miss.ts";
import { applyOverride } from "./scenario-overrides.ts";
import { scenarioSchema } from "./scenario-schema.ts";
import { readYaml, toProblems } from "./yaml-document.ts";

/** Longest scenario, in UTF-16 units. */
export const MAX_SCENARIO_LENGTH = 4 * 1024 * 1024;

export type ScenarioValues = z.output<typeof scenarioSchema>;
export type ScenarioFleet = ScenarioValues["fleets"][string];
export type ScenarioPool = ScenarioFleet["workers"][number];
export type ScenarioFault = ScenarioValues["faults"][number];
export type ScenarioSlo = ScenarioValues["slo"][string];

/** A scenario that has been read and checked in itself: defaults filled in, parts of the catalogue not looked up. */
export interface ScenarioFile {
  readonly values: ScenarioValues;
  readonly seeds: readonly number[];
  /** `name:line:column` of the value at a path, or `--set …` when that gave it. */
  locate(path: ConfigPath): Origin;
}

/**
 * Reads a scenario. `overrides` are `path=value` with paths such as `fleets.split.workers[0].count` and values in YAML.
 * Throws {@link ConfigError} with line and column.
 */
export function parseScenarioFile(
  text: string,
  fileName: string,
  overrides: readonly string[] = [],
): ScenarioFile {
  const file = readYaml(text, fileName, { what: "a scenario", maxLength: MAX_SCENARIO_LENGTH });
  const data: unknown = structuredClone(file.data);
  const places = overrides.map((override) => ({ override, path: applyOverride(data, override) }));
  const locate = (path: ConfigPath): Origin => {
    const found = places.findLast((place) =>
      place.path.every((step, index) => String(path[index]) === String(step)),
    );
    return found === undefined ? file.locate(path) : `--set ${found.override}`;
  };
  const result = scenarioSchema.safeParse(data);
  if (!result.success) throw new ConfigError(toProblems(result.error, scenarioSchema, data, locate));
  const problems = findConflicts(result.data).map(({ path, message }) => ({ origin: locate(path), message }));
  if (problems.length > 0) throw new ConfigError(problems);
  return { values: result.data, seeds: seedsOf(result.data), locate };
}

function seedsOf({ seeds }: ScenarioValues): readonly number[] {
  return typeof seeds === "number" ? Array.from({ length: seeds }, (_, index) => index + 1) : seeds;
}

interface Conflict {
  readonly path: ConfigPath;
  readonly message: string;
}

/** What each value alone does not show. */
function findConflicts(values: ScenarioValues): Conflict[] {
  const conflicts: Conflict[] = [];
  for (const [name, fleet] of Object.entries(values.fleets)) conflicts.push(...fleetConflicts(name, fleet));
  if (typeof values.seeds === "object" && new Set(values.seeds).size < values.seeds.length) {
    conflicts.push({ path: ["seeds"], message: "seeds: names a seed twice; each one is run once" });
  }
  for (const [name, slo] of Object.entries(values.slo)) {
    const isSlowdown =
      slo.kind === "splitwise" ||
      (slo.kind === "quantiles" && slo.rules.some((rule) => rule.metric.endsWith("Slowdown")));
    if (isSlowdown && values.reference === undefined) {
      const message = `slo.${name}: slowdowns need the section reference, which names the worker they are measured against`;
      conflicts.push({ path: ["slo", name], message });
    }
  }
  conflicts.push(...faultConflicts(values));
  return conflicts;
}

function fleetConflicts(name: string, { workers }: ScenarioFleet): Conflict[] {
  const conflicts: Conflict[] = [];
  const path = ["fleets", name, "workers"];
  const names = new Set<string>();
  for (const [index, pool] of workers.entries()) {
    if (names.has(pool.name)) {
      const message = `fleets.${name}.workers[${index}].name: ${show(pool.name)} is taken; pools of a fleet have different names`;
      conflicts.push({ path: [...path, index, "name"], message });
    }
    names.add(pool.name);
    const { blockTokens } = workers[0]!;
    if (pool.blockTokens !== blockTokens) {
      const message = `fleets.${name}.workers[${index}].blockTokens: ${pool.blockTokens} differs from the ${blockTokens} of ${show(workers[0]!.name)}; pools of a fleet hand KV over and need one block size`;
      conflicts.push({ path: [...path, index, "blockTokens"], message });
    }
    if (pool.policy === "chunked" && pool.tokenBudget < pool.maxRunning && pool.role !== "prefill") {
      const message = `fleets.${name}.workers[${index}].tokenBudget: ${pool.tokenBudget} is less than maxRunning ${pool.maxRunning}; prompts would have no room beside decoding sequences`;
      conflicts.push({ path: [...path, index, "tokenBudget"], message });
    }
  }
  const roles = new Set(workers.map((pool) => pool.role));
  if (!roles.has("decode") && !roles.has("both")) {
    const message = `fleets.${name}.workers: nothing decodes; a fleet needs a pool with role decode or both`;
    conflicts.push({ path, message });
  }
  return conflicts;
}

/** A worker of a fault has to be in some fleet; it concerns the fleets that have it. */
function faultConflicts(values: ScenarioValues): Conflict[] {
  const fleets = Object.values(values.fleets);
  return values.faults.flatMap((fault, index): Conflict[] => {
    if (fleets.some((fleet) => hasWorker(fleet, fault.worker))) return [];
    const pools = [...new Set(fleets.flatMap((fleet) => fleet.workers.map((pool) => pool.name)))];
    const meant = nearMiss(fault.worker.replace(/-\d+$/, ""), pools);
    const hint = meant === null ? "" : ` (did you mean ${meant}-0?)`;
    const message = `faults[${index}].worker: no fleet has a worker ${show(fault.worker)}${hint}; workers are POOL-0, POOL-1, … of ${pools.join(", ")}`;
    return [{ path: ["faults", index, "worker"], message }];
  });
}

/** Whether a fleet has a worker of that name. */
export function hasWorker(fleet: ScenarioFleet, worker: string): boolean {
  const match = /^(.+)-(\d+)$/.exec(worker);
  if (match === null) return false;
  return fleet.workers.some((pool) => pool.name === match[1] && Number(match[2]) < pool.count);
}

/** Problems of a scenario found later, by parts that know more, with their places. */
export function scenarioError(
  file: Pick<ScenarioFile, "locate">,
  path: ConfigPath,
  message: string,
): ConfigError {
  const problem: ConfigProblem = { origin: file.locate(path), message };
  return new ConfigError([problem]);
}
