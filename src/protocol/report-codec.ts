import { z } from "zod";
import { MAX_BATCH_BLOCKS } from "../core/kv/kv-event-log.ts";
import type { KvEvent } from "../core/kv/kv-events.ts";
import { HASH_WORDS } from "../core/tokens/block-hash.ts";
import { workerIdSchema } from "./request-codec.ts";
import type { WorkerReport } from "./worker-rpc.ts";

/** The most steps in one report: 20 per millisecond for as long as a report waits. */
export const MAX_REPORTED_STEPS = 4096;

const HASH_BYTES = HASH_WORDS * Int32Array.BYTES_PER_ELEMENT;

/**
 * A report as a value for JSON. Block hashes are their bytes, little-endian words, in base64: 22 characters for a block on
 * its own, 64 for three. Events are arrays without keys: `["s", tier, parent, hashes]`, parent null at a prompt's beginning, `["r", tier,
 * hashes]` and `["c", tier]`. A step is `[prefill tokens, prefill attention, decodes, decode context, ms]`.
 */
export function encodeReport(report: WorkerReport): object {
  if (report.kind === "transfer") return report;
  if (report.kind === "steps") {
    const steps = report.steps.map((step) => [
      step.numPrefillTokens,
      step.prefillAttention,
      step.numDecodes,
      step.decodeContextTokens,
      step.ms,
    ]);
    return { kind: "steps", steps };
  }
  const { sequence, isSnapshot, events } = report.batch;
  return { kind: "kv", sequence, isSnapshot, events: events.map(encodeKvEvent) };
}

function encodeKvEvent(event: KvEvent): unknown[] {
  if (event.kind === "cleared") return ["c", event.tier];
  const hashes = encodeHashes(event.hashes);
  if (event.kind === "removed") return ["r", event.tier, hashes];
  return ["s", event.tier, event.parent === null ? null : encodeHashes(event.parent), hashes];
}

/** Block hashes in base64. */
export function encodeHashes(hashes: Int32Array): string {
  return Buffer.from(hashes.buffer, hashes.byteOffset, hashes.byteLength).toString("base64");
}

/** Reads what {@link encodeHashes} wrote; null when it is not a number of whole hashes. */
export function decodeHashes(text: string): Int32Array | null {
  const bytes = Buffer.from(text, "base64");
  // What is not base64 is skipped by the decoder, so it comes out too short.
  const isWhole = bytes.length % HASH_BYTES === 0 && text.length === Math.ceil(bytes.length / 3) * 4;
  if (!isWhole) return null;
  const hashes = new Int32Array(bytes.length / Int32Array.BYTES_PER_ELEMENT);
  bytes.copy(new Uint8Array(hashes.buffer));
  return hashes;
}

/** Block hashes in base64, at most `maxBlocks`. */
export function hashesSchema(maxBlocks: number) {
  return z
    .string()
    .max(Math.ceil((maxBlocks * HASH_BYTES) / 3) * 4)
    .transform((text, context) => {
      const hashes = decodeHashes(text);
      if (hashes !== null) return hashes;
      context.addIssue("not block hashes in base64");
      return z.NEVER;
    });
}

const tierSchema = z.enum(["device", "host", "disk"]);
const blockHashes = hashesSchema(MAX_BATCH_BLOCKS);
const parentHash = hashesSchema(1).refine((hash) => hash.length === HASH_WORDS, {
  error: "not one block hash",
  abort: true,
});

const kvEventSchema = z
  .union([
    z.tuple([z.literal("s"), tierSchema, parentHash.nullable(), blockHashes]),
    z.tuple([z.literal("r"), tierSchema, blockHashes]),
    z.tuple([z.literal("c"), tierSchema]),
  ])
  .transform((event): KvEvent => {
    if (event[0] === "c") return { kind: "cleared", tier: event[1] };
    if (event[0] === "r") return { kind: "removed", tier: event[1], hashes: event[2] };
    return { kind: "stored", tier: event[1], parent: event[2], hashes: event[3] };
  });

export const countSchema = z.number().int().nonnegative();
const amountSchema = z.number().nonnegative();

const stepSchema = z
  .tuple([countSchema, amountSchema, countSchema, countSchema, amountSchema])
  .transform(([numPrefillTokens, prefillAttention, numDecodes, decodeContextTokens, ms]) => {
    return { numPrefillTokens, prefillAttention, numDecodes, decodeContextTokens, ms };
  });

/** Reads what {@link encodeReport} wrote, already parsed from JSON. */
export const reportSchema = z.discriminatedUnion("kind", [
  z
    .strictObject({
      kind: z.literal("kv"),
      sequence: countSchema,
      isSnapshot: z.boolean(),
      events: z.array(kvEventSchema).max(MAX_BATCH_BLOCKS),
    })
    .refine(({ events }) => numBlocksOf(events) <= MAX_BATCH_BLOCKS, "too many blocks")
    .transform(({ kind, ...batch }) => ({ kind, batch })),
  z.strictObject({ kind: z.literal("steps"), steps: z.array(stepSchema).max(MAX_REPORTED_STEPS) }),
  z.strictObject({
    kind: z.literal("transfer"),
    to: workerIdSchema,
    bytes: countSchema,
    ms: amountSchema,
  }),
]);

function numBlocksOf(events: readonly KvEvent[]): number {
  const lengths = events.map((event) => (event.kind === "cleared" ? 0 : event.hashes.length));
  return lengths.reduce((sum, length) => sum + length, 0) / HASH_WORDS;
}
