import { z } from "zod";
import { LATEST_FACTOR } from "../core/sessions/return-estimate.ts";
import type { TurnExpectation } from "../core/sessions/turn-expectation.ts";
import { HASH_WORDS } from "../core/tokens/block-hash.ts";
import { ServingError } from "./errors.ts";
import { MAX_CACHE_SALT_LENGTH, MAX_RETENTION_MS, MAX_SUBMITTED_HASHES } from "./request-codec.ts";

/** The latest time that is said of the longest gap that a client may announce. */
const timeSchema = z
  .number()
  .min(0)
  .max(LATEST_FACTOR * MAX_RETENTION_MS);

const expectationSchema = z.strictObject({
  lastHash: z
    .array(
      z
        .number()
        .int()
        .min(-(2 ** 31))
        .max(2 ** 31 - 1),
    )
    .length(HASH_WORDS)
    .transform((words) => Int32Array.from(words)),
  numBlocks: z.number().int().min(1).max(MAX_SUBMITTED_HASHES),
  earlyMs: timeSchema,
  lateMs: timeSchema,
  probability: z.number().min(0).max(1),
  owner: z.strictObject({
    cacheSalt: z.string().max(MAX_CACHE_SALT_LENGTH),
    cacheShare: z.number().min(0).max(1).exactOptional(),
    publicBlocks: z.number().int().min(1).max(MAX_SUBMITTED_HASHES).exactOptional(),
  }),
});

/** The body of `POST /v1/expect`. */
export function encodeExpectation(expectation: TurnExpectation): Buffer {
  return Buffer.from(JSON.stringify({ ...expectation, lastHash: [...expectation.lastHash] }));
}

/** Reads such a body. Throws a `ServingError` (`invalid_value`) that names the field. */
export function decodeExpectation(value: unknown): TurnExpectation {
  const result = expectationSchema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const param = issue?.path.join(".") ?? "";
  const message = `expectation: ${param || "value"}: ${issue?.message ?? "invalid"}`;
  throw new ServingError("invalid_value", message, { param });
}
