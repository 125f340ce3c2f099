import { readFileSync } from "node:fs";
import { WorkloadError } from "../workload/workload.ts";

/** Most bytes of a table of a paper: the largest known one has 200 kB. */
const MAX_FILE_BYTES = 64 * 2 ** 20;

/** One row of a table, by the names of its columns. */
export class CsvRow {
  readonly file: string;
  /** Counts from 1; the header is line 1. */
  readonly line: number;
  readonly #columns: ReadonlyMap<string, number>;
  readonly #fields: readonly string[];

  constructor(file: string, line: number, columns: ReadonlyMap<string, number>, fields: readonly string[]) {
    this.file = file;
    this.line = line;
    this.#columns = columns;
    this.#fields = fields;
  }

  text(column: string): string {
    return this.#fields[this.#columns.get(column)!]!;
  }

  /** A number of at least `min`. Throws `WorkloadError` for anything else. */
  number(column: string, min: number): number {
    const text = this.text(column);
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (value >= min && Number.isFinite(value)) return value;
    throw this.error(`${column}: ${JSON.stringify(text)} is not usable; allowed: numbers from ${min}`);
  }

  /** A whole number of at least `min`. */
  count(column: string, min: number): number {
    const value = this.number(column, min);
    if (Number.isSafeInteger(value)) return value;
    throw this.error(`${column}: ${value} is not a whole number`);
  }

  error(message: string): WorkloadError {
    return new WorkloadError(this.file, this.line, message);
  }
}

/**
 * Rows of a table whose first line names its columns, separated by commas, without quotes. Throws `WorkloadError` when a column of
 * `required` is missing or a row has too few fields.
 */
export function readCsvRows(file: string, required: readonly string[]): CsvRow[] {
  const text = readFileSync(file, "utf8");
  if (text.length > MAX_FILE_BYTES)
    throw new WorkloadError(file, 1, `is larger than ${MAX_FILE_BYTES} bytes`);
  const lines = text.split(/\r?\n/);
  const names = lines[0]!.split(",").map((name) => name.trim());
  const missing = required.filter((name) => !names.includes(name));
  if (missing.length > 0)
    throw new WorkloadError(file, 1, `has no column ${missing.join(", ")}; found: ${names.join(", ")}`);
  const columns = new Map(names.map((name, index) => [name, index]));
  const rows: CsvRow[] = [];
  for (let index = 1; index < lines.length; index++) {
    if (lines[index]!.trim() === "") continue;
    const fields = lines[index]!.split(",");
    if (fields.length !== names.length)
      throw new WorkloadError(
        file,
        index + 1,
        `has ${fields.length} fields; the header names ${names.length}`,
      );
    rows.push(new CsvRow(file, index + 1, columns, fields));
  }
  return rows;
}
