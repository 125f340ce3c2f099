import { z } from "zod";
import type { DispatchEntry, DispatchInput } from "../core/dispatch/recorded-dispatcher.ts";
import type { PlacementCandidate, PlacementDecision } from "../core/router/placement.ts";
import type { RequestEvent } from "../core/worker-effects.ts";
import { countSchema, encodeHashes, encodeReport, hashesSchema, reportSchema } from "./report-codec.ts";

/** Raised when an older reader would misread a log. */
const LOG_VERSION = 1;

/** A recording stops when its file is so long. An hour of a busy gateway takes about as much. */
export const MAX_RECORD_BYTES = 1024 * 1024 * 1024;

/** The longest prompt of a log, in blocks. */
const MAX_PROMPT_BLOCKS = 1024 * 1024;
const MAX_NAME_LENGTH = 256;
const MAX_EVENTS = 1_000_000;

/** Candidates of one decision that are kept: the winner and the cheapest others. A large fleet has thousands of pairs. */
export const MAX_KEPT_CANDIDATES = 64;

/** Terms of a candidate's cost. */
const MAX_TERMS = 64;

/** First line of a log: what was needed to decide besides the inputs. */
export interface DispatchLogHeader {
  readonly twofoldVersion: string;
  readonly world: "server" | "twin";
  /** Name in the registry, and what the policy was told. */
  readonly policy: { readonly name: string; readonly options: Readonly<Record<string, unknown>> };
  readonly dispatcher: {
    readonly maxRequests: number;
    readonly maxWaitMs: number;
    readonly maxAttempts: number;
  };
  readonly blockSizeTokens: number;
}

/** Last line of a log. `full`: the file had reached its bound. */
export interface DispatchLogEnd {
  readonly kind: "end";
  readonly reason: "stopped" | "full";
}

export type DispatchLogLine = DispatchEntry | DispatchLogEnd;

/** A line that is not one of a log. */
export class DispatchLogError extends Error {
  override name = "DispatchLogError";
  readonly code = "bad_dispatch_log";
}

export function encodeLogHeader(header: DispatchLogHeader): string {
  return JSON.stringify({ twofoldDispatchLog: LOG_VERSION, ...header });
}

/** Reads the first line. Throws {@link DispatchLogError} when the file is something else. */
export function decodeLogHeader(line: string): DispatchLogHeader {
  const value = parse(
    line,
    "is no record of twofold serve or simulate; name a file that --record has written",
  );
  const version = z.object({ twofoldDispatchLog: z.number() }).safeParse(value);
  if (!version.success)
    throw new DispatchLogError(
      "is no record of twofold serve or simulate; name a file that --record has written",
    );
  if (version.data.twofoldDispatchLog !== LOG_VERSION) {
    const message = `was recorded in version ${version.data.twofoldDispatchLog} of the format; this release reads ${LOG_VERSION}`;
    throw new DispatchLogError(message);
  }
  const header = headerSchema.safeParse(value);
  if (!header.success) throw new DispatchLogError(`is not valid: ${z.prettifyError(header.error)}`);
  const { twofoldDispatchLog: _, ...rest } = header.data;
  return rest;
}

/** One entry as a line of JSON, without the newline. */
export function encodeLogLine(line: DispatchLogLine): string {
  if (line.kind === "decision") {
    return JSON.stringify({ ...line, decision: comparableDecision(line.decision) });
  }
  if (line.kind === "submit") {
    const { promptBlockHashes, ...request } = line.request;
    const hashes = promptBlockHashes === null ? null : encodeHashes(promptBlockHashes);
    return JSON.stringify({ ...line, request: { ...request, promptBlockHashes: hashes } });
  }
  if (line.kind === "events") {
    return JSON.stringify({ ...line, events: line.events.map(encodeRequestEvent) });
  }
  if (line.kind === "kv") {
    const { kind, worker, nowMs } = line;
    return JSON.stringify({ kind, worker, nowMs, report: encodeReport({ kind, batch: line.batch }) });
  }
  if (line.kind === "steps") {
    const { kind, worker, nowMs } = line;
    return JSON.stringify({ kind, worker, nowMs, report: encodeReport({ kind, steps: line.steps }) });
  }
  return JSON.stringify(line);
}

