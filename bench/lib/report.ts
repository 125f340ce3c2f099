import { cpus, loadavg } from "node:os";

/** Facts about the machine that a figure is worthless without. */
export function machine(): Record<string, unknown> {
  const [first] = cpus();
  return {
    cpu: first?.model ?? "unknown",
    cores: cpus().length,
    node: process.version,
    loadAverage1m: Number(loadavg()[0]!.toFixed(2)),
  };
}

/** Prints a table for people and, as the last line, one JSON object for machines (`--json`: the object alone). */
export function report(options: {
  title: string;
  rows: ReadonlyArray<Readonly<Record<string, string | number>>>;
  result: Readonly<Record<string, unknown>>;
}): void {
  if (!process.argv.includes("--json")) {
    console.log(options.title);
    for (const line of table(options.rows)) console.log(line);
  }
  console.log(JSON.stringify({ ...options.result, machine: machine() }));
}

function table(rows: ReadonlyArray<Readonly<Record<string, string | number>>>): string[] {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cell = (value: string | number | undefined): string =>
    typeof value === "number" ? String(round(value)) : (value ?? "");
  const widths = columns.map((column) =>
    Math.max(column.length, ...rows.map((row) => cell(row[column]).length)),
  );
  const line = (cells: readonly string[]): string =>
    `  ${cells.map((text, i) => text.padEnd(widths[i]!)).join("  ")}`;
  return [line(columns), ...rows.map((row) => line(columns.map((column) => cell(row[column]))))];
}

/** Three significant digits. */
export function round(value: number): number {
  return Number.isFinite(value) ? Number(value.toPrecision(3)) : value;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
