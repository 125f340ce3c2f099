import type { RandomStream } from "../../core/util/rng.ts";
import { CsvTable } from "./csv.ts";
import { LineReader } from "./line-reader.ts";
import { plainRequest } from "./plain-request.ts";
import { type Pace, paced } from "./untimed.ts";
import { WorkloadError, type WorkloadSource } from "./workload.ts";

/** Columns that tell the format; others are not read. */
export const LENGTH_COLUMNS: readonly string[] = ["num_prefill_tokens", "num_decode_tokens"];

/** Most rows of a table: it is held in memory, 8 bytes a row. */
const MAX_TABLE_ROWS = 16_000_000;

/**
 * A table of prompt and output lengths without times (`num_prefill_tokens`, `num_decode_tokens`), sent at a given pace: once in
 * the order of the file, or with a stream without end, each row drawn independently of the others. Throws {@link WorkloadError}.
 */
export function openLengths(path: string, pace: Pace, stream: RandomStream | null): WorkloadSource {
  const { inputs, outputs } = readTable(path);
  let numMade = 0;
  return paced(() => {
    if (stream === null && numMade === inputs.length) return null;
    const row = stream === null ? numMade : stream.nextBelow(inputs.length);
    return plainRequest(String(++numMade), inputs[row]!, outputs[row]!);
  }, pace);
}

function readTable(path: string): { readonly inputs: Int32Array; readonly outputs: Int32Array } {
  const lines = new LineReader(path);
  try {
    const table = new CsvTable(lines, LENGTH_COLUMNS);
    const inputs: number[] = [];
    const outputs: number[] = [];
    while (lines.advanceToText()) {
      if (inputs.length === MAX_TABLE_ROWS) throw lines.error(`is beyond ${MAX_TABLE_ROWS} rows`);
      table.read();
      const input = table.length("num_prefill_tokens");
      const output = table.length("num_decode_tokens");
      if (input === 0 || output === 0) throw lines.error("has a length of 0; allowed: from 1 up");
      inputs.push(input);
      outputs.push(output);
    }
    if (inputs.length === 0) throw new WorkloadError(path, 0, "holds no rows");
    return { inputs: Int32Array.from(inputs), outputs: Int32Array.from(outputs) };
  } finally {
    lines.close();
  }
}
