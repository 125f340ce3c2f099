import { z } from "zod";
import {
  empiricalLengths,
  type LengthDistribution,
  MAX_LENGTH_TOKENS,
  parseLengths,
} from "../core/util/length-distribution.ts";
import { requestCacheSchema, sessionCacheSchema } from "./workload-cache-schema.ts";

/** Highest mean rate of arrivals, in requests per second. */
const MAX_REQUESTS_PER_SECOND = 1_000_000;

/** Longest time of a workload: 100 years. */
const MAX_WORKLOAD_MS = 100 * 365 * 86_400_000;

/** Most requests of a workload. */
const MAX_WORKLOAD_REQUESTS = 1_000_000_000;

/** Most sessions or requests that a closed loop keeps running. */
const MAX_CONCURRENCY = 1_000_000;

/** Most users of a prefix tree. */
const MAX_USERS = 1_000_000;

/** Most stages, tenants and merged workloads. */
const MAX_ENTRIES = 256;

const rateSchema = z.number().positive().max(MAX_REQUESTS_PER_SECOND);
const durationMsSchema = z.number().min(0).max(MAX_WORKLOAD_MS);
const cvSchema = z.number().min(0.05).max(100);
const pathSchema = z.string().min(1).max(4096);
const blockTokensSchema = z.int().min(1).max(65_536).default(16);
const maxInputTokensSchema = z.int().min(1).max(MAX_LENGTH_TOKENS).default(MAX_LENGTH_TOKENS);
const concurrencySchema = z.int().min(1).max(MAX_CONCURRENCY);

const weightedSchema = z.strictObject({ values: z.array(z.number()), weights: z.array(z.number()) });

/** Lengths in tokens or frames: a number, text such as `lognormal:800:400`, or `{ values, weights }`. */
const lengthsSchema = z.unknown().transform((value, context): LengthDistribution => {
  const lengths = readLengths(value);
  if (!("error" in lengths)) return lengths;
  context.addIssue({ code: "custom", message: lengths.error });
  return z.NEVER;
});

function readLengths(value: unknown): LengthDistribution | { readonly error: string } {
  if (typeof value === "number" || typeof value === "string") return parseLengths(String(value));
  const weighted = weightedSchema.safeParse(value);
  if (weighted.success) return empiricalLengths(weighted.data.values, weighted.data.weights);
  return {
    error:
      "must be 512, uniform:MIN:MAX, normal:MEAN:SD, lognormal:MEAN:SD, choice:A,B,C or { values, weights }",
  };
}

const arrivalsSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("constant"), requestsPerSecond: rateSchema }),
  z.strictObject({ kind: z.literal("poisson"), requestsPerSecond: rateSchema }),
  z.strictObject({ kind: z.literal("gamma"), requestsPerSecond: rateSchema, cv: cvSchema }),
  z.strictObject({ kind: z.literal("weibull"), requestsPerSecond: rateSchema, cv: cvSchema }),
  z.strictObject({
    kind: z.literal("bursts"),
    requestsPerSecond: rateSchema,
    idleRequestsPerSecond: z.number().min(0).max(MAX_REQUESTS_PER_SECOND).default(0),
    burstMs: durationMsSchema.positive(),
    idleMs: durationMsSchema.positive(),
  }),
  z.strictObject({
    kind: z.literal("diurnal"),
    requestsPerSecond: rateSchema,
    swing: z.number().min(0).max(1),
    periodMs: durationMsSchema.positive().default(86_400_000),
    phaseMs: durationMsSchema.default(0),
  }),
  z.strictObject({
    kind: z.literal("stages"),
    gaps: z.enum(["constant", "poisson"]).default("constant"),
    stages: z
      .array(
        z.strictObject({
          requestsPerSecond: z.number().min(0).max(MAX_REQUESTS_PER_SECOND),
          durationMs: durationMsSchema.positive(),
        }),
      )
      .min(1)
      .max(MAX_ENTRIES),
  }),
]);

