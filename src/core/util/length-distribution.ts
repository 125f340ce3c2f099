import type { RandomStream } from "./rng.ts";

/** Longest prompt or output that a distribution can ask for, in tokens. */
export const MAX_LENGTH_TOKENS = 4 * 1024 * 1024;

/** Most values of a `choice`. */
const MAX_CHOICES = 64;

/** Lengths in tokens, as a shape to draw from. Parameters are those of the lengths themselves, before rounding. */
export type LengthDistribution =
  | { readonly kind: "fixed"; readonly tokens: number }
  /** Whole numbers from `min` to `max`, both included. */
  | { readonly kind: "uniform"; readonly min: number; readonly max: number }
  | { readonly kind: "normal"; readonly mean: number; readonly deviation: number }
  | { readonly kind: "lognormal"; readonly mean: number; readonly deviation: number }
  /** Equally likely; a value that is named twice is twice as likely. */
  | { readonly kind: "choice"; readonly values: readonly number[] }
  /** Measured lengths; see {@link empiricalLengths}. `cumulative[i]` is the sum of the weights up to `values[i]`. */
  | { readonly kind: "empirical"; readonly values: Int32Array; readonly cumulative: Float64Array };

/** Most different lengths of a measured distribution. */
export const MAX_EMPIRICAL_VALUES = 1_000_000;

/**
 * Distribution of measured lengths with the weight of each; weights need not sum to 1. Values of weight 0 are left out. Returns
 * what is wrong when a value is no length, a weight is negative or not finite, or nothing is left.
 */
export function empiricalLengths(
  values: readonly number[],
  weights: readonly number[],
): LengthDistribution | { readonly error: string } {
  if (values.length !== weights.length) return { error: "needs one weight for each value" };
  if (values.length > MAX_EMPIRICAL_VALUES)
    return { error: `has more than ${MAX_EMPIRICAL_VALUES} different values` };
  const kept: number[] = [];
  const sums: number[] = [];
  let sum = 0;
  for (let index = 0; index < values.length; index++) {
    const value = values[index]!;
    const weight = weights[index]!;
    if (!isLength(value) || value > MAX_LENGTH_TOKENS)
      return { error: `needs whole numbers from 1 to ${MAX_LENGTH_TOKENS}, not ${value}` };
    if (!(weight >= 0 && weight < Number.POSITIVE_INFINITY))
      return { error: `needs weights of at least 0, not ${weight}` };
    if (weight === 0) continue;
    sum += weight;
    kept.push(value);
    sums.push(sum);
  }
  if (kept.length === 0) return { error: "needs a value with a weight above 0" };
  return { kind: "empirical", values: Int32Array.from(kept), cumulative: Float64Array.from(sums) };
}

/** How distributions are written. */
const DISTRIBUTION_FORMS = "512, uniform:MIN:MAX, normal:MEAN:SD, lognormal:MEAN:SD or choice:A,B,C";

/** Reads a distribution, or returns what is wrong with it. */
export function parseLengths(text: string): LengthDistribution | { readonly error: string } {
  const [kind = "", ...rest] = text.trim().split(":");
  const isFixed = rest.length === 0;
  const numbers = (isFixed ? [kind] : rest.flatMap((part) => part.split(","))).map(parseNumber);
  if (numbers.some((value) => value === null)) return { error: `must be ${DISTRIBUTION_FORMS}` };
  const values = numbers.filter((value) => value !== null);
  if (values.some((value) => value > MAX_LENGTH_TOKENS))
    return { error: `must stay within ${MAX_LENGTH_TOKENS} tokens` };
  const [first = 0, second = 0] = values;
  const hasTwo = rest.length === 2 && values.length === 2;
  if (isFixed)
    return isLength(first) ? { kind: "fixed", tokens: first } : { error: "must be a whole number from 1 up" };
  if (kind === "uniform" && hasTwo) {
    const isRange = isLength(first) && isLength(second) && first <= second;
    return isRange
      ? { kind, min: first, max: second }
      : { error: "needs whole numbers MIN ≤ MAX, from 1 up" };
  }
  if ((kind === "normal" || kind === "lognormal") && hasTwo) {
    return first >= 1 ? { kind, mean: first, deviation: second } : { error: "needs a mean of at least 1" };
  }
  if (kind === "choice" && rest.length === 1) {
    const isUsable = values.length <= MAX_CHOICES && values.every(isLength);
    return isUsable ? { kind, values } : { error: `needs 1 to ${MAX_CHOICES} whole numbers from 1 up` };
  }
  return { error: `must be ${DISTRIBUTION_FORMS}` };
}

function parseNumber(text: string): number | null {
  return /^\d+(\.\d+)?$/.test(text.trim()) ? Number(text) : null;
}

function isLength(value: number): boolean {
  return Number.isInteger(value) && value >= 1;
}

/** Draws a length: a whole number in [1, {@link MAX_LENGTH_TOKENS}]. What falls outside is set to the nearest bound. */
export function drawLength(distribution: LengthDistribution, stream: RandomStream): number {
  switch (distribution.kind) {
    case "fixed":
      return distribution.tokens;
    case "uniform":
      return distribution.min + stream.nextBelow(distribution.max - distribution.min + 1);
    case "choice":
      return distribution.values[stream.nextBelow(distribution.values.length)]!;
    case "normal":
      return toLength(distribution.mean + distribution.deviation * stream.nextNormal());
    case "lognormal": {
      // Mean m and deviation s of the lengths give the parameters of their logarithm: σ² = ln(1 + s²/m²), μ = ln m − σ²/2.
      const variance = Math.log1p((distribution.deviation / distribution.mean) ** 2);
      const exponent = Math.log(distribution.mean) - variance / 2 + Math.sqrt(variance) * stream.nextNormal();
      return toLength(Math.exp(exponent));
    }
    case "empirical": {
      const { values, cumulative } = distribution;
      const drawn = stream.nextFloat() * cumulative[cumulative.length - 1]!;
      let low = 0;
      let high = cumulative.length - 1;
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (cumulative[middle]! > drawn) high = middle;
        else low = middle + 1;
      }
      return values[low]!;
    }
  }
}

function toLength(value: number): number {
  return Math.min(Math.max(Math.round(value), 1), MAX_LENGTH_TOKENS);
}
