import { expect, test } from "vitest";
import { Rng } from "../core/util/rng.ts";
import { arrivalTimes, type OpenArrivals } from "./arrivals.ts";

function gaps(arrivals: OpenArrivals, count: number, seed = 3): number[] {
  const times = arrivalTimes(arrivals, new Rng(seed).stream("arrivals"));
  const first = times.next().value;
  let last = arrivals.kind === "poisson" ? 0 : first;
  const found = arrivals.kind === "poisson" ? [first] : [];
  if (arrivals.kind === "poisson") last = first;
  while (found.length < count) {
    const time = times.next().value;
    found.push(time - last);
    last = time;
  }
  return found;
}

test("gaps of a Poisson process are exponential: mean, variance and memorylessness", () => {
  const found = gaps({ kind: "poisson", requestsPerSecond: 20 }, 50_000);
  const mean = found.reduce((sum, gap) => sum + gap, 0) / found.length;
  const variance = found.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / found.length;
  expect(Math.abs(mean - 50)).toBeLessThan(1);
  expect(Math.abs(variance / 2500 - 1)).toBeLessThan(0.05);
  const longerThanMean = found.filter((gap) => gap > 50);
  expect(Math.abs(longerThanMean.length / found.length - Math.exp(-1))).toBeLessThan(0.01);
  const longerStill = longerThanMean.filter((gap) => gap > 100);
  expect(Math.abs(longerStill.length / longerThanMean.length - Math.exp(-1))).toBeLessThan(0.02);
});

test("uniform arrivals start at once and do not drift", () => {
  const times = arrivalTimes({ kind: "uniform", requestsPerSecond: 3 }, new Rng(1).stream("arrivals"));
  const found = Array.from({ length: 3001 }, () => times.next().value);
  expect(found[0]).toBe(0);
  expect(found[1]).toBeCloseTo(333.333, 3);
  expect(found[3000]).toBeCloseTo(1_000_000, 6);
});

test("the same seed gives the same arrivals", () => {
  const poisson: OpenArrivals = { kind: "poisson", requestsPerSecond: 5 };
  expect(gaps(poisson, 10, 1)).toEqual(gaps(poisson, 10, 1));
  expect(gaps(poisson, 10, 1)).not.toEqual(gaps(poisson, 10, 2));
});
