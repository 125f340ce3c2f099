import { z } from "zod";
import { poolCachesSchema } from "./simulation-cache-schema.ts";

/** Raised with every change to the result that a reader of the older form would misread. */
export const SIMULATION_SCHEMA_VERSION = 1;

const countSchema = z.int().min(0);
const shareSchema = z.number().min(0).max(1);

const summarySchema = z.strictObject({
  count: countSchema,
  mean: z.number(),
  p50: z.number(),
  p90: z.number(),
  p95: z.number(),
  p99: z.number(),
  p999: z.number(),
  max: z.number(),
  /** Whether quantiles are exact; otherwise they are within 0.5 %. */
  isExact: z.boolean(),
});

/** Each metric is null when no request has it, or when it was not recorded. */
const latencySchema = z.strictObject({
  ttftMs: summarySchema.nullable(),
  itlMs: summarySchema.nullable(),
  tpotMs: summarySchema.nullable(),
  e2eMs: summarySchema.nullable(),
  queuedMs: summarySchema.nullable(),
  maxGapMs: summarySchema.nullable(),
  worstGapsMs: summarySchema.nullable(),
  ttftSlowdown: summarySchema.nullable(),
  tpotSlowdown: summarySchema.nullable(),
  e2eSlowdown: summarySchema.nullable(),
});

/** `arrived` = `completed` + `failed` + `unfinished`. */
const requestCountsSchema = z.strictObject({
  arrived: countSchema,
  completed: countSchema,
  failed: countSchema,
  unfinished: countSchema,
});

const groupSchema = z.strictObject({
  name: z.string(),
  requests: requestCountsSchema,
  inputTokens: countSchema,
  cachedTokens: countSchema,
  outputTokens: countSchema,
  latency: latencySchema,
});

const ruleResultSchema = z.strictObject({
  metric: z.string(),
  quantile: shareSchema,
  max: z.number(),
  /** Null: not recorded, or no request has the metric. */
  value: z.number().nullable(),
  isMet: z.boolean(),
});

const sloResultSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    name: z.string(),
    kind: z.literal("requests"),
    bounds: z.record(z.string(), z.number()),
    requestClass: z.string().nullable(),
    attainment: shareSchema,
    isMet: z.boolean(),
    good: countSchema,
    /** Of the requests that arrived. */
    share: shareSchema,
    requestsPerSecond: z.number(),
  }),
  z.strictObject({
    name: z.string(),
    kind: z.literal("quantiles"),
    isMet: z.boolean(),
    rules: z.array(ruleResultSchema),
  }),
]);

const workerSchema = z.strictObject({
  id: z.string(),
  pool: z.string(),
  readyMs: z.number(),
  prefillMs: z.number(),
  decodeMs: z.number(),
  mixedMs: z.number(),
  /** Part of the step times above that the host took. */
  hostMs: z.number(),
  /** Ready and in no step. */
  idleMs: z.number(),
  /** While at least one transfer was under way; overlaps with steps. */
  sendMs: z.number(),
  receiveMs: z.number(),
  sentBytes: z.number(),
  receivedBytes: z.number(),
  numSteps: countSchema,
  prefillTokens: countSchema,
  decodeTokens: countSchema,
  /** Share of the ready time in steps. */
  utilisation: shareSchema,
  /** Sequences in a step, mean over the time in steps. */
  meanBatch: z.number(),
  kvCapacityBlocks: countSchema.nullable(),
  kvMeanBlocks: z.number(),
  kvPeakBlocks: countSchema,
  timesLost: countSchema,
});

const energySchema = z.strictObject({
  /** Accelerators and their share of the host, without cooling. */
  itJoules: z.number(),
  /** Times PUE. */
  facilityJoules: z.number(),
  pue: z.number(),
  meanWatts: z.number(),
  joulesPerOutputToken: z.number().nullable(),
  /** Over output tokens and prompt tokens that were computed. */
  joulesPerToken: z.number().nullable(),
  installedWatts: z.number().nullable(),
});

const costSchema = z.strictObject({
  deviceDollars: z.number(),
  /** Null without a price of energy or without power figures. */
  energyDollars: z.number().nullable(),
  dollars: z.number(),
  dollarsPerHour: z.number(),
  dollarsPerMillionOutputTokens: z.number().nullable(),
  dollarsPerMillionTokens: z.number().nullable(),
});

const usefulSchema = z.strictObject({
  /** The set of bounds that says which tokens are useful; null: all tokens of completed requests are. */
  slo: z.string().nullable(),
  /** Share of accelerator time in steps. */
  occupancy: shareSchema,
  /** Share of accelerator time on tokens that were delivered within the bounds. */
  usefulShare: shareSchema,
  usefulAcceleratorHours: z.number(),
  /** Accelerator-hours per megawatt-hour of installed power; null without power figures. */
  usefulAcceleratorHoursPerMwh: z.number().nullable(),
});

