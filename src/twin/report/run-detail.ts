import type { ActivityData } from "../record/activity-series.ts";
import type { HistogramData } from "../record/latency-histogram.ts";
import type { Recorder } from "../record/recorder.ts";
import type { SpanData } from "../record/span-log.ts";
import type { SeriesData } from "../record/time-series.ts";

/** What plots and traces are made of, beside the figures of the result. Plain arrays: it can be sent to another thread. */
export interface RunDetail {
  readonly endMs: number;
  readonly latencies: Readonly<Record<"ttftMs" | "itlMs" | "tpotMs" | "e2eMs", HistogramData>>;
  /** Requests in flight. */
  readonly inFlight: SeriesData;
  /** Requests per millisecond. */
  readonly arrivals: SeriesData;
  readonly completions: SeriesData;
  readonly good: readonly { readonly slo: string; readonly series: SeriesData }[];
  /** Watts above idle, of all accelerators. */
  readonly activePower: SeriesData;
  readonly idleWatts: number | null;
  readonly pools: readonly { readonly name: string; readonly activity: ActivityData }[];
  readonly timelines: readonly WorkerTimeline[];
}

export interface WorkerTimeline {
  readonly worker: string;
  readonly pool: string;
  readonly steps: SpanData;
  readonly sends: SpanData;
  readonly receives: SpanData;
}

export function makeRunDetail(recorder: Recorder, endMs: number): RunDetail {
  const { latencies } = recorder.all;
  for (const [, usage] of recorder.usages) usage.close(endMs);
  const powers = recorder.options.workers.map(({ power }) => power);
  const idle = powers.reduce<number | null>(
    (sum, power) => (sum === null || power === null ? null : sum + power.idleWatts),
    0,
  );
  return {
    endMs,
    latencies: {
      ttftMs: latencies.ttftMs.data(),
      itlMs: latencies.itlMs.data(),
      tpotMs: latencies.tpotMs.data(),
      e2eMs: latencies.e2eMs.data(),
    },
    inFlight: recorder.inFlight.data(endMs),
    arrivals: recorder.arrivals.data(endMs),
    completions: recorder.completions.data(endMs),
    good: recorder.good.map((series, index) => ({
      slo: recorder.tallies[index]!.slo.name,
      series: series.data(endMs),
    })),
    activePower: recorder.activePower.data(endMs),
    idleWatts: powers.length === 0 ? null : idle,
    pools: [...recorder.poolSeries].map(([name, series]) => ({ name, activity: series.data(endMs) })),
    timelines: recorder.usages.map(([worker, usage]) => ({
      worker,
      pool: recorder.poolOf(worker),
      steps: usage.stepSpans.data(),
      sends: usage.sendSpans.data(),
      receives: usage.receiveSpans.data(),
    })),
  };
}
