import { z } from "zod";
import { type Summary, summarize } from "../core/util/quantiles.ts";
import type { LoadOptions, Slo } from "./options.ts";
import type { PromptCalibration } from "./prompts.ts";
import { e2eMsOf, outputTokensOf, type RequestRecord, tpotMsOf, ttftMsOf } from "./record.ts";

/** Raised with every change to the report that a reader of the older form would misread. */
const REPORT_SCHEMA_VERSION = 1;

const countSchema = z.int().min(0);

const summarySchema = z
  .strictObject({
    count: countSchema,
    mean: z.number(),
    p50: z.number(),
    p90: z.number(),
    p95: z.number(),
    p99: z.number(),
    p999: z.number(),
    max: z.number(),
  })
  .nullable();

const boundSchema = z.number().nullable();

/** What `twofold bench --json` prints. Times are in milliseconds; `docs/reference/cli.md` defines each metric. */
export const loadReportSchema = z.strictObject({
  schemaVersion: z.literal(REPORT_SCHEMA_VERSION),
  /** ISO 8601, UTC. */
  startedAt: z.string(),
  /** Whether the run was stopped before its end. */
  isInterrupted: z.boolean(),
  target: z.strictObject({ url: z.string(), endpoint: z.enum(["completions", "chat"]), model: z.string() }),
  load: z.strictObject({
    arrivals: z.enum(["poisson", "uniform", "concurrency", "workload"]),
    /** Name of the workload that was replayed; the lengths are its own then. */
    workload: z.string().nullable(),
    requestsPerSecond: z.number().nullable(),
    concurrency: countSchema.nullable(),
    inputLengths: z.record(z.string(), z.unknown()),
    outputLengths: z.record(z.string(), z.unknown()),
    sharedPrefixShare: z.number(),
    ignoreEos: z.boolean(),
    temperature: z.number(),
    seed: z.int(),
    numWarmupRequests: countSchema,
    maxInFlight: countSchema,
    requestTimeoutMs: z.number(),
  }),
  prompts: z.strictObject({
    method: z.enum(["tokenize", "usage", "assumed"]),
    isExact: z.boolean(),
    tokensPerWord: z.number(),
    overheadTokens: countSchema,
  }),
  /** `scheduled` = `completed` + `failed` + `dropped` + `aborted`. */
  requests: z.strictObject({
    scheduled: countSchema,
    completed: countSchema,
    failed: countSchema,
    dropped: countSchema,
    aborted: countSchema,
  }),
  failures: z.array(z.strictObject({ kind: z.string(), count: countSchema, example: z.string() })),
  /** From the start of the run to the end of its last response. */
  durationMs: z.number(),
  /** Over completed requests and the duration. */
  throughput: z.strictObject({
    requestsPerSecond: z.number(),
    inputTokensPerSecond: z.number(),
    outputTokensPerSecond: z.number(),
  }),
  /** Over completed requests. Input tokens are known only by usage. */
  tokens: z.strictObject({
    input: countSchema,
    cachedInput: countSchema,
    output: countSchema,
    requestedOutput: countSchema,
    countedBy: z.enum(["usage", "chunks", "mixed"]),
    contentChunks: countSchema,
  }),
  /** Over completed requests, but for `sendDelayMs`, which is over all that were sent. */
  latency: z.strictObject({
    ttftMs: summarySchema,
    ttftFromSentMs: summarySchema,
    itlMs: summarySchema,
    tpotMs: summarySchema,
    e2eMs: summarySchema,
    /** How late the load generator itself was: from scheduled arrival to sending. */
    sendDelayMs: summarySchema,
  }),
  /** How many gaps there were, and of how many the ITL quantiles are made: beyond a bound, a uniform sample. */
  itlGaps: z.strictObject({ seen: countSchema, recorded: countSchema }),
  slo: z.strictObject({ ttftMs: boundSchema, itlMs: boundSchema, e2eMs: boundSchema }),
  /** Null without an SLO. `share` is of all scheduled requests that were not aborted. */
  goodput: z.strictObject({ requestsPerSecond: z.number(), good: countSchema, share: z.number() }).nullable(),
});

export type LoadReport = z.output<typeof loadReportSchema>;

/** What a run leaves behind. */
export interface LoadResult {
  readonly startedAt: string;
  readonly isInterrupted: boolean;
  readonly model: string;
  readonly calibration: PromptCalibration;
  readonly records: readonly RequestRecord[];
  readonly numDropped: number;
  readonly startMs: number;
  readonly endMs: number;
  readonly gapsMs: Float64Array;
  readonly numGapsSeen: number;
}

/** Whether a request completed within all bounds that are set. A metric that it does not have is within. */
export function meetsSlo(record: RequestRecord, slo: Slo): boolean {
  if (record.failure !== null) return false;
  const isWithin = (value: number | null, bound: number | null): boolean =>
    bound === null || value === null || value <= bound;
  return (
    isWithin(ttftMsOf(record), slo.ttftMs) &&
    isWithin(record.meanItlMs, slo.itlMs) &&
    isWithin(e2eMsOf(record), slo.e2eMs)
  );
}

