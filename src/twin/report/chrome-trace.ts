import { SPAN_KINDS, type SpanData } from "../record/span-log.ts";
import type { SeriesData } from "../record/time-series.ts";
import type { RunDetail } from "./run-detail.ts";

/** A run as one process of the trace. */
export interface TracedRun {
  readonly name: string;
  readonly detail: RunDetail;
}

const US_PER_MS = 1000;

/**
 * Timelines in Chrome's Trace Event Format (the JSON object form; "X" complete, "C" counter and "M" metadata events, times in
 * microseconds), which Perfetto and chrome://tracing open. The text comes in pieces, as one string could be too long.
 */
export function* chromeTrace(runs: readonly TracedRun[]): Generator<string> {
  yield '{"displayTimeUnit":"ms","traceEvents":[\n';
  let separator = "";
  for (const [index, run] of runs.entries()) {
    for (const event of runEvents(run, index + 1)) {
      yield `${separator}${JSON.stringify(event)}`;
      separator = ",\n";
    }
  }
  yield "\n]}\n";
}

function* runEvents({ name, detail }: TracedRun, pid: number): Generator<object> {
  yield { ph: "M", pid, name: "process_name", args: { name } };
  for (const [index, { worker, pool, steps, sends, receives }] of detail.timelines.entries()) {
    // Transfers overlap with steps and with each other, so every worker has a lane for each direction too.
    const lanes = { steps: 3 * index + 1, send: 3 * index + 2, receive: 3 * index + 3 };
    yield* laneNames(pid, lanes.steps, `${worker} steps (${pool})`);
    yield* spanEvents(steps, pid, lanes.steps, "tokens");
    if (sends.startMs.length > 0) {
      yield* laneNames(pid, lanes.send, `${worker} sends`);
      yield* spanEvents(sends, pid, lanes.send, "bytes");
    }
    if (receives.startMs.length > 0) {
      yield* laneNames(pid, lanes.receive, `${worker} receives`);
      yield* spanEvents(receives, pid, lanes.receive, "bytes");
    }
  }
  yield* counter(detail.inFlight, pid, "requests in flight", 1);
  for (const { name: pool, activity } of detail.pools) {
    yield* counter(activity.kvUsedBlocks, pid, `KV blocks ${pool}`, 1);
    yield* counter(activity.sentBytes, pid, `sent ${pool} [GB/s]`, 1e-6);
  }
}

function* laneNames(pid: number, tid: number, name: string): Generator<object> {
  yield { ph: "M", pid, tid, name: "thread_name", args: { name } };
  yield { ph: "M", pid, tid, name: "thread_sort_index", args: { sort_index: tid } };
}

function* spanEvents(spans: SpanData, pid: number, tid: number, unit: "tokens" | "bytes"): Generator<object> {
  for (let i = 0; i < spans.startMs.length; i++) {
    const kind = SPAN_KINDS[spans.kind[i]!]!;
    const ts = spans.startMs[i]! * US_PER_MS;
    const args = { [unit]: spans.amount[i], merged: spans.numMerged[i] };
    yield {
      ph: "X",
      pid,
      tid,
      name: kind,
      cat: unit,
      ts,
      dur: spans.endMs[i]! * US_PER_MS - ts,
      args,
    };
  }
}

function* counter(series: SeriesData, pid: number, name: string, scale: number): Generator<object> {
  for (const [index, mean] of series.means.entries()) {
    yield { ph: "C", pid, name, ts: index * series.widthMs * US_PER_MS, args: { value: mean * scale } };
  }
}
