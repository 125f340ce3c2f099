import { expect, test } from "vitest";
import {
  drawLength,
  empiricalLengths,
  type LengthDistribution,
  MAX_LENGTH_TOKENS,
  parseLengths,
} from "./length-distribution.ts";
import { Rng } from "./rng.ts";

const DRAWS = 50_000;

function draws(distribution: LengthDistribution, seed = 5): number[] {
  const stream = new Rng(seed).stream("lengths");
  return Array.from({ length: DRAWS }, () => drawLength(distribution, stream));
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function deviationOf(values: readonly number[]): number {
  const mean = meanOf(values);
  return Math.sqrt(meanOf(values.map((value) => (value - mean) ** 2)));
}

test("each written form is read into its parameters", () => {
  expect(parseLengths("512")).toEqual({ kind: "fixed", tokens: 512 });
  expect(parseLengths("uniform:10:20")).toEqual({ kind: "uniform", min: 10, max: 20 });
  expect(parseLengths("normal:100:15.5")).toEqual({ kind: "normal", mean: 100, deviation: 15.5 });
  expect(parseLengths("lognormal:800:400")).toEqual({ kind: "lognormal", mean: 800, deviation: 400 });
  expect(parseLengths("choice:128,512,512")).toEqual({ kind: "choice", values: [128, 512, 512] });
});

test.each([
  ["", "must be 512"],
  ["abc", "must be 512"],
  ["0", "whole number from 1"],
  ["1.5", "whole number from 1"],
  ["-3", "must be 512"],
  ["uniform:20:10", "MIN ≤ MAX"],
  ["uniform:20", "must be 512"],
  ["uniform:1:2:3", "must be 512"],
  ["normal:0:1", "mean of at least 1"],
  ["choice:", "must be 512"],
  ["choice:0,1", "whole numbers from 1"],
  ["zipf:1:2", "must be 512"],
  [`uniform:1:${MAX_LENGTH_TOKENS + 1}`, "must stay within"],
])("%s is refused with what is allowed", (text, message) => {
  expect(parseLengths(text)).toEqual({ error: expect.stringContaining(message) });
});

test("a fixed length is always the same", () => {
  expect(new Set(draws({ kind: "fixed", tokens: 77 }))).toEqual(new Set([77]));
});

test("a uniform distribution takes both ends and has its mean and variance", () => {
  const values = draws({ kind: "uniform", min: 10, max: 19 });
  expect(new Set(values)).toEqual(new Set([10, 11, 12, 13, 14, 15, 16, 17, 18, 19]));
  expect(Math.abs(meanOf(values) - 14.5)).toBeLessThan(0.05);
  expect(Math.abs(deviationOf(values) - Math.sqrt(99 / 12))).toBeLessThan(0.05);
});

test("normal and lognormal have the mean and deviation that they are given", () => {
  const normal = draws({ kind: "normal", mean: 500, deviation: 60 });
  expect(Math.abs(meanOf(normal) - 500)).toBeLessThan(1.5);
  expect(Math.abs(deviationOf(normal) - 60)).toBeLessThan(1.5);
  const lognormal = draws({ kind: "lognormal", mean: 800, deviation: 400 });
  expect(Math.abs(meanOf(lognormal) - 800)).toBeLessThan(10);
  expect(Math.abs(deviationOf(lognormal) - 400)).toBeLessThan(20);
  const sorted = [...lognormal].sort((a, b) => a - b);
  expect(sorted[DRAWS / 2]!).toBeLessThan(760);
});

test("a normal distribution that reaches below one token is cut there", () => {
  const values = draws({ kind: "normal", mean: 2, deviation: 10 });
  expect(Math.min(...values)).toBe(1);
  expect(values.every(Number.isInteger)).toBe(true);
});

test("a choice weighs values by how often they are named", () => {
  const values = draws({ kind: "choice", values: [1, 9, 9, 9] });
  expect(Math.abs(values.filter((value) => value === 9).length / DRAWS - 0.75)).toBeLessThan(0.01);
});

test("the same seed draws the same lengths", () => {
  const distribution: LengthDistribution = { kind: "lognormal", mean: 100, deviation: 50 };
  expect(draws(distribution, 1).slice(0, 20)).toEqual(draws(distribution, 1).slice(0, 20));
  expect(draws(distribution, 1).slice(0, 20)).not.toEqual(draws(distribution, 2).slice(0, 20));
});

test("measured lengths are drawn by their weights, and values without weight never", () => {
  const lengths = empiricalLengths([10, 20, 30], [1, 0, 3]);
  if ("error" in lengths) throw new Error(lengths.error);
  const stream = new Rng(5).stream("lengths");
  const drawn = Array.from({ length: 20_000 }, () => drawLength(lengths, stream));
  expect(new Set(drawn)).toEqual(new Set([10, 30]));
  expect(drawn.filter((value) => value === 30).length / drawn.length).toBeCloseTo(0.75, 1);
});

test.each([
  [[1], [1, 2], "one weight for each value"],
  [[0], [1], "whole numbers from 1"],
  [[1.5], [1], "whole numbers from 1"],
  [[1], [-1], "weights of at least 0"],
  [[1], [0], "a weight above 0"],
])("measured lengths %j with weights %j are refused: %s", (values, weights, message) => {
  expect(empiricalLengths(values, weights)).toEqual({ error: expect.stringContaining(message) });
});
