import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StepLoad } from "../../core/perf/step-load.ts";
import { quantile } from "../../core/util/quantiles.ts";
import type { StepRow } from "../observer.ts";
import { IntervalUnion } from "./interval-union.ts";
import { MAX_GROUPS, REST_GROUP } from "./latencies.ts";
import { HISTOGRAM_RELATIVE_ERROR, LatencyHistogram, MAX_EXACT_VALUES } from "./latency-histogram.ts";
import { Recorder } from "./recorder.ts";
import { SPAN_KINDS, SpanLog } from "./span-log.ts";
import { MAX_SERIES_BUCKETS, TimeSeries } from "./time-series.ts";

const SHARES = [0, 0.01, 0.5, 0.9, 0.99, 0.999, 1];
const latencies = fc.array(fc.double({ min: 0, max: 1e7, noNaN: true }), { minLength: 1, maxLength: 400 });

describe("histogram", () => {
  test("small sets have exact quantiles, weights counted as repetitions", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.double({ min: 0, max: 1e6, noNaN: true }), fc.integer({ min: 1, max: 5 })), {
          minLength: 1,
        }),
        (entries) => {
          const histogram = new LatencyHistogram();
          for (const [value, count] of entries) histogram.add(value, count);
          const all = entries
            .flatMap(([value, count]) => Array.from({ length: count }, () => value))
            .sort((a, b) => a - b);
          expect(histogram.isExact).toBe(true);
          for (const share of SHARES) expect(histogram.quantile(share)).toBe(quantile(all, share));
        },
      ),
    );
  });

  test("large sets have quantiles within the stated relative error, and exact mean and extremes", () => {
    fc.assert(
      fc.property(latencies, (values) => {
        const histogram = new LatencyHistogram();
        const all: number[] = [];
        for (let i = 0; all.length <= MAX_EXACT_VALUES; i++)
          all.push(values[i % values.length]! * (1 + i / 1e5));
        for (const value of all) histogram.add(value);
        all.sort((a, b) => a - b);
        expect(histogram.isExact).toBe(false);
        for (const share of SHARES) {
          const exact = quantile(all, share);
          const error = Math.abs(histogram.quantile(share)! - exact);
          expect(error).toBeLessThanOrEqual(exact * HISTOGRAM_RELATIVE_ERROR * 1.000001 + 1e-9);
        }
        const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
        expect(histogram.summary()!.mean).toBeCloseTo(mean, 4);
        expect(histogram.summary()!.max).toBe(all.at(-1));
      }),
      { numRuns: 30 },
    );
  });

  test("merging gives what one histogram of all values gives", () => {
    fc.assert(
      fc.property(latencies, latencies, fc.constantFrom(1, 40), (left, right, repeats) => {
        const whole = new LatencyHistogram();
        const parts = [left, right].map((values) => {
          const part = new LatencyHistogram();
          for (let i = 0; i < repeats; i++) for (const value of values) part.add(value);
          for (let i = 0; i < repeats; i++) for (const value of values) whole.add(value);
          return part;
        });
        const merged = new LatencyHistogram();
        for (const part of parts) merged.merge(part.data());
        expect(merged.count).toBe(whole.count);
        expect(merged.summary()!.mean).toBeCloseTo(whole.summary()!.mean, 6);
        for (const share of SHARES) {
          const expected = whole.quantile(share)!;
          expect(Math.abs(merged.quantile(share)! - expected)).toBeLessThanOrEqual(expected * 0.0101 + 1e-9);
        }
      }),
      { numRuns: 40 },
    );
  });

  test("memory stays bounded whatever is added", () => {
    const histogram = new LatencyHistogram();
    for (let i = 0; i < 50_000; i++) histogram.add(10 ** ((i % 27) - 9));
    expect(histogram.data().values.length).toBeLessThanOrEqual(27);
  });
});

