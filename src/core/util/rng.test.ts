import { expect, test } from "vitest";
import { InvariantError } from "./assert.ts";
import { RandomStream, Rng } from "./rng.ts";

const DRAWS = 100_000;

function moments(draw: () => number): { mean: number; variance: number } {
  let sum = 0;
  let sumOfSquares = 0;
  for (let index = 0; index < DRAWS; index++) {
    const value = draw();
    sum += value;
    sumOfSquares += value * value;
  }
  const mean = sum / DRAWS;
  return { mean, variance: sumOfSquares / DRAWS - mean * mean };
}

test("the words equal those of the reference implementation of xoshiro128**", () => {
  const stream = new RandomStream([1, 2, 3, 4]);
  expect(Array.from({ length: 6 }, () => stream.nextUint32())).toEqual([
    11520, 0, 5927040, 70819200, 2031721883, 1637235492,
  ]);
});

test("the same seed and name give the same numbers; another name or seed gives others", () => {
  const draw = (seed: number, name: string): number[] => {
    const stream = new Rng(seed).stream(name);
    return Array.from({ length: 8 }, () => stream.nextUint32());
  };
  expect(draw(7, "arrivals")).toEqual(draw(7, "arrivals"));
  expect(draw(7, "arrivals")).not.toEqual(draw(7, "lengths"));
  expect(draw(7, "arrivals")).not.toEqual(draw(8, "arrivals"));
  expect(draw(7, "arrivals")).not.toEqual(draw(7 + 2 ** 32, "arrivals"));
  expect(draw(-1, "arrivals")).not.toEqual(draw(1, "arrivals"));
});

test("one stream does not notice how much is drawn from another", () => {
  const rng = new Rng(1);
  const alone = rng.stream("a").nextFloat();
  const other = rng.stream("b");
  for (let index = 0; index < 100; index++) other.nextFloat();
  expect(rng.stream("a").nextFloat()).toBe(alone);
});

test("floats, exponentials and normals have the moments of their distributions", () => {
  const rng = new Rng(42);
  const uniform = rng.stream("uniform");
  const exponential = rng.stream("exponential");
  const normal = rng.stream("normal");
  const uniformMoments = moments(() => uniform.nextFloat());
  expect(uniformMoments.mean).toBeCloseTo(0.5, 2);
  expect(uniformMoments.variance).toBeCloseTo(1 / 12, 2);
  const exponentialMoments = moments(() => exponential.nextExponential(2));
  expect(Math.abs(exponentialMoments.mean - 2)).toBeLessThan(0.03);
  expect(Math.abs(exponentialMoments.variance - 4)).toBeLessThan(0.15);
  const normalMoments = moments(() => normal.nextNormal());
  expect(Math.abs(normalMoments.mean)).toBeLessThan(0.015);
  expect(Math.abs(normalMoments.variance - 1)).toBeLessThan(0.02);
});

test("integers below a bound are in range and equally likely", () => {
  const stream = new Rng(3).stream("integers");
  const counts = new Array<number>(7).fill(0);
  for (let index = 0; index < 70_000; index++) counts[stream.nextBelow(7)]! += 1;
  for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(400);
  expect(stream.nextBelow(1)).toBe(0);
});

test("bad seeds, bounds and the all-zero state are bugs", () => {
  expect(() => new Rng(0.5)).toThrow(InvariantError);
  expect(() => new Rng(1).stream("x").nextBelow(0)).toThrow(InvariantError);
  expect(() => new RandomStream([0, 0, 0, 0])).toThrow(InvariantError);
});
