import type { FleetResult, SimulationResult } from "../../protocol/simulation-schema.ts";
import { formatEstimate, formatLabel, formatNumber } from "./format.ts";
import { type Metric, metricsOf } from "./metrics.ts";

/** Most assumptions, and warnings, that a terminal shows; the JSON and the page have all of them. */
const MAX_SHOWN_LINES = 12;

/** Widest name of a fleet in a column. */
const MAX_NAME_WIDTH = 24;

/** Metrics of the table on a terminal, before those of service levels and resources. The JSON and the page have all of them. */
const SHOWN = new Set([
  "completedShare",
  "requestsPerSecond",
  "outputTokensPerSecond",
  "outputTokensPerSecondPerDevice",
  "ttftMs.p50",
  "ttftMs.p99",
  "itlMs.p50",
  "itlMs.p99",
  "tpotMs.p50",
  "tpotMs.p99",
  "e2eMs.p50",
  "e2eMs.p99",
  "ttftSlowdown.p50",
  "ttftSlowdown.p99",
]);

const HIDDEN_GROUPS = ["ttftMs.", "itlMs.", "tpotMs.", "e2eMs.", "queuedMs.", "maxGapMs.", "worstGapsMs."];

/** Whether a metric is among those that a table of the most important ones has. */
export function isKeyMetric({ name }: Metric): boolean {
  return (
    SHOWN.has(name) || !(name.includes("Slowdown.") || HIDDEN_GROUPS.some((group) => name.startsWith(group)))
  );
}

/** The result as text for a terminal, without colours: what it rests on first, then fleets side by side. */
export function renderSimulation(result: SimulationResult): string {
  const { scenario } = result;
  const seeds = scenario.seeds.length === 1 ? `seed ${scenario.seeds[0]}` : `${scenario.seeds.length} seeds`;
  const lines = [
    `${scenario.name}  (${scenario.file}, model ${scenario.model}, ${seeds})${result.isInterrupted ? "  INTERRUPTED" : ""}`,
    ...(scenario.paper === null ? [] : [`paper mode: ${scenario.paper}`]),
    "",
    ...section(
      "warnings",
      result.warnings,
      "none: every run finished and kept up, inside the measured range",
    ),
    ...section(
      "assumptions",
      result.assumptions.map(({ subject, statement }) => `${subject}: ${statement}`),
      "none stated",
    ),
    ...section("step times", result.fleets.map(describeSources), "no steps"),
    ...fleetLines(result.fleets),
    "",
    ...table(result),
    "",
    ...comparisonLines(result),
  ];
  return `${lines.join("\n").trimEnd()}\n`;
}

function section(title: string, entries: readonly string[], ifNone: string): string[] {
  const shown = entries.length === 0 ? [ifNone] : entries.slice(0, MAX_SHOWN_LINES);
  const lines = shown.map((entry, index) => `${(index === 0 ? title : "").padEnd(12)}${entry}`);
  const left = entries.length - MAX_SHOWN_LINES;
  if (left > 0) lines.push(`${"".padEnd(12)}and ${left} more (--json and --html have all)`);
  return lines;
}

/** Where the step times of a fleet come from, as means over its runs. */
export function describeSources(fleet: FleetResult): string {
  const totals = new Map<string, number>();
  let extrapolated = 0;
  for (const { provenance } of fleet.runs) {
    extrapolated += provenance.extrapolatedShare / fleet.runs.length;
    for (const [source, share] of Object.entries(provenance.sources)) {
      totals.set(source, (totals.get(source) ?? 0) + share / fleet.runs.length);
    }
  }
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
  const parts = [...totals]
    .sort(([, a], [, b]) => b - a)
    .map(([source, share]) => `${percent(share)} ${source}`);
  return `${fleet.name}: ${parts.join(", ") || "no steps"}; ${percent(extrapolated)} out of range`;
}

function fleetLines(fleets: readonly FleetResult[]): string[] {
  return fleets.flatMap((fleet, index) => {
    const pools = fleet.pools.map(
      (pool) => `${pool.count} × ${pool.name} (${pool.role}, ${pool.devicesPerWorker} × ${pool.device})`,
    );
    return [`${(index === 0 ? "fleets" : "").padEnd(12)}${fleet.name}: ${pools.join(" + ")}`];
  });
}

function table(result: SimulationResult): string[] {
  const metrics = metricsOf(result.fleets.flatMap((fleet) => fleet.runs)).filter(isKeyMetric);
  const names = result.fleets.map((fleet) => shorten(fleet.name));
  const rows = metrics.map((metric) => [
    formatLabel(metric.label, metric.unit),
    ...result.fleets.map((fleet) => {
      const estimate = fleet.estimates[metric.name];
      return estimate === undefined ? "-" : formatEstimate(estimate, metric.unit);
    }),
  ]);
  const ends = result.fleets.map((fleet) => {
    const unfinished = fleet.runs.filter((run) => run.end !== "finished").length;
    if (fleet.runs.length === 0) return "not run";
    return unfinished === 0 ? "yes" : `NO (${unfinished} of ${fleet.runs.length})`;
  });
  return alignColumns([["", ...names], ["finished", ...ends], ...rows]);
}

function shorten(name: string): string {
  return name.length > MAX_NAME_WIDTH ? `${name.slice(0, MAX_NAME_WIDTH - 1)}…` : name;
}

/** First column to the left, the others to the right. */
function alignColumns(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)))
      .join("  "),
  );
}

/** Differences that seeds do not explain, in the metrics of the table, relative to the first fleet of each pair. */
function comparisonLines(result: SimulationResult): string[] {
  const metrics = metricsOf(result.fleets.flatMap((fleet) => fleet.runs)).filter(isKeyMetric);
  const [baseline] = result.fleets;
  const lines = result.comparisons
    .filter(({ first }) => first === baseline?.name)
    .flatMap(({ first, second, differences }) => {
      const base = result.fleets.find((fleet) => fleet.name === first)?.estimates ?? {};
      const judged = metrics.flatMap((metric) => {
        const found = differences[metric.name];
        const before = base[metric.name]?.mean;
        if (found?.isSignificant !== true || before === undefined || found.mean === 0) return [];
        if (metric.better === null) return [];
        const isBetter = found.mean > 0 === (metric.better === "more");
        const change = before === 0 ? formatNumber(found.mean) : `${signed((found.mean / before) * 100)} %`;
        return [{ isBetter, text: `${metric.label} ${change}` }];
      });
      if (judged.length === 0) return [];
      const list = (isBetter: boolean): string =>
        judged.flatMap((entry) => (entry.isBetter === isBetter ? [entry.text] : [])).join(", ") || "nothing";
      return [
        `${second} against ${first}, paired by seed, where the 95 % interval leaves out zero:`,
        `  better: ${list(true)}`,
        `  worse:  ${list(false)}`,
      ];
    });
  if (lines.length > 0 || result.comparisons.length === 0) return lines;
  const isSingle = result.scenario.seeds.length === 1;
  return [
    isSingle
      ? "One seed tells nothing about the spread: give --seeds 5 for intervals and paired differences."
      : "No difference between the fleets is larger than what the seeds explain.",
  ];
}

function signed(value: number): string {
  return `${value > 0 ? "+" : "−"}${formatNumber(Math.abs(value))}`;
}
