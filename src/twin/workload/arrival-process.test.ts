import { describe, expect, it } from "vitest";
import { Rng } from "../../core/util/rng.ts";
import { type ArrivalSpec, arrivalProcess } from "./arrival-process.ts";

const SEED = 11;

function timesOf(spec: ArrivalSpec, count: number): number[] {
  const process = arrivalProcess(spec, new Rng(SEED).stream("arrivals"));
  return Array.from({ length: count }, process);
}

function gapsOf(times: readonly number[]): { meanMs: number; cv: number } {
  const gaps = times.map((time, index) => time - (times[index - 1] ?? 0));
  const meanMs = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  const variance = gaps.reduce((sum, gap) => sum + (gap - meanMs) ** 2, 0) / gaps.length;
  return { meanMs, cv: Math.sqrt(variance) / meanMs };
}

describe("arrivals", () => {
  it("at a constant rate start at 0 in equal gaps", () => {
    expect(timesOf({ kind: "constant", requestsPerSecond: 4 }, 3)).toEqual([0, 250, 500]);
  });

  it.each<[ArrivalSpec, number]>([
    [{ kind: "poisson", requestsPerSecond: 20 }, 1],
    [{ kind: "gamma", requestsPerSecond: 20, cv: 0.5 }, 0.5],
    [{ kind: "gamma", requestsPerSecond: 20, cv: 3 }, 3],
    [{ kind: "weibull", requestsPerSecond: 20, cv: 2 }, 2],
  ])("of %j have their rate and variation and never go back", (spec, cv) => {
    const times = timesOf(spec, 100_000);
    const gaps = gapsOf(times);
    expect(gaps.meanMs / 50).toBeCloseTo(1, 1);
    expect(gaps.cv / cv).toBeCloseTo(1, 1);
    expect(times.every((time, index) => time >= (times[index - 1] ?? 0))).toBe(true);
  });

  it("in bursts have the mean of both rates by their times, and more variation than Poisson", () => {
    const spec = {
      kind: "bursts",
      requestsPerSecond: 100,
      idleRequestsPerSecond: 10,
      burstMs: 2000,
      idleMs: 8000,
    } as const;
    const gaps = gapsOf(timesOf(spec, 200_000));
    expect(1000 / gaps.meanMs / 28).toBeCloseTo(1, 1);
    expect(gaps.cv).toBeGreaterThan(1.3);
  });

  it("over a day swing about their mean", () => {
    const periodMs = 100_000;
    const times = timesOf(
      { kind: "diurnal", requestsPerSecond: 10, swing: 0.8, periodMs, phaseMs: 0 },
      50_000,
    );
    expect(gapsOf(times).meanMs / 100).toBeCloseTo(1, 1);
    const isHigh = (time: number): boolean => time % periodMs < periodMs / 2;
    // The mean of a sine over its upper half is 2/π.
    const expected = 0.5 + 0.8 / Math.PI;
    expect(times.filter(isHigh).length / times.length).toBeCloseTo(expected, 1);
  });

  it("in stages follow one after the other and end", () => {
    const stages = [
      { requestsPerSecond: 2, durationMs: 1000 },
      { requestsPerSecond: 0, durationMs: 500 },
      { requestsPerSecond: 4, durationMs: 500 },
    ];
    const times = timesOf({ kind: "stages", gaps: "constant", stages }, 6);
    expect(times).toEqual([0, 500, 1500, 1750, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]);
    const poisson = timesOf(
      { kind: "stages", gaps: "poisson", stages: [{ requestsPerSecond: 1000, durationMs: 5000 }] },
      8000,
    );
    expect(poisson.filter(Number.isFinite).length / 5000).toBeCloseTo(1, 1);
  });
});
