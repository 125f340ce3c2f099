import { z } from "zod";
import { type CacheWishes, cacheWishesOf } from "./cache-hints.ts";
import { MAX_FAN_OUT, MAX_RETENTION_MS } from "./request-codec.ts";

const MAX_SECONDS = MAX_RETENTION_MS / 1000;

const fanOutSchema = z.int().min(1).max(MAX_FAN_OUT);
const nextTurnSchema = z.number().min(0).max(MAX_SECONDS);

/** What requests of a workload say of their KV: the fields of `cache` in the HTTP API, in this project's spelling. */
export const requestCacheSchema = z.strictObject({
  keep: z.enum(["none", "default", "long"]).optional(),
  ttlSeconds: z.int().min(1).max(MAX_SECONDS).optional(),
  fanOut: fanOutSchema.optional(),
  nextTurnSeconds: nextTurnSchema.optional(),
});

/** The same for sessions, which know something of it themselves. */
export const sessionCacheSchema = requestCacheSchema.extend({
  fanOut: z
    .union([fanOutSchema, z.literal("told")], {
      error: () => `must be a whole number from 1 to ${MAX_FAN_OUT}, or told`,
    })
    .optional(),
  nextTurnSeconds: z
    .union([nextTurnSchema, z.literal("told")], {
      error: () => `must be a number from 0 to ${MAX_SECONDS}, or told`,
    })
    .optional(),
});

/** The fields of a request that the server makes of the same wishes. What sessions tell themselves is left out. */
export function wishesOfSection(section: z.output<typeof sessionCacheSchema>): CacheWishes {
  const { keep, ttlSeconds, fanOut, nextTurnSeconds } = section;
  return cacheWishesOf({
    cache: {
      keep,
      ttl_seconds: ttlSeconds,
      fan_out: fanOut === "told" ? undefined : fanOut,
      next_turn_seconds: nextTurnSeconds === "told" ? undefined : nextTurnSeconds,
    },
  });
}
