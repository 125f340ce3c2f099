import { z } from "zod";
import { EVICTION_NAMES } from "../core/kv/tiers/eviction.ts";
import { blockSizeTokensSchema, placementPolicySchema, policySchema, roleSchema } from "./fleet-schema.ts";
import { networkSchema } from "./network-schema.ts";
import { MAX_FIRST_TOKEN_GOAL_MS } from "./request-codec.ts";
import { sloSchema } from "./slo-schema.ts";
import { workloadSchema } from "./workload-schema.ts";

/** Most fleets that one scenario compares. */
export const MAX_FLEETS = 24;

/** Most seeds. */
export const MAX_SEEDS = 1000;

/** Most pools of a fleet, and most workers of a pool. */
const MAX_POOLS = 64;
const MAX_POOL_WORKERS = 100_000;

/** Most faults of a scenario. */
const MAX_FAULTS = 10_000;

/** Most assumptions that a scenario states. */
const MAX_ASSUMPTIONS = 256;

/** Longest virtual time: ten years. */
const MAX_VIRTUAL_SECONDS = 315_360_000;

/** Most devices along one dimension of parallelism. */
const MAX_PARALLEL = 4096;

const MAX_TOKENS = 1_000_000_000;
const MAX_MS = 1e12;

const wordSchema = z
  .string()
  .regex(/^[A-Za-z][A-Za-z0-9._+-]{0,63}$/, "is not a letter and up to 63 of A-Z a-z 0-9 . _ + -");
const textSchema = z.string().max(4000);
const pathSchema = z.string().min(1).max(4096);
const parallelSchema = z.int().min(1).max(MAX_PARALLEL);
const precisionSchema = z.enum(["bf16", "fp8", "fp4", "int8", "int4"]);
const wattsSchema = z.number().min(0).max(1e6);

const modelSchema = z.union([
  /** Id of the catalogue. */
  z.string().min(1).max(256),
  /** GGUF file or Hugging Face `config.json`; relative to the folder of the scenario. */
  z.strictObject({ file: pathSchema }),
]);

const parallelismSchema = z.strictObject({
  tp: parallelSchema.default(1),
  pp: parallelSchema.default(1),
  ep: parallelSchema.default(1),
  dp: parallelSchema.default(1),
});

const precisionsSchema = z.strictObject({
  weights: precisionSchema.default("bf16"),
  /** Default: as the weights. */
  activations: precisionSchema.optional(),
  kv: precisionSchema.default("bf16"),
  /** What attention multiplies in. Default: bf16. */
  attention: z.enum(["bf16", "fp8"]).optional(),
  /** FP8 weights have a scale per 128 x 128 block (DeepSeek's format) instead of one per channel. */
  blockScales: z.boolean().optional(),
});

/** Engines whose overheads are known. */
const engineSchema = z.enum(["vllm", "bare"]);

/** Host times in milliseconds that accelerators do not hide. */
const hostSchema = z.strictObject({
  requestMs: z.number().min(0).max(MAX_MS).optional(),
  outputMs: z.number().min(0).max(MAX_MS).optional(),
  stepMs: z.number().min(0).max(MAX_MS).optional(),
  sequenceMs: z.number().min(0).max(MAX_MS).optional(),
  prefillTokenMs: z.number().min(0).max(MAX_MS).optional(),
});

/** Largest store of KV of a worker, in gigabytes. */
const MAX_TIER_GB = 1e6;

/** Stores of KV below a worker's accelerators. Bandwidths are per worker and direction, in 10^9 bytes per second. */
const poolTiersSchema = z.strictObject({
  hostGB: z.number().gt(0).max(MAX_TIER_GB).optional(),
  hostGBps: z.number().gt(0).max(1e6).default(25),
  diskGB: z.number().gt(0).max(MAX_TIER_GB).optional(),
  diskGBps: z.number().gt(0).max(1e6).default(5),
  eviction: z.enum([...EVICTION_NAMES]).default("lru"),
  /** Whether KV comes up before the next turn of a conversation is expected. */
  prefetch: z.boolean().default(true),
});