/** Reads any line but the first. Throws {@link DispatchLogError}. */
export function decodeLogLine(line: string): DispatchLogLine {
  const value = parse(line, "is not JSON: the file is cut off or damaged here");
  const entry = lineSchema.safeParse(value);
  if (!entry.success) throw new DispatchLogError(`is no entry of a record: ${z.prettifyError(entry.error)}`);
  return entry.data as DispatchLogLine;
}

/** Those of a decision's candidates that are kept. */
export function keptCandidates(candidates: readonly PlacementCandidate[]): readonly PlacementCandidate[] {
  if (candidates.length <= MAX_KEPT_CANDIDATES) return candidates;
  const [winner, ...others] = candidates;
  return [winner!, ...others.sort((a, b) => a.cost - b.cost).slice(0, MAX_KEPT_CANDIDATES - 1)];
}

/**
 * A decision in one form, so that two of them are the same exactly when their texts are: keys in a fixed order, and numbers that JSON
 * lacks as text.
 */
export function comparableDecision(decision: PlacementDecision): object {
  const { prefillWorker, decodeWorker, reason, fetch, candidates } = decision;
  return {
    prefillWorker,
    decodeWorker,
    reason,
    ...(fetch === undefined ? {} : { fetch: { from: fetch.from, numTokens: fetch.numTokens } }),
    ...(candidates === undefined
      ? {}
      : {
          candidates: keptCandidates(candidates).map((candidate) => ({
            prefillWorker: candidate.prefillWorker,
            decodeWorker: candidate.decodeWorker,
            fetch:
              candidate.fetch === null
                ? null
                : { from: candidate.fetch.from, numTokens: candidate.fetch.numTokens },
            terms: Object.fromEntries(
              Object.entries(candidate.terms).map(([name, term]) => [name, comparableNumber(term)]),
            ),
            cost: comparableNumber(candidate.cost),
          })),
        }),
  };
}

function comparableNumber(value: number): number | string {
  if (Object.is(value, -0)) return "-0";
  return Number.isFinite(value) ? value : String(value);
}

/** Tokens are counted, not named. */
function encodeRequestEvent(event: RequestEvent): unknown[] {
  const { requestId, epoch } = event;
  if (event.kind === "token") return ["t", requestId, epoch, event.index, 1];
  if (event.kind === "run") return ["t", requestId, epoch, event.index, event.tokens.length];
  if (event.kind === "cached") return ["c", requestId, epoch, event.numTokens];
  if (event.kind === "finish") return ["f", requestId, epoch, event.reason, event.numOutputTokens];
  return ["x", requestId, epoch, event.reason];
}

function parse(line: string, message: string): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    throw new DispatchLogError(message, { cause: error });
  }
}

const nameSchema = z.string().max(MAX_NAME_LENGTH);
const timeSchema = z.number();
const amountSchema = z.number().nonnegative();

const headerSchema = z.strictObject({
  twofoldDispatchLog: z.literal(LOG_VERSION),
  twofoldVersion: nameSchema,
  world: z.enum(["server", "twin"]),
  policy: z.strictObject({ name: nameSchema, options: z.record(nameSchema, z.unknown()) }),
  dispatcher: z.strictObject({
    maxRequests: z.int().positive(),
    maxWaitMs: z.number().positive(),
    maxAttempts: z.int().positive(),
  }),
  blockSizeTokens: z.int().positive(),
});

const ANY_TOKEN = { token: 0 };

const attempt = [nameSchema, countSchema] as const;
const requestEventSchema = z
  .union([
    z.tuple([z.literal("t"), ...attempt, countSchema, z.int().min(0).max(MAX_EVENTS)]),
    z.tuple([z.literal("c"), ...attempt, countSchema]),
    z.tuple([z.literal("f"), ...attempt, z.enum(["stop", "length"]), countSchema]),
    z.tuple([
      z.literal("x"),
      ...attempt,
      z.enum(["no_space", "verification", "timeout", "peer_lost", "cancelled", "unknown_request"]),
    ]),
  ])
  .transform((event): RequestEvent => {
    const [kind, requestId, epoch] = event;
    if (kind === "c") return { kind: "cached", requestId, epoch, numTokens: event[3] };
    if (kind === "x") return { kind: "failed", requestId, epoch, reason: event[3] };
    if (kind === "f")
      return { kind: "finish", requestId, epoch, reason: event[3], numOutputTokens: event[4] };
    return { kind: "run", requestId, epoch, index: event[3], tokens: Array(event[4]).fill(ANY_TOKEN) };
  });

