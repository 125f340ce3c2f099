import type { RecordedRequest } from "../protocol/run-record.ts";
import type { RequestRecord, ResponseTrace } from "./record.ts";

/**
 * A completed request as `requests.jsonl` holds it, or null for one that failed, showed no text, or whose tokens the server did not
 * count: nothing can be compared with it.
 */
export function toRecordedRequest(
  record: RequestRecord,
  trace: ResponseTrace,
  startMs: number,
): RecordedRequest | null {
  const { usage, firstTokenMs, failure } = record;
  const times = trace.contentTimesMs;
  if (failure !== null || usage === null || firstTokenMs === null || usage.outputTokens < 1) return null;
  const since = (timeMs: number): number => round(timeMs - startMs);
  return {
    arrivalMs: since(record.scheduledMs),
    firstTokenMs: since(firstTokenMs),
    lastTokenMs: since(times.at(-1)!),
    endMs: since(record.endMs),
    inputTokens: usage.inputTokens,
    cachedTokens: usage.cachedTokens,
    outputTokens: usage.outputTokens,
    contentChunks: times.length,
    ...(trace.contentTokens === null ? {} : { eventTokens: [...trace.contentTokens] }),
    gapsMs: times.slice(1).map((timeMs, index) => round(timeMs - times[index]!)),
  };
}

/** Microseconds. */
function round(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