/** Computes the report of a run. Empty runs give zeros and nulls. */
export function makeReport(options: LoadOptions, result: LoadResult): LoadReport {
  const { records, calibration } = result;
  const completed = records.filter((record) => record.failure === null);
  const numAborted = records.filter((record) => record.failure?.kind === "aborted").length;
  const durationMs = result.endMs - result.startMs;
  const perSecond = (count: number): number => (durationMs > 0 ? (count * 1000) / durationMs : 0);
  const tokens = countTokens(completed);
  const good = completed.filter((record) => meetsSlo(record, options.slo)).length;
  const numScheduled = records.length + result.numDropped;
  const hasSlo = Object.values(options.slo).some((bound) => bound !== null);
  return {
    schemaVersion: REPORT_SCHEMA_VERSION,
    startedAt: result.startedAt,
    isInterrupted: result.isInterrupted,
    target: { url: options.url.href, endpoint: options.endpoint, model: result.model },
    load: describeLoad(options),
    prompts: {
      method: calibration.method,
      isExact: calibration.method === "tokenize",
      tokensPerWord: calibration.tokensPerWord,
      overheadTokens: calibration.overheadTokens,
    },
    requests: {
      scheduled: numScheduled,
      completed: completed.length,
      failed: records.length - completed.length - numAborted,
      dropped: result.numDropped,
      aborted: numAborted,
    },
    failures: tallyFailures(records),
    durationMs,
    throughput: {
      requestsPerSecond: perSecond(completed.length),
      inputTokensPerSecond: perSecond(tokens.input),
      outputTokensPerSecond: perSecond(tokens.output),
    },
    tokens,
    latency: {
      ttftMs: summarizeKnown(completed.map(ttftMsOf)),
      ttftFromSentMs: summarizeKnown(
        completed.map(({ firstTokenMs, sentMs }) => (firstTokenMs === null ? null : firstTokenMs - sentMs)),
      ),
      itlMs: summarize(result.gapsMs),
      tpotMs: summarizeKnown(completed.map(tpotMsOf)),
      e2eMs: summarizeKnown(completed.map(e2eMsOf)),
      sendDelayMs: summarizeKnown(records.map(({ sentMs, scheduledMs }) => sentMs - scheduledMs)),
    },
    itlGaps: { seen: result.numGapsSeen, recorded: result.gapsMs.length },
    slo: { ...options.slo },
    goodput: hasSlo
      ? { requestsPerSecond: perSecond(good), good, share: good / Math.max(numScheduled - numAborted, 1) }
      : null,
  };
}

function describeLoad(options: LoadOptions): LoadReport["load"] {
  const { arrivals } = options;
  const isReplay = arrivals.kind === "workload";
  return {
    arrivals: arrivals.kind,
    workload: isReplay ? arrivals.name : null,
    requestsPerSecond: "requestsPerSecond" in arrivals ? arrivals.requestsPerSecond : null,
    concurrency: arrivals.kind === "concurrency" ? arrivals.numRequests : null,
    inputLengths: isReplay ? { kind: "workload" } : { ...options.inputLengths },
    outputLengths: isReplay ? { kind: "workload" } : { ...options.outputLengths },
    sharedPrefixShare: options.sharedPrefixShare,
    ignoreEos: options.ignoreEos,
    temperature: options.temperature,
    seed: options.seed,
    numWarmupRequests: options.numWarmupRequests,
    maxInFlight: options.maxInFlight,
    requestTimeoutMs: options.requestTimeoutMs,
  };
}

function countTokens(completed: readonly RequestRecord[]): LoadReport["tokens"] {
  let input = 0;
  let cachedInput = 0;
  let output = 0;
  let requestedOutput = 0;
  let contentChunks = 0;
  let numWithUsage = 0;
  for (const record of completed) {
    input += record.usage?.inputTokens ?? 0;
    cachedInput += record.usage?.cachedTokens ?? 0;
    output += outputTokensOf(record);
    requestedOutput += record.requestedOutputTokens;
    contentChunks += record.numContentChunks;
    if (record.usage !== null) numWithUsage++;
  }
  const isAll = numWithUsage === completed.length;
  const countedBy = isAll ? "usage" : numWithUsage === 0 ? "chunks" : "mixed";
  return { input, cachedInput, output, requestedOutput, countedBy, contentChunks };
}

/** Failures by kind, the most frequent first, each with the first message that was seen. */
function tallyFailures(records: readonly RequestRecord[]): LoadReport["failures"] {
  const byKind = new Map<string, { kind: string; count: number; example: string }>();
  for (const { failure } of records) {
    if (failure === null || failure.kind === "aborted") continue;
    const entry = byKind.get(failure.kind);
    if (entry === undefined)
      byKind.set(failure.kind, { kind: failure.kind, count: 1, example: failure.message });
    else entry.count++;
  }
  return [...byKind.values()].sort((a, b) => b.count - a.count || (a.kind < b.kind ? -1 : 1));
}

function summarizeKnown(values: ReadonlyArray<number | null>): Summary | null {
  return summarize(values.filter((value) => value !== null));
}