const requestSchema = z.strictObject({
  id: nameSchema,
  numPromptTokens: countSchema,
  numResumedTokens: countSchema,
  maxOutputTokens: countSchema,
  priority: z.number(),
  firstTokenGoalMs: amountSchema.exactOptional(),
  expectedFanOut: countSchema.exactOptional(),
  promptBlockHashes: hashesSchema(MAX_PROMPT_BLOCKS).nullable(),
});

const workerSchema = z.strictObject({
  id: nameSchema,
  role: z.enum(["prefill", "decode", "both"]),
  kvTokensTotal: countSchema,
  tokenBudget: countSchema,
  maxRunning: countSchema,
  kvBytesPerToken: amountSchema,
});

const fetchSchema = z.strictObject({ from: nameSchema, numTokens: countSchema });
const figureSchema = z.union([z.number(), z.enum(["-0", "NaN", "Infinity", "-Infinity"]).transform(Number)]);

/** A decision as {@link comparableDecision} writes it. */
export const decisionSchema = z.strictObject({
  prefillWorker: nameSchema,
  decodeWorker: nameSchema,
  reason: z.string().max(MAX_NAME_LENGTH),
  fetch: fetchSchema.optional(),
  candidates: z
    .array(
      z.strictObject({
        prefillWorker: nameSchema,
        decodeWorker: nameSchema,
        fetch: fetchSchema.nullable(),
        terms: z
          .record(nameSchema, figureSchema)
          .refine((terms) => Object.keys(terms).length <= MAX_TERMS, `has more than ${MAX_TERMS} terms`),
        cost: figureSchema,
      }),
    )
    .max(MAX_KEPT_CANDIDATES)
    .optional(),
});

const requestId = nameSchema;
const worker = nameSchema;
const nowMs = timeSchema;

const lineSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("submit"), request: requestSchema, nowMs }),
  z.strictObject({ kind: z.literal("cancel"), requestId, nowMs }),
  z.strictObject({ kind: z.literal("ready"), worker: workerSchema, nowMs }),
  z.strictObject({ kind: z.literal("draining"), worker }),
  z.strictObject({ kind: z.literal("queue"), worker, numQueued: countSchema }),
  z.strictObject({ kind: z.literal("lost"), worker, nowMs }),
  z
    .strictObject({ kind: z.literal("kv"), worker, nowMs, report: reportSchema })
    .transform((line, context) => {
      const { report, ...rest } = line;
      if (report.kind === "kv") return { ...rest, batch: report.batch } satisfies DispatchInput;
      context.addIssue("holds another report");
      return z.NEVER;
    }),
  z
    .strictObject({ kind: z.literal("steps"), worker, nowMs, report: reportSchema })
    .transform((line, context) => {
      const { report, ...rest } = line;
      if (report.kind === "steps") return { ...rest, steps: report.steps } satisfies DispatchInput;
      context.addIssue("holds another report");
      return z.NEVER;
    }),
  z.strictObject({
    kind: z.literal("transfer"),
    from: nameSchema,
    to: nameSchema,
    bytes: amountSchema,
    ms: amountSchema,
    nowMs,
  }),
  z.strictObject({
    kind: z.literal("failed"),
    requestId,
    epoch: countSchema,
    failure: z.enum(["queue_full", "no_workers", "worker_lost", "kv_exhausted", "too_long"]),
    nowMs,
  }),
  z.strictObject({
    kind: z.literal("events"),
    worker,
    events: z.array(requestEventSchema).max(MAX_EVENTS),
    nowMs,
  }),
  z.strictObject({ kind: z.literal("tick"), nowMs }),
  z.strictObject({ kind: z.literal("decision"), requestId, decision: decisionSchema }),
  z.strictObject({ kind: z.literal("end"), reason: z.enum(["stopped", "full"]) }),
]);
