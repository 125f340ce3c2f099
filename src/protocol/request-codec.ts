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

/** Most bytes of a submission: two full token arrays, the hashes, and room for the rest. */
export const MAX_SUBMISSION_BYTES = 16 * 1024 * 1024;

/** Longest time for which KV may be asked to be kept: 30 days. */
export const MAX_RETENTION_MS = 30 * 24 * 3_600_000;

/** Most requests that may be announced for one prompt. */
export const MAX_FAN_OUT = 4096;
/** Longest goal for a first token. */
export const MAX_FIRST_TOKEN_GOAL_MS = 3_600_000;

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

/** Ends the JSON of a submission: JSON has line feeds in strings escaped. */
const LINE_FEED = 0x0a;

/**
 * A submission in parts that follow each other: its JSON on one line, in UTF-8, with the lengths of its arrays in their places (of the hashes:
 * how many), and then prompt, resumed tokens and hashes, as little-endian 32-bit integers. They are most of it, so they go out as they lie in memory, to both legs of a request.
 */
export function encodeSubmission(request: Request, assignment: Assignment): Buffer[] {
  const { promptTokens, resumedTokens, knownBlockHashes, ...others } = request;
  const { numKnownPromptBlocks: _, nextTurnMs: _next, ...rest } = others;
  const hashes = knownBlockHashes === undefined ? undefined : mostHashes(knownBlockHashes);
  const lengths = {
    promptTokens: promptTokens.length,
    resumedTokens: resumedTokens.length,
    ...(hashes === undefined ? {} : { knownBlockHashes: hashes.length / HASH_WORDS }),
  };
  const head = JSON.stringify({ request: { ...rest, ...lengths }, assignment });
  const arrays = [promptTokens, resumedTokens, ...(hashes === undefined ? [] : [hashes])];
  return [Buffer.from(`${head}\n`), ...arrays.map(bytesOf)];
}

function mostHashes(hashes: Int32Array): Int32Array {
  const maxWords = MAX_SUBMITTED_HASHES * HASH_WORDS;
  return hashes.length > maxWords ? hashes.subarray(0, maxWords) : hashes;
}

function bytesOf(words: Int32Array): Buffer {
  assert(endianness() === "LE", "arrays are sent as they lie in memory, which must be little-endian");
  return Buffer.from(words.buffer, words.byteOffset, words.byteLength);
}

/**
 * Reads a submission and checks every field, so that nothing behind it meets a value out of range. Throws a `ServingError`:
 * `invalid_json`, or `invalid_value` that names the field.
 */
export function decodeSubmission(body: Buffer): Submission {
  const end = body.indexOf(LINE_FEED);
  const head = body.subarray(0, end < 0 ? body.length : end);
  let value: unknown;
  try {
    value = JSON.parse(head.toString());
  } catch (error) {
    throw new ServingError("invalid_json", "the body does not begin with a line of JSON", { cause: error });
  }
  const result = submissionSchema.safeParse(value);
  if (!result.success) {
    const issue = result.error.issues[0];
    const param = issue === undefined ? "" : issue.path.join(".");
    throw refusal(param || "value", issue?.message ?? "invalid", param);
  }
  const { promptTokens, resumedTokens, knownBlockHashes, ...rest } = result.data.request;
  const arrays = new ArrayReader(body.subarray(head.length + 1));
  const request: Request = {
    ...rest,
    promptTokens: arrays.tokens("promptTokens", promptTokens),
    resumedTokens: arrays.tokens("resumedTokens", resumedTokens),
    ...(knownBlockHashes === undefined
      ? {}
      : { knownBlockHashes: arrays.words("knownBlockHashes", knownBlockHashes * HASH_WORDS) }),
  };
  arrays.end();
  return { request, assignment: result.data.assignment };
}

/** Reads what follows the JSON of a submission. */
class ArrayReader {
  #rest: Buffer;

  constructor(bytes: Buffer) {
    this.#rest = bytes;
  }

  words(name: string, count: number): Int32Array {
    const numBytes = count * Int32Array.BYTES_PER_ELEMENT;
    if (numBytes > this.#rest.length) throw refusal(`request.${name}`, "the body ends before the array does");
    const words = new Int32Array(count);
    // A copy: what follows the JSON need not be aligned, and a view would keep the whole body.
    new Uint8Array(words.buffer).set(this.#rest.subarray(0, numBytes));
    this.#rest = this.#rest.subarray(numBytes);
    return words;
  }

  tokens(name: string, count: number): Int32Array {
    const tokens = this.words(name, count);
    let anySign = 0;
    for (let i = 0; i < count; i++) anySign |= tokens[i]!;
    if (anySign < 0) throw refusal(`request.${name}`, "token ids must not be negative");
    return tokens;
  }

  end(): void {
    if (this.#rest.length > 0) throw refusal("value", `${this.#rest.length} bytes follow the last array`, "");
  }
}

function refusal(field: string, message: string, param = field): ServingError {
  return new ServingError("invalid_value", `submission: ${field}: ${message}`, { param });
}

/** Length of an array of token ids. */
const lengthSchema = z.number().int().min(0).max(MAX_REQUEST_TOKENS);

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
    promptTokens: lengthSchema.min(1, "must hold at least one token"),
    /** A worker takes the chain on trust: who can submit can put KV under any name. That it fits the prompt is checked. */
    knownBlockHashes: z.number().int().min(0).max(MAX_SUBMITTED_HASHES).exactOptional(),
    resumedTokens: lengthSchema,
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
    firstTokenGoalMs: z.number().int().min(1).max(MAX_FIRST_TOKEN_GOAL_MS).exactOptional(),
    expectedFanOut: z.number().int().min(1).max(MAX_FAN_OUT).exactOptional(),
    cacheShare: z.number().min(0).max(1).exactOptional(),
  })
  .refine((request) => request.resumedTokens < request.maxOutputTokens, {
    path: ["maxOutputTokens"],
    message: "must exceed the number of resumed tokens: nothing is left to generate",
  })
  .refine(({ publicBlocks = 0, knownBlockHashes = 0 }) => publicBlocks <= knownBlockHashes, {
    path: ["publicBlocks"],
    message: "must be among the known block hashes",
  });

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
