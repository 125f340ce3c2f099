import type { ActivityData } from "../../record/activity-series.ts";
import type { HistogramData } from "../../record/latency-histogram.ts";
import { SPAN_KINDS, type SpanData } from "../../record/span-log.ts";
import type { SeriesData } from "../../record/time-series.ts";
import type { RunDetail } from "../run-detail.ts";

/** A run whose plots are on the page. */
export interface DetailedRun {
  readonly fleet: string;
  readonly seed: number;
  readonly detail: RunDetail;
}

/** Most points of one curve of a distribution. */
const MAX_CDF_POINTS = 300;

/** Most points of a curve of counted events, which needs some of them in every bucket. */
const MAX_COUNT_POINTS = 64;

/** Most workers whose timelines are on the page, per fleet. */
export const MAX_PAGE_TIMELINES = 64;

/** A plot with one line per entry; `x` and `y` of a line have one length. */
export interface PagePlot {
  readonly id: string;
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly isLogX: boolean;
  readonly lines: readonly {
    readonly label: string;
    /** Place of its fleet, which gives the colour; `dash`: which of the fleet's lines it is. */
    readonly fleet: number;
    readonly dash: number;
    readonly x: readonly number[];
    readonly y: readonly number[];
  }[];
}

/** Spans of a lane, arrays as base64 of their bytes in little-endian order. */
interface PageSpans {
  readonly start: string;
  readonly duration: string;
  readonly kind: string;
  readonly amount: string;
  readonly merged: string;
  readonly count: number;
  readonly resolutionMs: number;
}

export interface PageTimeline {
  readonly fleet: string;
  readonly endMs: number;
  readonly workers: readonly {
    readonly name: string;
    readonly pool: string;
    readonly steps: PageSpans;
    readonly transfers: PageSpans;
  }[];
}

/** What the page's script draws. */
export interface PageData {
  readonly kinds: readonly string[];
  readonly plots: readonly PagePlot[];
  readonly timelines: readonly PageTimeline[];
}

export function pageData(runs: readonly DetailedRun[], blockCapacity: ReadonlyMap<string, number>): PageData {
  return {
    kinds: SPAN_KINDS,
    plots: plotsOf(runs, blockCapacity).filter((plot) => plot.lines.length > 0),
    timelines: runs.map(({ fleet, detail }) => ({
      fleet,
      endMs: detail.endMs,
      workers: detail.timelines
        .slice(0, MAX_PAGE_TIMELINES)
        .map(({ worker, pool, steps, sends, receives }) => ({
          name: worker,
          pool,
          steps: encodeSpans(steps),
          transfers: encodeSpans(joinSpans(sends, receives)),
        })),
    })),
  };
}

function plotsOf(runs: readonly DetailedRun[], blockCapacity: ReadonlyMap<string, number>): PagePlot[] {
  const names = { ttftMs: "TTFT", itlMs: "ITL", tpotMs: "TPOT", e2eMs: "E2E" } as const;
  const distributions = Object.entries(names).map(
    ([metric, name]): PagePlot => ({
      id: `cdf-${metric}`,
      title: `${name}: share of ${metric === "itlMs" ? "gaps" : "requests"} within a time`,
      xLabel: `${name} [ms]`,
      yLabel: "share",
      isLogX: true,
      lines: runs.flatMap(({ fleet, detail }, index) => {
        const data = detail.latencies[metric as keyof typeof names];
        return data.values.length === 0 ? [] : [{ label: fleet, fleet: index, dash: 0, ...cdf(data) }];
      }),
    }),
  );
  const perRun = (
    id: string,
    title: string,
    yLabel: string,
    of: (detail: RunDetail, fleet: string) => Line[],
  ): PagePlot => ({
    id,
    title,
    xLabel: "time [s]",
    yLabel,
    isLogX: false,
    lines: runs.flatMap(({ fleet, detail }, index) =>
      of(detail, fleet).map(({ label, x, y }, dash) => ({
        label: label === "" ? fleet : `${fleet}: ${label}`,
        fleet: index,
        dash,
        x,
        y,
      })),
    ),
  });
  return [
    ...distributions,
    perRun("in-flight", "Queue: requests in flight", "requests", (detail) => [line("", detail.inFlight, 1)]),
    perRun("goodput", "Goodput: requests per second", "requests/s", (detail) =>
      detail.good.length > 0
        ? detail.good.map(({ slo, series }) => line(slo, coarser(series), 1000))
        : [line("completed", coarser(detail.completions), 1000)],
    ),
    perRun("kv", "KV use", "share of the blocks", (detail, fleet) =>
      detail.pools.flatMap(({ name, activity }) => {
        const capacity = blockCapacity.get(`${fleet}/${name}`) ?? 0;
        return capacity > 0 ? [line(name, activity.kvUsedBlocks, 1 / capacity)] : [];
      }),
    ),
    perRun("batch", "Sequences in steps", "sequences", (detail) => poolLines(detail, "batch", 1)),
    perRun("links", "Link use: KV sent", "GB/s", (detail) => poolLines(detail, "sentBytes", 1e-6)),
    perRun("power", "Power, without transfers and PUE", "kW", powerLines),
  ];
}