describe("series", () => {
  test("the integral over all buckets is what was added, however often the width doubled", () => {
    const interval = fc.tuple(
      fc.double({ min: 0, max: 1e6, noNaN: true }),
      fc.double({ min: 0, max: 1e5, noNaN: true }),
      fc.double({ min: 0, max: 100, noNaN: true }),
    );
    fc.assert(
      fc.property(fc.array(interval, { minLength: 1, maxLength: 30 }), (intervals) => {
        const series = new TimeSeries();
        let total = 0;
        let endMs = 0;
        for (const [startMs, lengthMs, amount] of intervals) {
          series.add(startMs, startMs + lengthMs, amount);
          total += amount;
          endMs = Math.max(endMs, startMs + lengthMs);
        }
        const { widthMs, means } = series.data(endMs);
        expect(means.length).toBeLessThanOrEqual(MAX_SERIES_BUCKETS);
        const sum = means.reduce((partial, mean) => partial + mean * widthMs, 0);
        expect(sum).toBeCloseTo(total, 3);
      }),
    );
  });

  test("a level counts for as long as it stands, and its peak survives doubling", () => {
    const series = new TimeSeries();
    series.set(4, 100);
    series.set(10, 200);
    series.set(0, 200.5);
    series.set(2, 3000);
    const { widthMs, means } = series.data(4000);
    const integral = means.reduce((sum, mean) => sum + mean * widthMs, 0);
    expect(integral).toBeCloseTo(4 * 100 + 10 * 0.5 + 2 * 1000, 9);
    expect(widthMs).toBe(8);
  });
});

test("overlapping intervals count once, in any order", () => {
  const intervals = fc.array(fc.tuple(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: 20 })), {
    maxLength: 30,
  });
  fc.assert(
    fc.property(intervals, (pairs) => {
      const intervals = pairs.map(([start, length]) => [start, start + length] as const);
      const union = new IntervalUnion();
      const covered = new Set<number>();
      for (const [start, end] of intervals) {
        union.add(start, end);
        for (let at = start; at < end; at++) covered.add(at);
      }
      expect(union.totalMs).toBe(covered.size);
    }),
  );
});

describe("timeline", () => {
  test("keeps each step by itself up to its limit", () => {
    const log = new SpanLog(8);
    for (let i = 0; i < 8; i++) log.add(i * 10, i * 10 + 5, i % 2 === 0 ? "prefill" : "decode", i);
    const data = log.data();
    expect(data.resolutionMs).toBe(0);
    expect([...data.numMerged]).toEqual([1, 1, 1, 1, 1, 1, 1, 1]);
  });

  test("beyond the limit merges neighbours and loses neither steps nor amounts", () => {
    const step = fc.tuple(
      fc.double({ min: 0, max: 50, noNaN: true }),
      fc.double({ min: 0.1, max: 20, noNaN: true }),
      fc.constantFrom("prefill", "decode", "mixed"),
    );
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 200 }), (steps) => {
        const log = new SpanLog(16);
        let atMs = 0;
        for (const [gap, length, kind] of steps) {
          log.add(atMs + gap, atMs + gap + length, kind as "prefill", 2);
          atMs += gap + length;
        }
        const data = log.data();
        expect(data.startMs.length).toBeLessThanOrEqual(16);
        expect(data.amount.reduce((a, b) => a + b, 0)).toBe(2 * steps.length);
        expect(data.numMerged.reduce((a, b) => a + b, 0)).toBe(steps.length);
        expect(data.endMs.at(-1)).toBeCloseTo(atMs, 6);
        expect([...data.numMerged.slice(0, 4)].every((count) => count === 1)).toBe(true);
      }),
    );
  });
});

describe("rows of steps", () => {
  test("leave the same histogram and the same timeline as their steps one by one", () => {
    const steps = fc.array(
      fc.tuple(fc.double({ min: 0.5, max: 3, noNaN: true }), fc.integer({ min: 1, max: 40 })),
      {
        minLength: 1,
        maxLength: 400,
      },
    );
    fc.assert(
      fc.property(steps, (rows) => {
        const [gaps, single] = [new LatencyHistogram(), new LatencyHistogram()];
        const [spans, singleSpans] = [new SpanLog(16), new SpanLog(16)];
        let atMs = 0;
        for (const [gapMs, numSteps] of rows) {
          // Nearly equal steps, as a row has them.
          const timesMs = Float64Array.from(
            { length: numSteps + 1 },
            (_, i) => atMs + i * gapMs * (1 + i / 1000),
          );
          gaps.addGaps(timesMs, 0, numSteps, 2);
          spans.addRow(timesMs, 0, numSteps, "decode", 3);
          for (let i = 0; i < numSteps; i++) {
            single.add(timesMs[i + 1]! - timesMs[i]!, 2);
            singleSpans.add(timesMs[i]!, timesMs[i + 1]!, "decode", 3);
          }
          atMs = timesMs[numSteps]!;
        }
        expect(gaps.data()).toEqual(single.data());
        expect(spans.data()).toEqual(singleSpans.data());
      }),
    );
  });
});

