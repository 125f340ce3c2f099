import { show } from "../../protocol/config-error.ts";
import { blocksField, jsonObject, lengthField, nameField, nonZero, timeField } from "./fields.ts";
import type { LineReader } from "./line-reader.ts";
import { plainRequest, timed } from "./plain-request.ts";
import { openRows, type TraceOptions } from "./trace-source.ts";
import type { WorkloadSource } from "./workload.ts";

/** Tokens of one block of the Qwen-Bailian traces. */
const QWEN_BLOCK_TOKENS = 16;

/** Chats whose conversation is remembered. A turn whose parent has been forgotten starts a session of its own name. */
const MAX_REMEMBERED_CHATS = 1_000_000;

/**
 * A Qwen-Bailian trace: one object per line with `chat_id`, `parent_chat_id` (-1 for the first turn), `timestamp` (seconds),
 * `input_length`, `output_length`, `type`, `turn` and `hash_ids` of 16-token blocks. All turns of a conversation are one session;
 * the type becomes the class. Throws `WorkloadError`.
 */
export function openQwen(path: string, { zeroLengths = "error" }: TraceOptions = {}): WorkloadSource {
  return openRows(path, (lines) => {
    const roots = new Map<number, number>();
    return () => {
      const row = jsonObject(lines);
      const arrivalMs = timeField(lines, "timestamp", row.timestamp) * 1000;
      const chat = idField(lines, "chat_id", row.chat_id);
      const parent = idField(lines, "parent_chat_id", row.parent_chat_id ?? -1);
      const root = parent < 0 ? chat : (roots.get(parent) ?? parent);
      roots.set(chat, root);
      if (roots.size > MAX_REMEMBERED_CHATS)
        for (const oldest of roots.keys()) {
          roots.delete(oldest);
          break;
        }
      const namedTokens = lengthField(lines, "input_length", row.input_length);
      const inputTokens = nonZero(lines, "input_length", namedTokens, zeroLengths);
      const outputs = lengthField(lines, "output_length", row.output_length);
      const outputTokens = nonZero(lines, "output_length", outputs, zeroLengths);
      if (inputTokens === null || outputTokens === null) return null;
      const request = {
        ...plainRequest(String(lines.line), inputTokens, outputTokens),
        blocks: blocksField(lines, "hash_ids", row.hash_ids, namedTokens, QWEN_BLOCK_TOKENS, ""),
        sessionId: String(root),
        kind: nameField(lines, "type", row.type),
      };
      return timed(request, arrivalMs);
    };
  });
}

function idField(lines: LineReader, name: string, value: unknown): number {
  if (typeof value === "number" && Number.isSafeInteger(value)) return value;
  throw lines.error(`${name}: ${show(value)} is not usable; allowed: whole numbers`);
}
