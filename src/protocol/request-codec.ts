import { endianness } from "node:os";
import { z } from "zod";
import type { Request } from "../core/request.ts";
import { HASH_WORDS } from "../core/tokens/block-hash.ts";
import { assert } from "../core/util/assert.ts";
import { ServingError } from "./errors.ts";
import type { Assignment } from "./worker-rpc.ts";

/** Most bytes of a request id; its characters are ASCII, so that it needs no escaping in JSON, paths and frames. */
export const MAX_REQUEST_ID_BYTES = 128;

/** Most tokens that a submission carries in its prompt, and as resumed output. */
export const MAX_REQUEST_TOKENS = 1024 * 1024;

/** Most entries of a logit bias (research on OpenAI-compatible servers: 300 to 1024; we take the larger). */
export const MAX_LOGIT_BIAS_ENTRIES = 1024;

/** Most block hashes that a submission carries; of a longer chain the beginning goes, and the worker hashes the rest. */
export const MAX_SUBMITTED_HASHES = 128 * 1024;

/** Most bytes of a submission's JSON: two full token arrays and the hashes in base64, and room for the rest. */
export const MAX_SUBMISSION_BYTES = 16 * 1024 * 1024;

/** Longest time for which KV may be asked to be kept: 30 days. */
export const MAX_RETENTION_MS = 30 * 24 * 3_600_000;

/** Most requests that may be announced for one prompt. */
export const MAX_FAN_OUT = 4096;

export const MAX_CACHE_SALT_LENGTH = 256;
const MAX_ADDRESS_LENGTH = 512;
const MAX_TOKEN_ID = 2 ** 31 - 1;
const MAX_UINT32 = 2 ** 32 - 1;

export const REQUEST_ID_PATTERN = /^[A-Za-z0-9._:-]{1,128}$/;
export const WORKER_ID_PATTERN = /^[A-Za-z0-9._:-]{1,128}$/;

export const requestIdSchema = z
  .string()
  .regex(REQUEST_ID_PATTERN, "must be 1 to 128 of A-Z a-z 0-9 . _ : -");
export const workerIdSchema = z.string().regex(WORKER_ID_PATTERN, "must be 1 to 128 of A-Z a-z 0-9 . _ : -");
export const epochSchema = z.number().int().min(0).max(MAX_UINT32);
export const tokenSchema = z.number().int().min(0).max(MAX_TOKEN_ID);

/** A request and what to do with it, as the gateway posts it to a worker. */
export interface Submission {
  readonly request: Request;
  readonly assignment: Assignment;
}

/**
 * The JSON of a submission, in UTF-8, in parts that follow each other. Arrays are base64 of little-endian 32-bit integers. They are
 * most of it, so they are neither searched for characters to escape nor copied.
 */
export function encodeSubmission(request: Request, assignment: Assignment): Buffer[] {
  const { promptTokens, resumedTokens, knownBlockHashes, ...others } = request;
  const { numKnownPromptBlocks: _, nextTurnMs: _next, ...rest } = others;
  const parts = [
    Buffer.from('{"request":{"promptTokens":"'),
    base64Of(promptTokens),
    Buffer.from('","resumedTokens":"'),
    base64Of(resumedTokens),
  ];
  if (knownBlockHashes !== undefined)
    parts.push(Buffer.from('","knownBlockHashes":"'), base64Of(mostHashes(knownBlockHashes)));
  parts.push(Buffer.from(`",${JSON.stringify(rest).slice(1)},"assignment":${JSON.stringify(assignment)}}`));
  return parts;
}

function mostHashes(hashes: Int32Array): Int32Array {
  const maxWords = MAX_SUBMITTED_HASHES * HASH_WORDS;
  return hashes.length > maxWords ? hashes.subarray(0, maxWords) : hashes;
}

/**
 * Reads a parsed submission and checks every field, so that nothing behind it meets a value out of range. Throws a
 * `ServingError` (`invalid_value`) that names the field.
 */
export function decodeSubmission(value: unknown): Submission {
  const result = submissionSchema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const param = issue === undefined ? "" : issue.path.join(".");
  throw new ServingError("invalid_value", `submission: ${param || "value"}: ${issue?.message ?? "invalid"}`, {
    param,
  });
}

/** Both legs of a request carry the same arrays. */
const encodings = new WeakMap<Int32Array, Buffer>();

function base64Of(words: Int32Array): Buffer {
  assert(endianness() === "LE", "arrays are sent as they lie in memory, which must be little-endian");
  let encoded = encodings.get(words);
  if (encoded === undefined) {
    const text = Buffer.from(words.buffer, words.byteOffset, words.byteLength).toString("base64");
    encoded = Buffer.from(text, "latin1");
    encodings.set(words, encoded);
  }
  return encoded;
}

