/** Why a request did not complete. `http_` is followed by the status. */
export type FailureKind =
  /** No connection: refused, unknown host, time-out of the connection attempt. */
  | "connect"
  /** The connection broke before the response was complete. */
  | "connection_lost"
  | `http_${number}`
  /** Status 200, but no event stream. */
  | "not_a_stream"
  /** The server reported an error inside the stream. */
  | "stream_error"
  /** The stream held something that is not an event, JSON or UTF-8. */
  | "malformed"
  /** The response ended without a finish reason or without `[DONE]`. */
  | "truncated"
  | "timeout"
  /** The run was interrupted. */
  | "aborted";

export interface Failure {
  readonly kind: FailureKind;
  readonly message: string;
}

/** Token counts as the server gave them. */
export interface Usage {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cachedTokens: number;
}

/** What was seen of one response. Times are of the monotonic clock, taken when the bytes arrived. */
export interface ResponseTrace {
  readonly sentMs: number;
  /** When each content chunk arrived: an event with text that is not empty. One chunk may hold several tokens. */
  readonly contentTimesMs: readonly number[];
  /** Output tokens that the server had told of at each of them; null unless it told at all of them. */
  readonly contentTokens: readonly number[] | null;
  readonly endMs: number;
  readonly usage: Usage | null;
  /** Null when the request completed. */
  readonly failure: Failure | null;
}

/**
 * One measured request, reduced to what the report needs. The definitions of its metrics:
 *
 * - TTFT: from the scheduled arrival to the first content chunk. In an open loop a request that the client sends late, or that
 *   queues in the server, pays for it (no coordinated omission); in a closed loop it is scheduled when it is sent.
 * - TTFT from sent: the same from the moment the request was handed to the HTTP client; a new connection is part of it.
 * - ITL: the gaps between consecutive content chunks after the first.
 * - TPOT: (E2E − TTFT) / (output tokens − 1), for outputs of at least two tokens.
 * - E2E: from the scheduled arrival to the end of the response.
 */
export interface RequestRecord {
  readonly scheduledMs: number;
  readonly sentMs: number;
  readonly firstTokenMs: number | null;
  readonly endMs: number;
  readonly numContentChunks: number;
  /** Mean of the request's ITL, or null with fewer than two content chunks. */
  readonly meanItlMs: number | null;
  readonly requestedOutputTokens: number;
  readonly usage: Usage | null;
  readonly failure: Failure | null;
}

/** Reduces a trace to a record. */
export function toRecord(
  scheduledMs: number,
  requestedOutputTokens: number,
  trace: ResponseTrace,
): RequestRecord {
  const times = trace.contentTimesMs;
  const firstTokenMs = times[0] ?? null;
  const meanItlMs = times.length < 2 ? null : (times[times.length - 1]! - times[0]!) / (times.length - 1);
  return {
    scheduledMs,
    sentMs: trace.sentMs,
    firstTokenMs,
    endMs: trace.endMs,
    numContentChunks: times.length,
    meanItlMs,
    requestedOutputTokens,
    usage: trace.usage,
    failure: trace.failure,
  };
}

/** Output tokens by the server's count, or one per content chunk when it gave none. */
export function outputTokensOf(record: RequestRecord): number {
  return record.usage?.outputTokens ?? record.numContentChunks;
}

/** TTFT from the scheduled arrival, or null when no content came. */
export function ttftMsOf(record: RequestRecord): number | null {
  return record.firstTokenMs === null ? null : record.firstTokenMs - record.scheduledMs;
}

export function e2eMsOf(record: RequestRecord): number {
  return record.endMs - record.scheduledMs;
}

/** TPOT, or null for outputs of fewer than two tokens. */
export function tpotMsOf(record: RequestRecord): number | null {
  const ttftMs = ttftMsOf(record);
  const numTokens = outputTokensOf(record);
  return ttftMs === null || numTokens < 2 ? null : (e2eMsOf(record) - ttftMs) / (numTokens - 1);
}
