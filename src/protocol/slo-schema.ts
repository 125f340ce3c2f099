import { z } from "zod";

/** Most rules of one set. */
const MAX_RULES = 32;

const boundSchema = z.number().positive();
const shareSchema = z.number().gt(0).max(1);

/** Everything that a distribution is kept of. `docs/reference/simulation-report.md` defines each one. */
export const LATENCY_METRICS = [
  "ttftMs",
  "itlMs",
  "tpotMs",
  "e2eMs",
  "queuedMs",
  "maxGapMs",
  "worstGapsMs",
  "ttftSlowdown",
  "tpotSlowdown",
  "e2eSlowdown",
] as const;

export type LatencyMetric = (typeof LATENCY_METRICS)[number];

const requestsSchema = z.strictObject({
  kind: z.literal("requests"),
  ttftMs: boundSchema.optional(),
  tpotMs: boundSchema.optional(),
  e2eMs: boundSchema.optional(),
  queuedMs: boundSchema.optional(),
  maxGapMs: boundSchema.optional(),
  worstGapsMs: boundSchema.optional(),
  /** Share of the requests that has to meet all of the bounds. */
  attainment: shareSchema.default(0.9),
  /** Only requests of this class. */
  class: z.string().min(1).max(64).optional(),
});

const ruleSchema = z.strictObject({
  metric: z.enum(LATENCY_METRICS),
  quantile: shareSchema,
  max: boundSchema,
});

/** A set of service levels: bounds of each request, bounds of quantiles, or a published set. */
export const sloSchema = z
  .discriminatedUnion("kind", [
    requestsSchema,
    z.strictObject({
      kind: z.literal("quantiles"),
      rules: z.array(ruleSchema).min(1).max(MAX_RULES),
    }),
    /** Splitwise's nine slowdowns. */
    z.strictObject({ kind: z.literal("splitwise") }),
    /** Sarathi-Serve: p99 of the gaps, and the median scheduling delay. */
    z.strictObject({
      kind: z.literal("sarathi"),
      itlMs: boundSchema,
      queuedMs: boundSchema.default(2000),
    }),
    /** Mooncake: TTFT, and the mean of the longest tenth of the gaps, of each request. */
    z.strictObject({
      kind: z.literal("mooncake"),
      ttftMs: boundSchema.default(30_000),
      worstGapsMs: boundSchema,
      attainment: shareSchema.default(0.9),
    }),
  ])
  .superRefine((slo, context) => {
    if (slo.kind !== "requests") return;
    const { kind: _, attainment: __, class: ___, ...bounds } = slo;
    if (Object.values(bounds).some((bound) => bound !== undefined)) return;
    const message = "needs a bound: ttftMs, tpotMs, e2eMs, queuedMs, maxGapMs or worstGapsMs";
    context.addIssue({ code: "custom", message });
  });
