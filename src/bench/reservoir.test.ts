import { expect, test } from "vitest";
import { Rng } from "../core/util/rng.ts";
import { Reservoir } from "./reservoir.ts";

test("everything is kept, in order, up to the capacity", () => {
  const reservoir = new Reservoir(5000, new Rng(1).stream("reservoir"));
  for (let value = 0; value < 5000; value++) reservoir.push(value);
  expect(reservoir.values.length).toBe(5000);
  expect(reservoir.values.every((value, index) => value === index)).toBe(true);
  expect(reservoir.numSeen).toBe(5000);
});

test("beyond the capacity a uniform sample of all values is kept", () => {
  const reservoir = new Reservoir(2000, new Rng(1).stream("reservoir"));
  for (let value = 0; value < 100_000; value++) reservoir.push(value);
  expect(reservoir.values.length).toBe(2000);
  expect(reservoir.numSeen).toBe(100_000);
  const mean = reservoir.values.reduce((sum, value) => sum + value, 0) / 2000;
  // Four standard errors of the mean of 2,000 uniform draws.
  expect(Math.abs(mean - 50_000)).toBeLessThan((4 * 28_868) / Math.sqrt(2000));
  expect(new Set(reservoir.values).size).toBe(2000);
});

test("a capacity below the first allocation is respected", () => {
  const reservoir = new Reservoir(3, new Rng(1).stream("reservoir"));
  for (let value = 0; value < 50; value++) reservoir.push(value);
  expect(reservoir.values.length).toBe(3);
});