/** Keys of every kind: what is done to the requests once they are there. */
const commonShape = {
  /** Factor on all times: 0.5 sends the same requests twice as fast. */
  timeScale: z.number().min(1e-6).max(1e6).default(1),
  /** Ends after so many requests. */
  requests: z.int().min(1).max(MAX_WORKLOAD_REQUESTS).optional(),
  /** Ends before the first request that arrives at or after this time, as scaled. */
  durationMs: durationMsSchema.optional(),
  /** Whose requests they are, by chance; all of a session have the same tenant. */
  tenants: z
    .array(
      z.strictObject({
        name: z.string().min(1).max(256),
        share: z.number().positive().max(1e9).default(1),
        priority: z.int().default(0),
      }),
    )
    .min(1)
    .max(MAX_ENTRIES)
    .optional(),
  /** What requests say of their KV that do not say it themselves. */
  cache: requestCacheSchema.optional(),
};

/** Keys of kinds whose requests are sent at a pace that the section gives: exactly one of the first two. */
const paceShape = {
  /** Open loop. */
  arrivals: arrivalsSchema.optional(),
  /** Closed loop: requests that run at all times. */
  concurrency: concurrencySchema.optional(),
  /** Closed loop: from the end of a request until the next. */
  thinkMs: durationMsSchema.default(0),
};

/** Keys of kinds that consist of sessions: exactly one of the first two. */
const sessionShape = {
  /** Sessions that run at all times. */
  lanes: concurrencySchema.optional(),
  /** When sessions start, whatever becomes of those before. */
  arrivals: arrivalsSchema.optional(),
  /** Lanes start so far apart. */
  staggerMs: durationMsSchema.default(0),
  /** From the end of a session until the next of its lane. */
  gapMs: durationMsSchema.default(0),
};

function exactlyOne<T extends object>(first: keyof T & string, second: keyof T & string) {
  return (value: T, context: z.core.$RefinementCtx<T>): void => {
    const numGiven = [value[first], value[second]].filter((one) => one !== undefined).length;
    if (numGiven === 1) return;
    const message =
      numGiven === 0 ? `is missing; give ${first} or ${second}` : `cannot stand beside ${second}`;
    context.addIssue({ code: "custom", path: [first], message });
  };
}

/** Formats of files with times. */
export const traceFormatSchema = z.enum(["auto", "mooncake", "azure", "burstgpt", "qwen", "jsonl"]);

const traceSchema = z.strictObject({
  kind: z.literal("trace"),
  path: pathSchema,
  format: traceFormatSchema.default("auto"),
  /** What becomes of rows with a length of 0; by default BurstGPT's are left out, and any other is a mistake. */
  zeroLengths: z.enum(["error", "skip", "one"]).optional(),
  /** Spreads requests that a coarse clock gave the same time. */
  spread: z
    .strictObject({
      bucketMs: durationMsSchema.positive(),
      gaps: z.enum(["even", "random"]).default("even"),
    })
    .optional(),
  /** Plays the trace so many times, one after the other, with fresh ids. */
  repeat: z.int().min(1).max(MAX_WORKLOAD_REQUESTS).default(1),
  /** Whether later rounds find the prefixes of earlier ones. */
  repeatSharesBlocks: z.boolean().default(false),
  ...commonShape,
});

const sessionsSchema = z
  .strictObject({
    kind: z.literal("sessions"),
    path: pathSchema,
    repeat: z.int().min(1).max(MAX_WORKLOAD_REQUESTS).default(1),
    ...sessionShape,
    ...commonShape,
    cache: sessionCacheSchema.optional(),
  })
  .superRefine(exactlyOne("lanes", "arrivals"));

const lengthTableSchema = z
  .strictObject({
    kind: z.literal("lengths"),
    path: pathSchema,
    /** `file`: each row once, in their order. `random`: rows drawn without end. */
    order: z.enum(["file", "random"]).default("file"),
    ...paceShape,
    ...commonShape,
  })
  .superRefine(exactlyOne("arrivals", "concurrency"));

const serveGenSchema = z.strictObject({
  kind: z.literal("servegen"),
  path: pathSchema,
  fromMs: durationMsSchema.default(0),
  rateScale: z.number().positive().max(1e6).default(1),
  ...commonShape,
});

const plainSchema = z
  .strictObject({
    kind: z.literal("requests"),
    inputTokens: lengthsSchema,
    outputTokens: lengthsSchema,
    /** Class of the requests. Default: text. */
    class: z.string().min(1).max(64).optional(),
    ...paceShape,
    ...commonShape,
  })
  .superRefine(exactlyOne("arrivals", "concurrency"));

