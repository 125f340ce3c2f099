import { MAX_LENGTH_TOKENS } from "../../core/util/length-distribution.ts";
import { show } from "../../protocol/config-error.ts";
import type { LineReader } from "./line-reader.ts";
import type { PromptBlocks } from "./workload.ts";

/** Most block ids of one prompt: the longest prompt in blocks of 16 tokens. */
export const MAX_BLOCK_IDS = MAX_LENGTH_TOKENS / 16;

/** Longest id, tenant, kind or scope, in characters. */
export const MAX_NAME_LENGTH = 256;

/** What becomes of rows whose prompt or output has no tokens: failed requests in some traces. */
export type ZeroLengths =
  /** The row is a mistake. */
  | "error"
  /** The row is left out. */
  | "skip"
  /** A length of 0 counts as 1. */
  | "one";

/** The object on the current line of a JSONL file. Throws `WorkloadError`. */
export function jsonObject(lines: LineReader): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(lines.text());
  } catch (error) {
    throw lines.error(`is not JSON: ${error instanceof Error ? error.message : "cannot be read"}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw lines.error(`${show(value)} is not an object`);
  return value as Readonly<Record<string, unknown>>;
}

/** A length in tokens: a whole number from 0 to {@link MAX_LENGTH_TOKENS}. */
export function lengthField(lines: LineReader, name: string, value: unknown): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= MAX_LENGTH_TOKENS)
    return value;
  throw lines.error(
    `${name}: ${describe(value)}; allowed: whole numbers from 0 to ${MAX_LENGTH_TOKENS} (tokens)`,
  );
}

/** A time of at least 0, in the unit of the file. */
export function timeField(lines: LineReader, name: string, value: unknown): number {
  if (typeof value === "number" && value >= 0 && value < Number.MAX_SAFE_INTEGER) return value;
  throw lines.error(`${name}: ${describe(value)}; allowed: numbers from 0 up`);
}

/** Text of 1 to {@link MAX_NAME_LENGTH} characters. */
export function nameField(lines: LineReader, name: string, value: unknown): string {
  if (typeof value === "string" && value.length >= 1 && value.length <= MAX_NAME_LENGTH) return value;
  throw lines.error(`${name}: ${describe(value)}; allowed: text of 1 to ${MAX_NAME_LENGTH} characters`);
}

/**
 * Block ids of a prompt. Their number has to fit its length: one for each block, where a partial last block may be without.
 * An empty list means that the prompt shares nothing.
 */
export function blocksField(
  lines: LineReader,
  name: string,
  value: unknown,
  inputTokens: number,
  blockTokens: number,
  scope: string,
): PromptBlocks | null {
  if (!Array.isArray(value))
    throw lines.error(`${name}: ${describe(value)}; allowed: a list of whole numbers`);
  if (value.length === 0) return null;
  if (value.length > MAX_BLOCK_IDS)
    throw lines.error(`${name}: has ${value.length} ids; allowed: ${MAX_BLOCK_IDS}`);
  const numFull = Math.floor(inputTokens / blockTokens);
  const numAll = Math.ceil(inputTokens / blockTokens);
  if (value.length !== numFull && value.length !== numAll) {
    const fitting = numFull === numAll ? `${numAll}` : `${numFull} or ${numAll}`;
    throw lines.error(
      `${name}: has ${value.length} ids, but a prompt of ${inputTokens} tokens has ${fitting} blocks of ${blockTokens}`,
    );
  }
  const ids = value as unknown[];
  for (let index = 0; index < ids.length; index++) {
    const id = ids[index];
    if (typeof id !== "number" || !Number.isSafeInteger(id))
      throw lines.error(`${name}[${index}]: ${describe(id)}; allowed: whole numbers below 2^53`);
  }
  return { blockTokens, scope, ids: ids as number[] };
}

/** A length of 0 as the reader was told to take it; null: leave the row out. */
export function nonZero(
  lines: LineReader,
  name: string,
  tokens: number,
  zeroLengths: ZeroLengths,
): number | null {
  if (tokens > 0) return tokens;
  if (zeroLengths === "skip") return null;
  if (zeroLengths === "one") return 1;
  throw lines.error(`${name}: is 0; set zeroLengths to skip or one if the trace means it`);
}

function describe(value: unknown): string {
  return value === undefined ? "is missing" : `${show(value)} is not usable`;
}
