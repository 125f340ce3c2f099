import type { ScenarioFleet, ScenarioValues } from "../protocol/scenario-file.ts";
import type { Assumption } from "../protocol/simulation-schema.ts";
import { formatNumber } from "./report/format.ts";
import type { Assumption as NetworkFigure } from "./world/assumption.ts";

/** What a scenario assumes on its own account, whichever fleet runs. */
export function scenarioAssumptions(values: ScenarioValues): Assumption[] {
  const stated = values.assumptions.map((entry): Assumption => {
    if (typeof entry === "string") return { subject: "scenario", statement: entry };
    const reason = entry.reason === undefined ? "" : `: ${entry.reason}`;
    return { subject: entry.part, statement: `${entry.figure} is taken as ${entry.value}${reason}` };
  });
  const { power, price } = values;
  const derived: string[] = [];
  for (const [device, watts] of Object.entries(power.devices)) {
    const parts = Object.entries(watts).map(([state, value]) => `${state} ${value} W`);
    derived.push(`power of ${device}: ${parts.join(", ")} (scenario)`);
  }
  if (power.hostWattsPerDevice > 0) {
    derived.push(`hosts, network and rack draw ${power.hostWattsPerDevice} W per accelerator all the time`);
  }
  if (power.pue !== 1) derived.push(`PUE is ${power.pue}`);
  for (const [device, dollars] of Object.entries(price.devices)) {
    derived.push(`${device} costs $${dollars} per accelerator-hour (scenario)`);
  }
  if (price.dollarsPerKwh !== undefined) derived.push(`energy costs $${price.dollarsPerKwh} per kWh`);
  return [...stated, ...derived.map((statement) => ({ subject: "scenario", statement }))];
}

/** What the scenario assumes about one fleet. */
export function fleetAssumptions(name: string, fleet: ScenarioFleet, values: ScenarioValues): Assumption[] {
  const statements: string[] = [];
  for (const pool of fleet.workers) {
    for (const [figure, value] of Object.entries(pool.overrides)) {
      statements.push(`${pool.name}: ${figure} of ${pool.device} is taken as ${value}`);
    }
    if (pool.kvTokens !== undefined) {
      statements.push(
        `${pool.name}: KV capacity is set to ${pool.kvTokens} tokens, not computed from memory`,
      );
    }
    for (const [figure, value] of Object.entries(pool.host)) {
      statements.push(`${pool.name}: host time ${figure} is taken as ${value}`);
    }
  }
  const placement = fleet.placement ?? values.placement;
  if (placement.knowsOutputLength) statements.push("policies know how long each output will be");
  if (placement.firstTokenGoalMs !== undefined)
    statements.push(`requests ask for their first token within ${placement.firstTokenGoalMs} ms`);
  const paper = fleet.paper ?? values.paper;
  if (paper !== undefined) {
    statements.push(`paper mode: step times are those of the coarse model ${paper.model}, not of ours`);
  }
  return statements.map((statement) => ({ subject: name, statement }));
}

/** Fleets that share a part state its assumptions once. */
export function distinct(entries: readonly Assumption[]): Assumption[] {
  return [...new Map(entries.map((entry) => [`${entry.subject}\n${entry.statement}`, entry])).values()];
}

/** Counts, and what is whole by its unit, without decimals. */
function exactOr(value: number): string {
  return Number.isInteger(value) && Math.abs(value) < 1000 ? String(value) : formatNumber(value);
}

/** A figure of a network as a sentence. */
export function describeNetworkFigure({ name, value, unit, source }: NetworkFigure): string {
  const isBytes = unit.startsWith("bytes");
  const shown = isBytes
    ? `${exactOr(value / 1e9)} GB${unit.slice("bytes".length)}`
    : `${exactOr(value)} ${unit}`;
  return `${name} is ${shown.trimEnd()} (${source})`;
}

/** What networks rest on, by fleet. What holds for all fleets stands once; the rest says for which. */
export function networkStatements(
  fleets: readonly string[],
  statements: ReadonlyMap<string, readonly string[]>,
): Assumption[] {
  const owners = new Map<string, string[]>();
  for (const fleet of fleets) {
    for (const statement of statements.get(fleet) ?? []) {
      const names = owners.get(statement);
      if (names === undefined) owners.set(statement, [fleet]);
      else names.push(fleet);
    }
  }
  return [...owners].map(([statement, names]) => ({
    subject: names.length === fleets.length ? "network" : `network of ${names.join(", ")}`,
    statement,
  }));
}