describe("recorder", () => {
  const power = { idleWatts: 100, prefillWatts: 700, decodeWatts: 400, mixedWatts: 700, transferWatts: 150 };
  /** Steps between the given times. */
  const row = (load: StepLoad, ...timesMs: number[]): StepRow => {
    const to = timesMs.length - 1;
    const boundsMs = Float64Array.from(timesMs);
    return { load, boundsMs, from: 0, to, hostMs: 1, source: "fitted", isExtrapolated: true };
  };
  const create = (): Recorder =>
    new Recorder({ workers: [{ id: "w-0", pool: "w", power }], slos: [], reference: null });

  test("a restarted worker goes on where the one before it was lost", () => {
    const recorder = create();
    const load = new StepLoad();
    load.addDecode(7);
    recorder.workerChanged("w-0", "ready", 1, 5);
    recorder.stepsDone("w-0", row(load, 10, 20));
    recorder.kvChanged("w-0", 4, 2, 20);
    recorder.workerChanged("w-0", "lost", 1, 30);
    recorder.workerChanged("w-0#2", "ready", 1, 70);
    recorder.stepsDone("w-0#2", row(load, 80, 90));
    recorder.kvChanged("w-0#2", 3, 0, 90);
    expect(recorder.usages.map(([id]) => id)).toEqual(["w-0"]);
    const usage = recorder.usages[0]![1];
    expect(usage.readyMs(100)).toBe(25 + 30);
    expect(usage.steps.decode).toEqual({ numSteps: 2, busyMs: 20, prefillTokens: 0, decodeTokens: 2 });
    expect(usage.meanUsedBlocks(100)).toBeCloseTo((4 * 10 + 3 * 10) / 100, 12);
    expect(recorder.activeJoules).toBeCloseTo((300 * 20) / 1000, 12);
    const { startMs, endMs, kind } = usage.stepSpans.data();
    const names = [...kind].map((code) => SPAN_KINDS[code]);
    expect([...startMs].map((start, index) => [start, endMs[index], names[index]])).toEqual([
      [0, 5, "down"],
      [10, 20, "decode"],
      [30, 70, "down"],
      [80, 90, "decode"],
    ]);
  });

  test("transfers count once where they overlap, and apart from steps", () => {
    const recorder = create();
    const load = new StepLoad();
    load.addPrefill(0, 8, true);
    recorder.stepsDone("w-0", row(load, 0, 10));
    recorder.transferDone("w-0", "x", 100, 5, 15);
    recorder.transferDone("w-0", "x", 100, 8, 20);
    const usage = recorder.usages[0]![1];
    expect(usage.sending.totalMs).toBe(15);
    expect(usage.transferOnlyMs).toBe(10);
    expect(usage.sentBytes).toBe(200);
    expect(recorder.poolOf("x")).toBe("(unnamed)");
  });

  test("sends and receives stay apart when neighbours are merged", () => {
    const recorder = create();
    const NUM_TRANSFERS = 20_000;
    for (let i = 0; i < NUM_TRANSFERS; i++) {
      const [from, to] = i % 2 === 0 ? ["w-0", "x"] : ["x", "w-0"];
      recorder.transferDone(from!, to!, 10, i, i + 0.9);
    }
    const { sendSpans, receiveSpans } = recorder.usages[0]![1];
    for (const [log, name] of [
      [sendSpans, "send"],
      [receiveSpans, "receive"],
    ] as const) {
      const { kind, amount, numMerged } = log.data();
      expect(new Set([...kind].map((code) => SPAN_KINDS[code]))).toEqual(new Set([name]));
      expect(amount.reduce((a, b) => a + b, 0)).toBe((10 * NUM_TRANSFERS) / 2);
      expect(Math.max(...numMerged)).toBeGreaterThan(1);
    }
  });

  test("classes beyond the limit share one group", () => {
    const recorder = create();
    for (let i = 0; i < MAX_GROUPS + 5; i++) {
      const request = {
        id: `r${i}`,
        arrivalMs: i,
        inputTokens: 1,
        outputTokens: 1,
        blocks: null,
        sessionId: null,
      };
      recorder.requestArrived(
        { ...request, tenant: "t", priority: 0, kind: `k${i}`, encodeMs: 0, wishes: null },
        i,
      );
    }
    const groups = recorder.classes.entries();
    expect(groups.length).toBe(MAX_GROUPS + 1);
    expect(groups.find(([name]) => name === REST_GROUP)?.[1].numArrived).toBe(5);
  });
});
