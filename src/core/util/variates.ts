import { assert } from "./assert.ts";
import type { RandomStream } from "./rng.ts";

/** Coefficients of the Lanczos approximation with g = 7 and nine terms (Godfrey, 2001). */
const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
  12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
] as const;

/** Natural logarithm of the gamma function for x > 0; relative error below 1e-13. */
export function logGamma(x: number): number {
  assert(x > 0, "the logarithm of the gamma function is taken of positive numbers");
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  const z = x - 1;
  let sum: number = LANCZOS[0];
  for (let index = 1; index < LANCZOS.length; index++) sum += LANCZOS[index]! / (z + index);
  const t = z + 7.5;
  return 0.5 * Math.log(2 * Math.PI) + (z + 0.5) * Math.log(t) - t + Math.log(sum);
}

/** Gamma variate of the given shape and mean 1 (Marsaglia and Tsang, 2000; below shape 1 with their power of a uniform). */
export function nextGamma(shape: number, stream: RandomStream): number {
  assert(shape > 0, "the shape of a gamma distribution is positive");
  const raised = shape < 1 ? shape + 1 : shape;
  const d = raised - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const normal = stream.nextNormal();
    const v = (1 + c * normal) ** 3;
    if (v <= 0) continue;
    const uniform = 1 - stream.nextFloat();
    if (Math.log(uniform) >= 0.5 * normal * normal + d - d * v + d * Math.log(v)) continue;
    const power = shape < 1 ? (1 - stream.nextFloat()) ** (1 / shape) : 1;
    return (d * v * power) / shape;
  }
}

/** Weibull variate of the given shape and mean 1. */
export function nextWeibull(shape: number, stream: RandomStream): number {
  assert(shape > 0, "the shape of a Weibull distribution is positive");
  const exponential = -Math.log1p(-stream.nextFloat());
  return exponential ** (1 / shape) / Math.exp(logGamma(1 + 1 / shape));
}

/** Bounds between which {@link weibullShapeOf} looks. Shape 0.1 has a coefficient of variation of 430, shape 100 one of 0.013. */
const MIN_WEIBULL_SHAPE = 0.1;
const MAX_WEIBULL_SHAPE = 100;

/** Halvings of the search; enough for the last digit of the shape. */
const WEIBULL_BISECTIONS = 60;

/** Shape of a Weibull distribution with that coefficient of variation, by bisection; clamped to [0.1, 100]. */
export function weibullShapeOf(cv: number): number {
  let low = MIN_WEIBULL_SHAPE;
  let high = MAX_WEIBULL_SHAPE;
  for (let round = 0; round < WEIBULL_BISECTIONS; round++) {
    const middle = (low + high) / 2;
    const squared = Math.exp(logGamma(1 + 2 / middle) - 2 * logGamma(1 + 1 / middle)) - 1;
    if (Math.sqrt(Math.max(squared, 0)) > cv) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
