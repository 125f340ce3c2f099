import { z } from "zod";
import type { CacheWishes } from "../../protocol/cache-hints.ts";
import { show } from "../../protocol/config-error.ts";
import { nearMiss } from "../../protocol/near-miss.ts";
import { requestCacheSchema, wishesOfSection } from "../../protocol/workload-cache-schema.ts";
import { toProblems } from "../../protocol/yaml-document.ts";
import { blocksField, jsonObject, lengthField, nameField, nonZero, timeField } from "./fields.ts";
import type { LineReader } from "./line-reader.ts";
import { DEFAULT_KIND, DEFAULT_TENANT } from "./plain-request.ts";
import { openRows, type TraceOptions } from "./trace-source.ts";
import type { PromptBlocks, WorkloadRequest, WorkloadSource } from "./workload.ts";

/** Largest block of a trace, in tokens. */
const MAX_BLOCK_TOKENS = 65_536;

/** How far back a second use of an id is looked for, in requests. */
const MAX_REMEMBERED_IDS = 100_000;

/** Keys of a line; the first four are required. `docs/reference/workloads.md` says what they mean. */
const KEYS = [
  "id",
  "arrivalMs",
  "inputTokens",
  "outputTokens",
  "blockTokens",
  "blocks",
  "scope",
  "sessionId",
  "tenant",
  "priority",
  "kind",
  "encodeMs",
  "cache",
] as const;

/** This project's own format: one request per line. Keys that it does not know are mistakes. Throws `WorkloadError`. */
export function openJsonl(path: string, { zeroLengths = "error" }: TraceOptions = {}): WorkloadSource {
  return openRows(path, (lines) => {
    const ids = new RecentIds();
    return () => {
      const request = parseRequest(lines, jsonObject(lines), zeroLengths);
      if (request !== null && !ids.add(request.id)) {
        const which = `one of the ${MAX_REMEMBERED_IDS} requests before it`;
        throw lines.error(`id: ${show(request.id)} is the id of ${which}; each request has its own`);
      }
      return request;
    };
  });
}

/** The ids of the last {@link MAX_REMEMBERED_IDS} requests: all of a long trace would not fit into memory. */
class RecentIds {
  readonly #ids = new Set<string>();
  /** The same in order, as a ring. */
  readonly #order: string[] = [];
  #numAdded = 0;

  /** False: it is one of them already. */
  add(id: string): boolean {
    if (this.#ids.has(id)) return false;
    const at = this.#numAdded++ % MAX_REMEMBERED_IDS;
    const oldest = this.#order[at];
    if (oldest !== undefined) this.#ids.delete(oldest);
    this.#order[at] = id;
    this.#ids.add(id);
    return true;
  }
}

function parseRequest(
  lines: LineReader,
  row: Readonly<Record<string, unknown>>,
  zeroLengths: NonNullable<TraceOptions["zeroLengths"]>,
): WorkloadRequest | null {
  for (const key of Object.keys(row)) {
    if (KEYS.some((known) => known === key)) continue;
    const meant = nearMiss(key, KEYS);
    const hint = meant === null ? "" : ` (did you mean ${meant}?)`;
    throw lines.error(`unknown key ${show(key)}${hint}; allowed: ${KEYS.join(", ")}`);
  }
  const named = lengthField(lines, "inputTokens", row.inputTokens);
  const inputTokens = nonZero(lines, "inputTokens", named, zeroLengths);
  const outputs = lengthField(lines, "outputTokens", row.outputTokens);
  const outputTokens = nonZero(lines, "outputTokens", outputs, zeroLengths);
  if (inputTokens === null || outputTokens === null) return null;
  const { sessionId = null, tenant = DEFAULT_TENANT, kind = DEFAULT_KIND, priority = 0 } = row;
  if (typeof priority !== "number" || !Number.isSafeInteger(priority))
    throw lines.error(`priority: ${show(priority)} is not usable; allowed: whole numbers`);
  return {
    id: nameField(lines, "id", row.id),
    arrivalMs: timeField(lines, "arrivalMs", row.arrivalMs),
    inputTokens,
    outputTokens,
    blocks: parseBlocks(lines, row, named),
    sessionId: sessionId === null ? null : nameField(lines, "sessionId", sessionId),
    tenant: nameField(lines, "tenant", tenant),
    priority,
    kind: nameField(lines, "kind", kind),
    encodeMs: timeField(lines, "encodeMs", row.encodeMs ?? 0),
    wishes: row.cache == null ? null : parseWishes(lines, row.cache),
  };
}

const wishesSchema = z.object({ cache: requestCacheSchema });

function parseWishes(lines: LineReader, cache: unknown): CacheWishes {
  const result = wishesSchema.safeParse({ cache });
  if (result.success) return wishesOfSection(result.data.cache);
  const [problem] = toProblems(result.error, wishesSchema, { cache }, () => "");
  throw lines.error(problem!.message);
}

function parseBlocks(
  lines: LineReader,
  row: Readonly<Record<string, unknown>>,
  inputTokens: number,
): PromptBlocks | null {
  const { blocks = null, blockTokens, scope = "" } = row;
  if (blocks === null) return null;
  const size = lengthField(lines, "blockTokens", blockTokens);
  if (size < 1 || size > MAX_BLOCK_TOKENS)
    throw lines.error(`blockTokens: ${size} is out of range; allowed: 1 to ${MAX_BLOCK_TOKENS}`);
  const name = scope === "" ? "" : nameField(lines, "scope", scope);
  return blocksField(lines, "blocks", blocks, inputTokens, size, name);
}
