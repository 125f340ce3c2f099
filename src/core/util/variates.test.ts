import { describe, expect, it } from "vitest";
import { Rng } from "./rng.ts";
import { logGamma, nextGamma, nextWeibull, weibullShapeOf } from "./variates.ts";

const SEED = 7;
const NUM_DRAWS = 200_000;

function momentsOf(draw: () => number): { mean: number; cv: number } {
  let sum = 0;
  let squares = 0;
  for (let index = 0; index < NUM_DRAWS; index++) {
    const value = draw();
    sum += value;
    squares += value * value;
  }
  const mean = sum / NUM_DRAWS;
  return { mean, cv: Math.sqrt(squares / NUM_DRAWS - mean * mean) / mean };
}

describe("variates", () => {
  it("take the gamma function through its factorials and its half", () => {
    expect(Math.exp(logGamma(6))).toBeCloseTo(120, 9);
    expect(Math.exp(logGamma(0.5))).toBeCloseTo(Math.sqrt(Math.PI), 12);
    expect(Math.exp(logGamma(1.5))).toBeCloseTo(Math.sqrt(Math.PI) / 2, 12);
  });

  it.each([0.3, 1, 4])("have mean 1 and the variation of a gamma distribution of shape %f", (shape) => {
    const stream = new Rng(SEED).stream("gamma");
    const { mean, cv } = momentsOf(() => nextGamma(shape, stream));
    expect(mean).toBeCloseTo(1, 1);
    expect(cv / Math.sqrt(1 / shape)).toBeCloseTo(1, 1);
  });

  it.each([0.5, 1, 2])("have mean 1 and a coefficient of variation of %f as Weibull", (cv) => {
    const shape = weibullShapeOf(cv);
    const stream = new Rng(SEED).stream("weibull");
    const moments = momentsOf(() => nextWeibull(shape, stream));
    expect(moments.mean).toBeCloseTo(1, 1);
    expect(moments.cv / cv).toBeCloseTo(1, 1);
  });

  it("know that the exponential distribution is the Weibull of shape 1", () => {
    expect(weibullShapeOf(1)).toBeCloseTo(1, 9);
  });
});