const poolSchema = z.strictObject({
  /** Workers are called NAME-0, NAME-1, … */
  name: wordSchema,
  role: roleSchema,
  count: z.int().min(1).max(MAX_POOL_WORKERS).default(1),
  /** Id of the catalogue, or `profile:FILE` with what `twofold profile` wrote; relative to the folder of the scenario. */
  device: z.string().min(1).max(4096),
  parallelism: parallelismSchema.prefault({}),
  precision: precisionsSchema.prefault({}),
  policy: policySchema.default("chunked"),
  /** The most tokens in one step. */
  tokenBudget: z.int().min(1).max(MAX_TOKENS).default(2048),
  /** Sequences that take part in steps at once. */
  maxRunning: z.int().min(1).max(1_000_000).default(256),
  /** Sequences that wait; beyond it requests are refused. */
  maxWaiting: z.int().min(1).max(10_000_000).default(100_000),
  blockTokens: blockSizeTokensSchema.default(16),
  /** Share of device memory for weights, activations and KV. */
  memoryUtilisation: z.number().gt(0).max(1).default(0.9),
  /** KV capacity in place of what memory allows; an assumption. */
  kvTokens: z.int().min(1).max(MAX_TOKENS).optional(),
  /** Tokens of unused prefixes that stay cached; 0: none; default: as many as fit. */
  prefixCacheTokens: z.int().min(0).max(MAX_TOKENS).optional(),
  /** Tiers of KV below the device; each is there when its size is given. */
  tiers: poolTiersSchema.optional(),
  startUpSeconds: z.number().min(0).max(MAX_VIRTUAL_SECONDS).default(0),
  /** What the engine adds to its kernels: as measured with vLLM, asynchronous planning included, or nothing but `host`. */
  engine: engineSchema.default("vllm"),
  host: hostSchema.prefault({}),
  /** Figures of the device that differ from the catalogue, by its keys; each is an assumption. */
  overrides: z.record(z.string().max(64), z.number().min(0)).default({}),
});

const placementSchema = z.strictObject({
  policy: placementPolicySchema.default("load"),
  /** Prompts with fewer tokens are prefilled on their decode worker. */
  localPrefillBelowTokens: z.int().min(0).max(MAX_TOKENS).default(0),
  /** A prefill queue that would grow beyond it is long: another worker joins the mixed pool. */
  maxPendingTokens: z.int().min(1).max(MAX_TOKENS).default(8192),
  /** Prompt blocks that `mooncake` and `cache-aware` remember of each worker that does not say what it has cached. */
  rememberedBlocks: z.int().min(1).max(10_000_000).default(200_000),
  /** `dynamo`: 0 takes the lowest cost; above it costs are drawn. */
  temperature: z.number().min(0).max(100).default(0),
  /** Policies see how long each output will be, as some papers assume; nobody knows that in production. */
  knowsOutputLength: z.boolean().default(false),
  /** Every request says that it would like its first token within this time; only `priced` acts on it. */
  firstTokenGoalMs: z.int().min(1).max(MAX_FIRST_TOKEN_GOAL_MS).optional(),
});

const faultTime = { atSeconds: z.number().min(0).max(MAX_VIRTUAL_SECONDS) };

const faultSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("crash"),
    worker: z.string(),
    ...faultTime,
    restarts: z.boolean().default(true),
  }),
  z.strictObject({
    kind: z.literal("slow-worker"),
    worker: z.string(),
    ...faultTime,
    /** Steps take so many times as long; 1 is the repair. */
    factor: z.number().positive().max(1e6),
  }),
  z.strictObject({
    kind: z.literal("slow-link"),
    worker: z.string(),
    ...faultTime,
    /** Times the bandwidth: below 1 is slower; 1 is the repair. */
    factor: z.number().positive().max(1e6),
  }),
]);

/** Watts of one accelerator by what it does; what is missing comes from the catalogue. */
const devicePowerSchema = z.strictObject({
  idle: wattsSchema.optional(),
  prefill: wattsSchema.optional(),
  decode: wattsSchema.optional(),
  /** While only moving KV. */
  transfer: wattsSchema.optional(),
  /** Nameplate. */
  installed: wattsSchema.optional(),
});

