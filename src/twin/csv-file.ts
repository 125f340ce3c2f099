import { readFileSync, statSync } from "node:fs";
import { splitFields } from "./workload/csv.ts";

/** A CSV that cannot be used. The message names file and line. */
export class CsvError extends Error {
  override name = "CsvError";
}

/** Largest CSV that is read. */
const MAX_CSV_BYTES = 256 * 1024 * 1024;

/** What a number may be; any number without a bound. */
interface Allowed {
  readonly min: number;
  readonly max?: number;
  readonly isWhole?: boolean;
}

/** One line of a CSV by column name. */
export class CsvRow {
  readonly #file: string;
  /** Counted from 1, the header included. */
  readonly line: number;
  readonly values: Readonly<Record<string, string>>;

  constructor(file: string, line: number, values: Readonly<Record<string, string>>) {
    this.#file = file;
    this.line = line;
    this.values = values;
  }

  /** The field of a column that is there. */
  text(column: string): string {
    return this.values[column]!;
  }

  /** A finite number within bounds. Throws {@link CsvError}, which says what is allowed. */
  number(column: string, { min, max = Number.MAX_VALUE, isWhole = false }: Allowed): number {
    const text = this.values[column] ?? "";
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (value >= min && value <= max && (!isWhole || Number.isSafeInteger(value))) return value;
    const kind = isWhole ? "whole numbers" : "numbers";
    const bounds = max === Number.MAX_VALUE ? `from ${min} up` : `from ${min} to ${max}`;
    throw this.error(`${column} is ${JSON.stringify(text)}; allowed: ${kind} ${bounds}`);
  }

  /** A whole number of at least `min`. */
  count(column: string, min: number): number {
    return this.number(column, { min, isWhole: true });
  }

  error(message: string): CsvError {
    return new CsvError(`${this.#file}:${this.line}: ${message}`);
  }
}

/**
 * Reads a whole CSV with a header (RFC 4180: fields may be quoted and quotes doubled; no line breaks inside fields). Throws
 * {@link CsvError} for a missing column, or a line with another number of fields. Traces, which may be longer than memory, are read
 * by `CsvTable` instead.
 */
export function readCsv(path: string, requiredColumns: readonly string[]): CsvRow[] {
  const { size } = statSync(path);
  if (size > MAX_CSV_BYTES)
    throw new CsvError(`${path}: ${size} bytes; CSV files of at most ${MAX_CSV_BYTES} bytes are read`);
  const lines = readFileSync(path, "utf8")
    .replace(/^\uFEFF/, "")
    .split(/\r?\n/);
  const header = splitFields(lines[0] ?? "").map((name) => name.trim());
  const missing = requiredColumns.filter((column) => !header.includes(column));
  if (missing.length > 0)
    throw new CsvError(`${path}:1: has no column ${missing.join(", ")}; found: ${header.join(", ")}`);
  const rows: CsvRow[] = [];
  for (let index = 1; index < lines.length; index++) {
    const text = lines[index]!;
    if (text.trim() === "") continue;
    const fields = splitFields(text);
    if (fields.length !== header.length)
      throw new CsvError(
        `${path}:${index + 1}: has ${fields.length} fields; the header names ${header.length}`,
      );
    rows.push(
      new CsvRow(path, index + 1, Object.fromEntries(header.map((column, at) => [column, fields[at]!]))),
    );
  }
  return rows;
}
