import { readFile, stat } from "node:fs/promises";

/** A CSV that cannot be used. The message names file and line. */
export class CsvError extends Error {
  override name = "CsvError";
}

/** One line of a CSV by column name. */
export interface CsvRow {
  /** Counted from 1, the header included. */
  readonly line: number;
  readonly values: Readonly<Record<string, string>>;
}

/** Largest CSV that is read. */
const MAX_CSV_BYTES = 256 * 1024 * 1024;

/**
 * Reads a CSV with a header (RFC 4180: fields may be quoted and quotes doubled; no line breaks inside fields). Throws
 * {@link CsvError} for a missing column, or a line with another number of fields.
 */
export async function readCsv(path: string, requiredColumns: readonly string[]): Promise<CsvRow[]> {
  const { size } = await stat(path);
  if (size > MAX_CSV_BYTES)
    throw new CsvError(`${path}: ${size} bytes; CSV files of at most ${MAX_CSV_BYTES} bytes are read`);
  const lines = (await readFile(path, "utf8")).replace(/^\uFEFF/, "").split(/\r?\n/);
  const header = splitLine(lines[0] ?? "");
  const missing = requiredColumns.filter((column) => !header.includes(column));
  if (missing.length > 0) throw new CsvError(`${path}:1: no column ${missing.join(", ")} in the header`);
  const rows: CsvRow[] = [];
  for (let index = 1; index < lines.length; index++) {
    const text = lines[index]!;
    if (text.trim() === "") continue;
    const fields = splitLine(text);
    if (fields.length !== header.length)
      throw new CsvError(
        `${path}:${index + 1}: ${fields.length} fields, but the header has ${header.length}`,
      );
    rows.push({
      line: index + 1,
      values: Object.fromEntries(header.map((column, at) => [column, fields[at]!])),
    });
  }
  return rows;
}

/** A number of a row within bounds. Throws {@link CsvError}, which names file, line and what is allowed. */
export function numberOf(
  path: string,
  { line, values }: CsvRow,
  column: string,
  allowed: { readonly min: number; readonly max: number; readonly isWhole?: boolean },
): number {
  const text = values[column] ?? "";
  const value = text.trim() === "" ? Number.NaN : Number(text);
  const isWhole = allowed.isWhole === true;
  if (value >= allowed.min && value <= allowed.max && (!isWhole || Number.isInteger(value))) return value;
  const kind = isWhole ? "whole numbers" : "numbers";
  throw new CsvError(
    `${path}:${line}: ${column} is ${JSON.stringify(text)}; allowed: ${kind} from ${allowed.min} to ${allowed.max}`,
  );
}

function splitLine(line: string): string[] {
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