interface Line {
  readonly label: string;
  readonly x: readonly number[];
  readonly y: readonly number[];
}

function poolLines(detail: RunDetail, key: keyof ActivityData, scale: number): Line[] {
  return detail.pools
    .map(({ name, activity }) => line(name, activity[key], scale))
    .filter(({ y }) => y.some((value) => value > 0));
}

function powerLines(detail: RunDetail): Line[] {
  const { idleWatts } = detail;
  if (idleWatts === null) return [];
  const { x, y } = line("", detail.activePower, 1e-3);
  return [{ label: "", x, y: y.map((value) => value + round(idleWatts / 1000)) }];
}

/** A series as points in the middle of its buckets. */
function line(label: string, series: SeriesData, scale: number): Line {
  return {
    label,
    x: Array.from(series.means, (_, index) => round(((index + 0.5) * series.widthMs) / 1000)),
    y: Array.from(series.means, (mean) => round(mean * scale)),
  };
}

/** Neighbouring buckets put together until there are few enough. */
function coarser(series: SeriesData): SeriesData {
  const by = Math.ceil(series.means.length / MAX_COUNT_POINTS);
  const length = Math.ceil(series.means.length / by);
  const means = Float64Array.from({ length }, (_, index) => {
    const part = series.means.subarray(index * by, (index + 1) * by);
    // The last group may be shorter.
    return part.reduce((sum, mean) => sum + mean, 0) / part.length;
  });
  return { widthMs: series.widthMs * by, means };
}

function cdf(data: HistogramData): { x: number[]; y: number[] } {
  let total = 0;
  for (const count of data.counts) total += count;
  const first = data.values[0] ?? 0;
  const x: number[] = [round(Math.max(first * 0.999, 1e-3))];
  const y: number[] = [0];
  let seen = 0;
  let shownUntil = -1;
  for (const [index, value] of data.values.entries()) {
    seen += data.counts[index]!;
    const point = Math.floor((seen / total) * MAX_CDF_POINTS);
    if (point === shownUntil && index < data.values.length - 1 && seen / total < 0.99) continue;
    shownUntil = point;
    const shown = round(Math.max(value, 1e-3));
    if (shown === x.at(-1)) y[y.length - 1] = round(seen / total);
    else {
      x.push(shown);
      y.push(round(seen / total));
    }
  }
  return { x, y };
}

/** Six significant digits: enough for any screen, and a third of the text. */
function round(value: number): number {
  return Number(value.toPrecision(6));
}

/** Spans of two logs in one, ascending by start. */
function joinSpans(a: SpanData, b: SpanData): SpanData {
  if (b.startMs.length === 0) return a;
  if (a.startMs.length === 0) return b;
  const parts = [a, b].flatMap((spans) =>
    Array.from(spans.startMs, (startMs, index) => ({ spans, index, startMs })),
  );
  parts.sort((one, other) => one.startMs - other.startMs);
  return {
    startMs: Float64Array.from(parts, ({ startMs }) => startMs),
    endMs: Float64Array.from(parts, ({ spans, index }) => spans.endMs[index]!),
    kind: Uint8Array.from(parts, ({ spans, index }) => spans.kind[index]!),
    amount: Float64Array.from(parts, ({ spans, index }) => spans.amount[index]!),
    numMerged: Uint32Array.from(parts, ({ spans, index }) => spans.numMerged[index]!),
    resolutionMs: Math.max(a.resolutionMs, b.resolutionMs),
  };
}

function encodeSpans(spans: SpanData): PageSpans {
  const duration = Float32Array.from(spans.startMs, (start, index) => spans.endMs[index]! - start);
  return {
    start: base64(spans.startMs),
    duration: base64(duration),
    kind: base64(spans.kind),
    amount: base64(Float32Array.from(spans.amount)),
    merged: base64(spans.numMerged),
    count: spans.startMs.length,
    resolutionMs: spans.resolutionMs,
  };
}

function base64(array: Float64Array | Float32Array | Uint8Array | Uint32Array): string {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");
}
