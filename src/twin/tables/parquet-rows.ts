import { readFile, stat } from "node:fs/promises";
import { parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";

/** One row of a table, values as the file has them. */
export type TableRow = Readonly<Record<string, unknown>>;

/** A table that cannot be read. The message names the file. */
export class TableError extends Error {
  override name = "TableError";
}

/** Largest table that is read: the largest published one is a hundredth of it. */
const MAX_TABLE_BYTES = 512 * 1024 * 1024;

/** Reads a Parquet file. Throws {@link TableError} when it is too large or no Parquet. */
export async function readParquet(path: string): Promise<TableRow[]> {
  const { size } = await stat(path);
  if (size > MAX_TABLE_BYTES)
    throw new TableError(`${path}: ${size} bytes; tables of at most ${MAX_TABLE_BYTES} bytes are read`);
  const bytes = await readFile(path);
  const file = new ArrayBuffer(bytes.byteLength);
  new Uint8Array(file).set(bytes);
  try {
    return await parquetReadObjects({ file, compressors });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new TableError(`${path}: no Parquet file that can be read (${reason})`, { cause: error });
  }
}
