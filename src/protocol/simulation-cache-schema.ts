import { z } from "zod";

const countSchema = z.int().min(0);

/** A tier of all workers of a pool: blocks, unless the name says otherwise. */
const tierSchema = z.strictObject({
  tier: z.enum(["host", "disk"]),
  /** At the end. */
  blocks: countSchema,
  bytes: z.number(),
  hits: countSchema,
  misses: countSchema,
  evictions: countSchema,
  bad: countSchema,
  dropped: countSchema,
});

const prefetchedBytesSchema = z.strictObject({
  started: z.number(),
  used: z.number(),
  wasted: z.number(),
  /** Part of `wasted`. */
  gone: z.number(),
});

const prefetchSchema = z.strictObject({
  turns: countSchema,
  came: countSchema,
  /** At the end. */
  pending: countSchema,
  begun: countSchema,
  stopped: countSchema,
  bytes: z.strictObject({ host: prefetchedBytesSchema, device: prefetchedBytesSchema }),
});

/** Blocks, but for `leases`. What is none of the last four is under lease at the end. */
const leasesSchema = z.strictObject({
  leases: countSchema,
  blocks: countSchema,
  renewed: countSchema,
  ended: countSchema,
  expired: countSchema,
  lost: countSchema,
});

/** What the caches of a pool did beside the device's own, by the names of the server's metrics. */
export const poolCachesSchema = z.strictObject({
  pool: z.string(),
  tiers: z.array(tierSchema),
  /** Null: nothing is brought up ahead. */
  prefetch: prefetchSchema.nullable(),
  leases: z.strictObject({ turns: leasesSchema, wishes: leasesSchema }),
});

export type PoolCaches = z.output<typeof poolCachesSchema>;