const sharedPrefixSchema = z
  .strictObject({
    kind: z.literal("shared-prefix"),
    systemPrompts: z.int().min(1).max(MAX_USERS),
    usersPerSystemPrompt: z.int().min(1).max(MAX_USERS),
    systemTokens: lengthsSchema,
    questionTokens: lengthsSchema,
    outputTokens: lengthsSchema,
    questions: z.enum(["same", "fresh", "appended"]).default("fresh"),
    maxInputTokens: maxInputTokensSchema,
    blockTokens: blockTokensSchema,
    ...paceShape,
    ...commonShape,
  })
  .superRefine(exactlyOne("arrivals", "concurrency"))
  .superRefine((value, context) => {
    if (value.systemPrompts * value.usersPerSystemPrompt <= MAX_USERS) return;
    const message = `makes more than ${MAX_USERS} users with systemPrompts`;
    context.addIssue({ code: "custom", path: ["usersPerSystemPrompt"], message });
  });

const agentsSchema = z
  .strictObject({
    kind: z.literal("agents"),
    systemTokens: z.int().min(1).max(MAX_LENGTH_TOKENS),
    taskTokens: lengthsSchema,
    turns: lengthsSchema,
    resultTokens: lengthsSchema,
    outputTokens: lengthsSchema,
    toolMs: z
      .strictObject({ mean: durationMsSchema, deviation: durationMsSchema.default(0) })
      .default({ mean: 0, deviation: 0 }),
    fanOut: z
      .strictObject({
        probability: z.number().min(0).max(1),
        agents: lengthsSchema,
        turns: lengthsSchema,
        /** What they begin with: the system prompt, or all that the agent which starts them has read and written. */
        from: z.enum(["system", "agent"]).default("system"),
        waits: z.boolean().default(true),
        depth: z.int().min(1).max(8).default(1),
      })
      .optional(),
    maxInputTokens: maxInputTokensSchema,
    blockTokens: blockTokensSchema,
    ...sessionShape,
    ...commonShape,
    cache: sessionCacheSchema.optional(),
  })
  .superRefine(exactlyOne("lanes", "arrivals"));

const videoSchema = z
  .strictObject({
    kind: z.literal("video"),
    frames: lengthsSchema,
    tokensPerFrame: z.int().min(1).max(65_536),
    encodeMsPerFrame: z.number().min(0).max(60_000),
    textTokens: lengthsSchema,
    /** Exactly one of these two. */
    outputTokens: lengthsSchema.optional(),
    outputFrames: lengthsSchema.optional(),
    tokensPerOutputFrame: z.int().min(1).max(65_536).default(1),
    ...paceShape,
    ...commonShape,
  })
  .superRefine(exactlyOne("arrivals", "concurrency"))
  .superRefine(exactlyOne("outputTokens", "outputFrames"));

const singleSchemas = [
  traceSchema,
  sessionsSchema,
  lengthTableSchema,
  serveGenSchema,
  plainSchema,
  sharedPrefixSchema,
  agentsSchema,
  videoSchema,
] as const;

const mergeSchema = z.strictObject({
  kind: z.literal("merge"),
  /** Workloads by name; ids and tenants stay apart. Not nested. */
  parts: z
    .record(
      z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, "is not 1 to 64 of A-Z a-z 0-9 . _ -"),
      z.discriminatedUnion("kind", singleSchemas),
    )
    .refine((parts) => Object.keys(parts).length >= 1 && Object.keys(parts).length <= MAX_ENTRIES, {
      message: `needs 1 to ${MAX_ENTRIES} workloads`,
    }),
  ...commonShape,
});

/** The `workload:` section of a scenario. `docs/reference/workloads.md` documents each key. */
export const workloadSchema = z.discriminatedUnion("kind", [...singleSchemas, mergeSchema]);

/** A section with its defaults filled in. */
export type WorkloadSection = z.output<typeof workloadSchema>;

/** How a section says when independent requests, or sessions, arrive. */
export type ArrivalsSection = z.output<typeof arrivalsSchema>;