const powerSchema = z.strictObject({
  /** Facility power over IT power. */
  pue: z.number().min(1).max(10).default(1),
  /** Host, network and rack per accelerator, always on. */
  hostWattsPerDevice: wattsSchema.default(0),
  devices: z.record(z.string().max(256), devicePowerSchema).default({}),
});

const priceSchema = z.strictObject({
  /** Dollars per accelerator-hour by device; what is missing comes from the catalogue. */
  devices: z.record(z.string().max(256), z.number().min(0)).default({}),
  dollarsPerKwh: z.number().min(0).max(1000).optional(),
});

const limitsSchema = z.strictObject({
  /** A run that is not over by then stops and says so. Default: a week, for workloads that end. */
  virtualSeconds: z.number().positive().max(MAX_VIRTUAL_SECONDS).optional(),
  /** No further request arrives after so many. */
  requests: z.int().min(1).max(10_000_000_000).optional(),
  /** Requests that are not over; a further one fails. */
  requestsInFlight: z.int().min(1).max(100_000_000).default(1_000_000),
  /** Longest wait of a handoff for room on the decode worker, for a frame or for an ack; beyond it the attempt fails. */
  handoffWaitSeconds: z.number().positive().max(MAX_VIRTUAL_SECONDS).default(60),
  /** Longest output that policies reckon with. */
  outputTokens: z.int().min(1).max(MAX_TOKENS).default(131_072),
});

/** In place of the perf model, the coarse one that a paper itself used. Its keys are checked by the model that is named. */
const paperSchema = z.looseObject({ model: z.string().min(1).max(64) });

const assumptionSchema = z.union([
  textSchema,
  z.strictObject({
    /** Id of the catalogue. */
    part: z.string().min(1).max(256),
    /** Key of the catalogue, such as `power.prefill`. */
    figure: z.string().min(1).max(64),
    value: z.number().min(0),
    reason: textSchema.optional(),
  }),
]);

/** What a slowdown is measured against: one request alone on this worker. */
const referenceSchema = poolSchema.pick({
  device: true,
  parallelism: true,
  precision: true,
  memoryUtilisation: true,
  engine: true,
  host: true,
  overrides: true,
});

const fleetSchema = z.strictObject({
  description: textSchema.default(""),
  workers: z.array(poolSchema).min(1).max(MAX_POOLS),
  /** In place of the sections of the same name below. */
  model: modelSchema.optional(),
  network: networkSchema.optional(),
  placement: placementSchema.optional(),
  paper: paperSchema.optional(),
});

/**
 * `SCENARIO.yaml`: what `twofold simulate` runs. Keys that the schema does not know are errors. `docs/reference/scenario.md`
 * documents each key; a test keeps the two in step.
 */
export const scenarioSchema = z.strictObject({
  name: z.string().min(1).max(200),
  description: textSchema.default(""),
  /** How many seeds, from 1 on, or a list of them. */
  seeds: z
    .union([
      z.int().min(1).max(MAX_SEEDS),
      z
        .array(
          z
            .int()
            .min(0)
            .max(2 ** 31),
        )
        .min(1)
        .max(MAX_SEEDS),
    ])
    .default(1),
  model: modelSchema,
  fleets: z
    .record(wordSchema, fleetSchema)
    .refine((fleets) => Object.keys(fleets).length > 0, "needs at least one fleet")
    .refine((fleets) => Object.keys(fleets).length <= MAX_FLEETS, `has more than ${MAX_FLEETS} fleets`),
  network: networkSchema.prefault({}),
  placement: placementSchema.prefault({}),
  workload: workloadSchema,
  slo: z.record(wordSchema, sloSchema).default({}),
  /** Needed by service levels with slowdowns. */
  reference: referenceSchema.optional(),
  power: powerSchema.prefault({}),
  price: priceSchema.prefault({}),
  faults: z.array(faultSchema).max(MAX_FAULTS).default([]),
  assumptions: z.array(assumptionSchema).max(MAX_ASSUMPTIONS).default([]),
  limits: limitsSchema.prefault({}),
  paper: paperSchema.optional(),
});