/** Base64 of 32-bit integers, `unit` or a multiple of it, at most `maxUnits` times. */
export function wordsSchema(unit: number, maxUnits: number, what: string) {
  return z
    .string()
    .max(Math.ceil((maxUnits * unit * 4) / 3) * 4, `must hold at most ${maxUnits} ${what}`)
    .transform((text, context): Int32Array => {
      const bytes = Buffer.from(text, "base64");
      const words = new Int32Array(bytes.length >>> 2);
      // The decoder skips what it does not understand, so only text that it writes back unchanged was base64.
      const isExact = bytes.length % (4 * unit) === 0 && bytes.toString("base64") === text;
      if (!isExact) context.addIssue(`must be base64 of ${what}, ${32 * unit} bits each`);
      else if (words.length > maxUnits * unit) context.addIssue(`must hold at most ${maxUnits} ${what}`);
      else new Uint8Array(words.buffer).set(bytes);
      return words;
    });
}

/** Token ids, none of them negative. */
const tokensSchema = wordsSchema(1, MAX_REQUEST_TOKENS, "tokens").refine(
  (tokens) => !tokens.some((token) => token < 0),
  "token ids must not be negative",
);

const samplingSchema = z.strictObject({
  temperature: z.number().min(0).max(100),
  topK: z.number().int().min(0).max(MAX_TOKEN_ID),
  topP: z.number().gt(0).max(1),
  minP: z.number().min(0).max(1),
  frequencyPenalty: z.number().min(-2).max(2),
  presencePenalty: z.number().min(-2).max(2),
  repetitionPenalty: z.number().gt(0).max(100),
  // Signed and unsigned readings of the same 32 bits are both in use.
  seed: z
    .number()
    .int()
    .min(-(2 ** 31))
    .max(MAX_UINT32),
  logitBias: z.array(z.tuple([tokenSchema, z.number().min(-100).max(100)])).max(MAX_LOGIT_BIAS_ENTRIES),
  topLogprobs: z.number().int().min(0).max(20).nullable(),
});

const requestSchema = z
  .strictObject({
    id: requestIdSchema,
    epoch: epochSchema,
    promptTokens: tokensSchema.refine((tokens) => tokens.length > 0, "must hold at least one token"),
    /** A worker takes the chain on trust: who can submit can put KV under any name. That it fits the prompt is checked. */
    knownBlockHashes: wordsSchema(HASH_WORDS, MAX_SUBMITTED_HASHES, "block hashes").exactOptional(),
    resumedTokens: tokensSchema,
    maxOutputTokens: z.number().int().min(1).max(MAX_REQUEST_TOKENS),
    minOutputTokens: z.number().int().min(0).max(MAX_REQUEST_TOKENS),
    ignoreEndOfGeneration: z.boolean(),
    sampling: samplingSchema,
    cacheSalt: z.string().max(MAX_CACHE_SALT_LENGTH),
    priority: z.number(),
    publicBlocks: z.number().int().min(1).max(MAX_SUBMITTED_HASHES).exactOptional(),
    retention: z
      .strictObject({
        keep: z.enum(["none", "default", "long"]),
        ttlMs: z.number().int().min(1).max(MAX_RETENTION_MS).nullable(),
      })
      .exactOptional(),
    expectedFanOut: z.number().int().min(1).max(MAX_FAN_OUT).exactOptional(),
    cacheShare: z.number().min(0).max(1).exactOptional(),
  })
  .refine((request) => request.resumedTokens.length < request.maxOutputTokens, {
    path: ["maxOutputTokens"],
    message: "must exceed the number of resumed tokens: nothing is left to generate",
  })
  .refine(
    ({ publicBlocks = 0, knownBlockHashes }) => publicBlocks * HASH_WORDS <= (knownBlockHashes?.length ?? 0),
    { path: ["publicBlocks"], message: "must be among the known block hashes" },
  );

const fetchSchema = z.strictObject({
  worker: workerIdSchema,
  kvAddress: z.string().min(1).max(MAX_ADDRESS_LENGTH),
  numTokens: z.number().int().min(1).max(MAX_REQUEST_TOKENS),
});

const assignmentSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("local"), fetch: fetchSchema.optional() }),
  z.strictObject({
    kind: z.literal("prefill"),
    decodeWorker: workerIdSchema,
    decodeKvAddress: z.string().min(1).max(MAX_ADDRESS_LENGTH),
    fetch: fetchSchema.optional(),
  }),
  z.strictObject({ kind: z.literal("decode"), prefillWorker: workerIdSchema }),
]);

const submissionSchema = z.strictObject({ request: requestSchema, assignment: assignmentSchema });