/** One run: a fleet with a seed. */
export const runResultSchema = z.strictObject({
  seed: z.int(),
  /** `finished`: every request is over. `stuck`: requests are left and nothing will happen. `time`: out of virtual time. */
  end: z.enum(["finished", "stuck", "time"]),
  /** What is wrong with the run as a whole, in sentences; empty for a run that finished and kept up. */
  warnings: z.array(z.string()),
  /** End of the last request, or of the run if requests are left. */
  endMs: z.number(),
  lastArrivalMs: z.number(),
  inFlightAtLastArrival: countSchema,
  numEvents: countSchema,
  traceHash: z.string(),
  /** Where step times come from, as shares of all step time. */
  provenance: z.strictObject({
    sources: z.record(z.string(), shareSchema),
    extrapolatedShare: shareSchema,
    extrapolatedBySource: z.record(z.string(), shareSchema),
  }),
  requests: requestCountsSchema,
  failures: z.array(z.strictObject({ kind: z.string(), count: countSchema })),
  placements: z.record(z.string(), countSchema),
  tokens: z.strictObject({
    input: countSchema,
    cachedInput: countSchema,
    output: countSchema,
    computedPrefill: countSchema,
    computedDecode: countSchema,
  }),
  prefixHitRate: shareSchema.nullable(),
  throughput: z.strictObject({
    requestsPerSecond: z.number(),
    inputTokensPerSecond: z.number(),
    outputTokensPerSecond: z.number(),
    outputTokensPerSecondPerDevice: z.number(),
  }),
  latency: latencySchema,
  byClass: z.array(groupSchema),
  byTenant: z.array(groupSchema),
  slos: z.array(sloResultSchema),
  transfers: z.strictObject({ count: countSchema, bytes: z.number(), durationMs: summarySchema.nullable() }),
  /** Of pools that have tiers of KV below the device, or kept KV for somebody. */
  caches: z.array(poolCachesSchema),
  utilisation: shareSchema,
  workers: z.array(workerSchema),
  energy: energySchema.nullable(),
  cost: costSchema.nullable(),
  useful: usefulSchema,
});

/** Mean over seeds with a 95 % confidence interval by Student's t; the interval is null with one seed. */
const estimateSchema = z.strictObject({
  n: countSchema,
  mean: z.number(),
  low95: z.number().nullable(),
  high95: z.number().nullable(),
});

const poolSchema = z.strictObject({
  name: z.string(),
  role: z.enum(["prefill", "decode", "both"]),
  count: countSchema,
  device: z.string(),
  devicesPerWorker: countSchema,
  parallelism: z.strictObject({ tp: countSchema, pp: countSchema, ep: countSchema, dp: countSchema }),
  policy: z.string(),
  tokenBudget: countSchema,
  maxRunning: countSchema,
  blockTokens: countSchema,
  kvCapacityTokens: z.number(),
});

const fleetSchema = z.strictObject({
  name: z.string(),
  description: z.string(),
  numDevices: countSchema,
  pools: z.array(poolSchema),
  runs: z.array(runResultSchema),
  /** By the name of the metric; metrics that no run has are left out. */
  estimates: z.record(z.string(), estimateSchema),
});

/** Difference of two fleets on the same seeds: second less first, paired by seed. */
const comparisonSchema = z.strictObject({
  first: z.string(),
  second: z.string(),
  /** Whether the interval leaves out zero. False with one seed. */
  differences: z.record(z.string(), estimateSchema.extend({ isSignificant: z.boolean() })),
});

/** A statement that the result rests on and that was not measured. */
const assumptionSchema = z.strictObject({
  /** What it is about: the scenario, a fleet, a part of the catalogue. */
  subject: z.string(),
  statement: z.string(),
});

/** What `twofold simulate --json` prints. Times are in milliseconds; `docs/reference/simulation-report.md` defines each metric. */
export const simulationResultSchema = z.strictObject({
  schemaVersion: z.literal(SIMULATION_SCHEMA_VERSION),
  twofoldVersion: z.string(),
  assumptions: z.array(assumptionSchema),
  /** Warnings of all runs, most serious first, those that seeds share once: `FLEET, seed N: …`. */
  warnings: z.array(z.string()),
  scenario: z.strictObject({
    name: z.string(),
    description: z.string(),
    file: z.string(),
    model: z.string(),
    paper: z.string().nullable(),
    overrides: z.array(z.string()),
    seeds: z.array(z.int()),
  }),
  /** Whether the run was stopped before every fleet had run with every seed. */
  isInterrupted: z.boolean(),
  fleets: z.array(fleetSchema),
  comparisons: z.array(comparisonSchema),
});

export type SimulationResult = z.output<typeof simulationResultSchema>;
export type FleetResult = SimulationResult["fleets"][number];
export type RunResult = z.output<typeof runResultSchema>;
export type PoolDescription = z.output<typeof poolSchema>;
export type Assumption = z.output<typeof assumptionSchema>;
export type Estimate = z.output<typeof estimateSchema>;
