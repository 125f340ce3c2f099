import { z } from "zod";
import type { TokenLogprobs } from "../core/request.ts";
import type { SampledToken } from "../core/scheduler/step-plan.ts";
import { ERRORS, type ErrorCode } from "./errors.ts";
import { encodeReport, reportSchema } from "./report-codec.ts";
import { epochSchema, requestIdSchema, tokenSchema } from "./request-codec.ts";
import type { TokenEvent, WorkerEvent } from "./worker-rpc.ts";

/** Most bytes of one line of the event stream, its newline excluded. A step of 4096 sequences with 20 alternatives fits. */
export const MAX_EVENT_LINE_BYTES = 4 * 1024 * 1024;

/** Most alternatives that a token reports (the bound of the OpenAI API). */
export const MAX_TOP_LOGPROBS = 20;

const MAX_TEXT_LENGTH = 4096;
const MAX_HANDOFF_LABELS = 64;

/** A line that is not an event. The peer speaks another protocol, or wrongly. */
export class EventCodecError extends Error {
  override name = "EventCodecError";
}

/**
 * One event as a line of JSON, without the newline.
 *
 * Token events are the hot path, so they are one flat array with five elements per token and no keys:
 * `["t", requestId, epoch, index, token, logprobs, requestId, …]`, where `logprobs` is 0 or what
 * {@link encodeLogprobs} returns. Everything else is the event as an object, reports as {@link encodeReport} writes them.
 */
export function encodeEvent(event: WorkerEvent): string {
  if (event.kind === "kv" || event.kind === "steps") return JSON.stringify(encodeReport(event));
  if (event.kind !== "tokens") return JSON.stringify(event);
  const flat: unknown[] = ["t"];
  for (const { requestId, epoch, index, sampled } of event.tokens) {
    const logprobs = sampled.logprobs === undefined ? 0 : encodeLogprobs(sampled.logprobs);
    flat.push(requestId, epoch, index, sampled.token, logprobs);
  }
  return JSON.stringify(flat);
}

/** Reads a line that {@link encodeEvent} wrote. Throws {@link EventCodecError}. */
export function decodeEvent(line: string): WorkerEvent {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new EventCodecError(`event line of ${line.length} characters is not JSON`, { cause: error });
  }
  if (Array.isArray(value)) return { kind: "tokens", tokens: decodeTokens(value) };
  const event = eventSchema.safeParse(value);
  if (!event.success) throw new EventCodecError(`not a worker event: ${z.prettifyError(event.error)}`);
  return event.data;
}

/**
 * Log probabilities as a flat array: the token's own, then pairs of token and log probability. JSON has no infinity,
 * so `null` stands for minus infinity, the log probability of a token that cannot be drawn.
 */
export function encodeLogprobs(logprobs: TokenLogprobs): Array<number | null> {
  const flat: Array<number | null> = [finiteOrNull(logprobs.logprob)];
  for (const [token, logprob] of logprobs.top) flat.push(token, finiteOrNull(logprob));
  return flat;
}

/** Reads what {@link encodeLogprobs} wrote, already parsed from JSON. Throws {@link EventCodecError}. */
export function decodeLogprobs(flat: unknown): TokenLogprobs {
  if (!Array.isArray(flat) || flat.length % 2 !== 1 || flat.length > 1 + 2 * MAX_TOP_LOGPROBS) {
    throw new EventCodecError("log probabilities are not an array of one number and at most 20 pairs");
  }
  const top: Array<[token: number, logprob: number]> = [];
  for (let i = 1; i < flat.length; i += 2) {
    const token: unknown = flat[i];
    if (!isToken(token)) throw new EventCodecError("an alternative's token is not a token id");
    top.push([token, logprobOf(flat[i + 1])]);
  }
  return { logprob: logprobOf(flat[0]), top };
}

function decodeTokens(flat: readonly unknown[]): TokenEvent[] {
  if (flat[0] !== "t" || flat.length % 5 !== 1) throw new EventCodecError("not an array of token events");
  const tokens: TokenEvent[] = [];
  for (let i = 1; i < flat.length; i += 5) {
    const requestId = flat[i];
    const epoch = flat[i + 1];
    const index = flat[i + 2];
    const token = flat[i + 3];
    const logprobs = flat[i + 4];
    if (typeof requestId !== "string" || !isUint32(epoch) || !isUint32(index) || !isToken(token)) {
      throw new EventCodecError(
        `token event ${(i - 1) / 5} of a line has a field of the wrong type or range`,
      );
    }
    const sampled: SampledToken = logprobs === 0 ? { token } : { token, logprobs: decodeLogprobs(logprobs) };
    tokens.push({ requestId, epoch, index, sampled });
  }
  return tokens;
}

function isUint32(value: unknown): value is number {
  return typeof value === "number" && value >>> 0 === value;
}

/** Token ids are non-negative 32-bit integers. */
function isToken(value: unknown): value is number {
  return typeof value === "number" && value >= 0 && (value | 0) === value;
}

function finiteOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

function logprobOf(value: unknown): number {
  if (value === null) return Number.NEGATIVE_INFINITY;
  if (typeof value !== "number") throw new EventCodecError("a log probability is not a number");
  return value;
}

const countSchema = z.number().int().nonnegative();
const errorCodeSchema = z.enum(Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]]);

const tierStatsSchema = z.strictObject({
  blocks: countSchema,
  bytes: countSchema,
  hits: countSchema,
  misses: countSchema,
  evictions: countSchema,
  bad: countSchema,
  dropped: countSchema,
});

const prefetchedBytesSchema = z.strictObject({
  started: countSchema,
  used: countSchema,
  wasted: countSchema,
  gone: countSchema,
});

const prefetchStatsSchema = z.strictObject({
  expected: countSchema,
  came: countSchema,
  pending: countSchema,
  begun: countSchema,
  stopped: countSchema,
  bytes: z.strictObject({ host: prefetchedBytesSchema, device: prefetchedBytesSchema }),
});

const loadSchema = z.strictObject({
  numRunning: countSchema,
  numWaiting: countSchema,
  uncomputedTokens: countSchema,
  kvBlocksUsed: countSchema,
  kvBlocksCached: countSchema,
  kvBlocksTotal: countSchema,
  numSteps: countSchema,
  numPreemptions: countSchema,
  prefixTokensHit: countSchema,
  prefixTokensQueried: countSchema,
  handoffs: z
    .record(z.string().max(64), countSchema)
    .refine((labels) => Object.keys(labels).length <= MAX_HANDOFF_LABELS, "too many labels"),
  handoffBytes: countSchema,
  tiers: z.partialRecord(z.enum(["host", "disk"]), tierStatsSchema),
  prefetch: prefetchStatsSchema.nullable(),
  rssBytes: countSchema,
});

const eventSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("finish"),
    requestId: requestIdSchema,
    epoch: epochSchema,
    reason: z.enum(["stop", "length"]),
    numOutputTokens: countSchema,
  }),
  z.strictObject({
    kind: z.literal("cached"),
    requestId: requestIdSchema,
    epoch: epochSchema,
    numTokens: tokenSchema,
  }),
  z.strictObject({
    kind: z.literal("error"),
    requestId: requestIdSchema,
    epoch: epochSchema,
    code: errorCodeSchema,
    message: z.string().transform((text) => text.slice(0, MAX_TEXT_LENGTH)),
  }),
  z.strictObject({ kind: z.literal("load"), load: loadSchema }),
  reportSchema,
]);
