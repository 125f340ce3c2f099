import { z } from "zod";
import type { Request, Retention } from "../core/request.ts";
import { MAX_FAN_OUT, MAX_RETENTION_MS } from "./request-codec.ts";

/** Longest `prompt_cache_key`, in UTF-16 code units. */
const MAX_CACHE_KEY_CHARS = 256;
/** Of a field that does not exist, in an error message. */
const MAX_SHOWN_CHARS = 40;
const DAY_MS = 24 * 3_600_000;

/** What a request may say about the KV of its prompt. Every field is a wish. */
export const cacheHintFields = {
  // Strict, unlike the rest of a body: a wish that is misspelled would silently not be one.
  cache: z
    .strictObject(
      {
        keep: z.enum(["none", "default", "long"]).nullish(),
        ttl_seconds: z
          .int()
          .min(1)
          .max(MAX_RETENTION_MS / 1000)
          .nullish(),
        next_turn_seconds: z
          .number()
          .min(0)
          .max(MAX_RETENTION_MS / 1000)
          .nullish(),
        fan_out: z.int().min(1).max(MAX_FAN_OUT).nullish(),
      },
      {
        error: (issue) =>
          issue.code === "unrecognized_keys"
            ? `takes keep, ttl_seconds, next_turn_seconds and fan_out, not '${issue.keys[0]?.slice(0, MAX_SHOWN_CHARS)}'`
            : undefined,
      },
    )
    .optional(),
  // OpenAI's names for the conversation and for how long it is worth keeping.
  prompt_cache_key: z.string().max(MAX_CACHE_KEY_CHARS).optional(),
  prompt_cache_retention: z.enum(["in_memory", "in-memory", "24h"]).optional(),
};

type CacheHints = z.infer<z.ZodObject<typeof cacheHintFields>>;

/** What a request says of its KV, as decisions see it. */
export type CacheWishes = Pick<Request, "retention" | "expectedFanOut" | "nextTurnMs">;

/** The fields of a request that follow from what it says; what it does not say is absent. */
export function cacheWishesOf(hints: CacheHints & { readonly n?: number | undefined }): CacheWishes {
  const retention = retentionOf(hints);
  const expectedFanOut = fanOutOf(hints);
  const nextTurnMs = nextTurnMsOf(hints);
  return {
    ...(retention === null ? {} : { retention }),
    ...(expectedFanOut === null ? {} : { expectedFanOut }),
    ...(nextTurnMs === null ? {} : { nextTurnMs }),
  };
}

/** The same as fields of a body: what {@link cacheWishesOf} makes of them is what they were made of. */
export function cacheFieldsOf({ retention, expectedFanOut, nextTurnMs }: CacheWishes): CacheHints {
  const cache = {
    ...(retention === undefined ? {} : { keep: retention.keep }),
    ...(retention?.ttlMs == null ? {} : { ttl_seconds: retention.ttlMs / 1000 }),
    ...(expectedFanOut === undefined ? {} : { fan_out: expectedFanOut }),
    ...(nextTurnMs === undefined ? {} : { next_turn_seconds: nextTurnMs / 1000 }),
  };
  return Object.keys(cache).length === 0 ? {} : { cache };
}

/** How long a request's KV should be kept, if it says; `cache` goes before `prompt_cache_retention`. */
function retentionOf({ cache, prompt_cache_retention: named }: CacheHints): Retention | null {
  const keep = cache?.keep ?? null;
  const ttlMs = cache?.ttl_seconds == null ? null : cache.ttl_seconds * 1000;
  if (keep !== null || ttlMs !== null) return { keep: keep ?? "default", ttlMs };
  return named === "24h" ? { keep: "long", ttlMs: DAY_MS } : null;
}

/** When the next turn of the conversation is expected, after the end of this one, in milliseconds; null: not said. */
function nextTurnMsOf({ cache }: CacheHints): number | null {
  return cache?.next_turn_seconds == null ? null : cache.next_turn_seconds * 1000;
}

/** How many requests will begin with the prompt, if that is known: as many as announced, or as there are choices. */
function fanOutOf({ cache, n = 1 }: CacheHints & { readonly n?: number | undefined }): number | null {
  return cache?.fan_out ?? (n > 1 ? n : null);
}
