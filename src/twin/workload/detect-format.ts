import { closeSync, openSync, readdirSync, readSync, statSync } from "node:fs";
import { splitRow } from "./csv.ts";
import { reasonOf } from "./line-reader.ts";
import { AZURE_COLUMNS } from "./read-azure.ts";
import { BURSTGPT_COLUMNS } from "./read-burstgpt.ts";
import { LENGTH_COLUMNS } from "./read-lengths.ts";
import { WorkloadError } from "./workload.ts";

/** Formats of files and folders that can be read. */
export const WORKLOAD_FORMATS = [
  "mooncake",
  "azure",
  "burstgpt",
  "qwen",
  "jsonl",
  "weka",
  "lengths",
  "servegen",
] as const;

export type WorkloadFormat = (typeof WORKLOAD_FORMATS)[number];

/** Bytes of the beginning of a file that are looked at. */
const HEAD_BYTES = 64 * 1024;

/** Tells the format of a file or folder by its content, whatever its name. Throws {@link WorkloadError} when it knows none. */
export function detectFormat(path: string): WorkloadFormat {
  let format: WorkloadFormat | null;
  try {
    format = statSync(path).isDirectory() ? formatOfFolder(readdirSync(path)) : formatOfText(readHead(path));
  } catch (error) {
    throw new WorkloadError(path, 0, `cannot be read: ${reasonOf(error)}`);
  }
  if (format !== null) return format;
  const message = `is in no known format; name it if it is one of ${WORKLOAD_FORMATS.join(", ")}`;
  throw new WorkloadError(path, 0, message);
}

function readHead(path: string): string {
  const descriptor = openSync(path, "r");
  try {
    const head = Buffer.alloc(HEAD_BYTES);
    return head.toString("utf8", 0, readSync(descriptor, head, 0, HEAD_BYTES, 0));
  } finally {
    closeSync(descriptor);
  }
}

function formatOfFolder(names: readonly string[]): WorkloadFormat | null {
  if (names.some((name) => name.endsWith("-trace.csv"))) return "servegen";
  return names.some((name) => name.endsWith(".json")) ? "weka" : null;
}

function formatOfText(head: string): WorkloadFormat | null {
  const text = head.replace(/^\uFEFF/, "").trimStart();
  const line = /^[^\r\n]*/.exec(text)?.[0] ?? "";
  if (!text.startsWith("{")) return formatOfColumns(splitRow(line).map((name) => name.toLowerCase()));
  const has = (key: string): boolean => text.includes(`"${key}"`);
  // A session may stand on many lines or on one that is longer than the head, so that its keys are searched for, not read.
  if (has("hash_id_scope") || (has("requests") && has("block_size"))) return "weka";
  if (has("chat_id") && has("hash_ids")) return "qwen";
  if (has("timestamp") && has("input_length")) return "mooncake";
  return has("arrivalMs") && has("inputTokens") ? "jsonl" : null;
}

function formatOfColumns(columns: readonly string[]): WorkloadFormat | null {
  const hasAll = (names: readonly string[]): boolean =>
    names.every((name) => columns.includes(name.toLowerCase()));
  if (hasAll(AZURE_COLUMNS)) return "azure";
  if (hasAll(BURSTGPT_COLUMNS)) return "burstgpt";
  return hasAll(LENGTH_COLUMNS) ? "lengths" : null;
}
