import type { ErrorStats } from "./error-stats.ts";
import type { ValidationReport } from "./report.ts";

/** Reasons for skipping that are listed, most frequent first. */
const MAX_REASONS = 12;

/** A validation as text for a terminal, without colours. */
export function renderValidation(report: ValidationReport): string {
  const lines = [
    `${report.name}  ${report.data}`,
    `rows        ${report.rows}`,
    ...(report.split === undefined ? [] : [`split       ${report.split}`]),
    "",
    header("metric"),
    ...Object.entries(report.metrics).map(([metric, stats]) => row(metric, stats)),
  ];
  for (const [rival, metrics] of Object.entries(report.rivals))
    lines.push("", header(rival), ...Object.entries(metrics).map(([metric, stats]) => row(metric, stats)));
  if (report.groups !== undefined)
    lines.push(
      "",
      header("group"),
      ...Object.entries(report.groups).map(([group, stats]) => row(group, stats)),
    );
  if (report.skipped.length > 0) lines.push("", "skipped", ...reasons(report));
  return `${lines.join("\n")}\n`;
}

function reasons({ skipped }: ValidationReport): string[] {
  const counts = new Map<string, number>();
  for (const { reason } of skipped) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  const sorted = [...counts].sort(([, a], [, b]) => b - a);
  const shown = sorted
    .slice(0, MAX_REASONS)
    .map(([reason, count]) => `${String(count).padStart(7)}  ${reason}`);
  return sorted.length > MAX_REASONS ? [...shown, `${sorted.length - MAX_REASONS} more reasons`] : shown;
}

const NAME_WIDTH = 64;

function header(name: string): string {
  return `${name.padEnd(NAME_WIDTH)} ${["n", "median |%|", "p90 |%|", "mean %"].map((title) => title.padStart(10)).join(" ")}`;
}

function row(name: string, { n, medianAbsPct, p90AbsPct, meanSignedPct }: ErrorStats): string {
  const cells = [String(n), ...[medianAbsPct, p90AbsPct, meanSignedPct].map((value) => value.toFixed(2))];
  return `${name.padEnd(NAME_WIDTH)} ${cells.map((cell) => cell.padStart(10)).join(" ")}`;
}
