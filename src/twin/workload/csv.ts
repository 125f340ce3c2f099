import { MAX_LENGTH_TOKENS } from "../../core/util/length-distribution.ts";
import { show } from "../../protocol/config-error.ts";
import type { LineReader } from "./line-reader.ts";

/** Most columns of a table. */
const MAX_COLUMNS = 64;

/** A table whose first line names its columns, read line by line. */
export class CsvTable {
  readonly #lines: LineReader;
  readonly #columns: ReadonlyMap<string, number>;
  readonly #numColumns: number;
  #fields: readonly string[] = [];

  /** Reads the header. Throws `WorkloadError` when one of `required` is missing. */
  constructor(lines: LineReader, required: readonly string[]) {
    this.#lines = lines;
    const names = lines.advanceToText() ? splitRow(lines.text()) : [];
    if (names.length > MAX_COLUMNS) throw lines.error(`has ${names.length} columns; allowed: ${MAX_COLUMNS}`);
    this.#numColumns = names.length;
    this.#columns = new Map(names.map((name, index) => [name.toLowerCase(), index]));
    const missing = required.filter((name) => !this.has(name));
    if (missing.length > 0)
      throw lines.error(
        `has no column ${missing.map(show).join(", ")}; found: ${names.map(show).join(", ")}`,
      );
  }

  /** Whether the table has a column of that name; case does not count. */
  has(name: string): boolean {
    return this.#columns.has(name.toLowerCase());
  }

  /** Takes the current line apart; the other methods read it. */
  read(): void {
    this.#fields = splitRow(this.#lines.text());
    if (this.#fields.length !== this.#numColumns)
      throw this.#lines.error(`has ${this.#fields.length} fields; the header names ${this.#numColumns}`);
  }

  /** A field of the row; "" when there is no such column. */
  text(name: string): string {
    return this.#fields[this.#columns.get(name.toLowerCase()) ?? -1] ?? "";
  }

  /** A length in tokens. Tables written by way of floating point say `386.0`. */
  length(name: string): number {
    const text = this.text(name);
    const value = /^\d+(\.0+)?$/.test(text) ? Number(text) : Number.NaN;
    if (value <= MAX_LENGTH_TOKENS) return value;
    throw this.#lines.error(
      `${name}: ${show(text)} is not usable; allowed: whole numbers from 0 to ${MAX_LENGTH_TOKENS} (tokens)`,
    );
  }

  /** A number of at least 0. */
  number(name: string): number {
    const text = this.text(name);
    const value = text === "" ? Number.NaN : Number(text);
    if (value >= 0 && value < Number.MAX_SAFE_INTEGER) return value;
    throw this.#lines.error(`${name}: ${show(text)} is not usable; allowed: numbers from 0 up`);
  }
}

/** Fields of a row without the space and the quotes around them. */
export function splitRow(text: string): string[] {
  const fields = splitFields(text);
  for (let index = 0; index < fields.length; index++) fields[index] = fields[index]!.trim();
  return fields;
}

/** Fields of a line (RFC 4180): quotes around a field go, and doubled ones in it become one. */
export function splitFields(line: string): string[] {
  if (!line.includes('"')) return line.split(",");
  const fields: string[] = [];
  let field = "";
  let isQuoted = false;
  for (let at = 0; at < line.length; at++) {
    const character = line[at]!;
    if (isQuoted) {
      if (character !== '"') field += character;
      else if (line[at + 1] === '"') {
        field += '"';
        at++;
      } else isQuoted = false;
    } else if (character === '"') isQuoted = true;
    else if (character === ",") {
      fields.push(field);
      field = "";
    } else field += character;
  }
  fields.push(field);
  return fields;
}
