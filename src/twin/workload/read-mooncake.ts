import { MAX_LENGTH_TOKENS } from "../../core/util/length-distribution.ts";
import { blocksField, jsonObject, lengthField, nonZero, timeField } from "./fields.ts";
import type { LineReader } from "./line-reader.ts";
import { MooncakeRow } from "./mooncake-row.ts";
import { plainRequest, timed } from "./plain-request.ts";
import { openRows, type TraceOptions } from "./trace-source.ts";
import type { PromptBlocks, WorkloadRequest, WorkloadSource } from "./workload.ts";

/** Tokens of one of Mooncake's blocks. */
const MOONCAKE_BLOCK_TOKENS = 512;

/**
 * A trace of Mooncake's (FAST '25): one object per line with `timestamp` (ms), `input_length`, `output_length` and `hash_ids`, ids
 * of 512-token blocks that compare over the whole file. Throws `WorkloadError`.
 */
export function openMooncake(path: string, { zeroLengths = "error" }: TraceOptions = {}): WorkloadSource {
  return openRows(path, (lines) => {
    const fast = new MooncakeRow();
    return () => {
      if (fast.read(lines) && fits(fast)) {
        const blocks = { blockTokens: MOONCAKE_BLOCK_TOKENS, scope: "", ids: fast.hashIds };
        return toRequest(lines, fast.timestamp, fast.inputTokens, fast.outputTokens, blocks);
      }
      return readCarefully(lines, zeroLengths);
    };
  });
}

function fits({ inputTokens, outputTokens, hashIds }: MooncakeRow): boolean {
  return (
    inputTokens <= MAX_LENGTH_TOKENS &&
    outputTokens <= MAX_LENGTH_TOKENS &&
    hashIds.length === Math.ceil(inputTokens / MOONCAKE_BLOCK_TOKENS)
  );
}

function readCarefully(
  lines: LineReader,
  zeroLengths: NonNullable<TraceOptions["zeroLengths"]>,
): WorkloadRequest | null {
  const row = jsonObject(lines);
  const arrivalMs = timeField(lines, "timestamp", row.timestamp);
  const namedTokens = lengthField(lines, "input_length", row.input_length);
  const inputTokens = nonZero(lines, "input_length", namedTokens, zeroLengths);
  const outputs = lengthField(lines, "output_length", row.output_length);
  const outputTokens = nonZero(lines, "output_length", outputs, zeroLengths);
  const blocks = blocksField(lines, "hash_ids", row.hash_ids, namedTokens, MOONCAKE_BLOCK_TOKENS, "");
  if (inputTokens === null || outputTokens === null) return null;
  return toRequest(lines, arrivalMs, inputTokens, outputTokens, blocks);
}

function toRequest(
  lines: LineReader,
  arrivalMs: number,
  inputTokens: number,
  outputTokens: number,
  blocks: PromptBlocks | null,
): WorkloadRequest {
  return timed({ ...plainRequest(String(lines.line), inputTokens, outputTokens), blocks }, arrivalMs);
}
