import { assert } from "./assert.ts";

/** Size and shape of a set of measured values, in the unit of the values. */
export interface Summary {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p95: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/**
 * The q-quantile by nearest rank: the smallest recorded value that at least a share `q` of the values do not exceed
 * (definition 1 of Hyndman and Fan, 1996). It is always a value that was measured, never a mixture of two, so a p99.9 of fewer than
 * a thousand values is their maximum. `sorted` is ascending and not empty, `q` lies in [0, 1].
 */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  assert(sorted.length > 0, "a quantile needs at least one value");
  assert(q >= 0 && q <= 1, "a quantile is a share between 0 and 1");
  // The product is rounded to 12 digits first: 0.07 × 100 is 7.000000000000001 in floating point, and must give rank 7.
  const rank = Math.ceil(Number((q * sorted.length).toPrecision(12)));
  return sorted[Math.max(rank, 1) - 1]!;
}

/**
 * The value below which a share of the values lies, on the straight line between its two neighbours (definition 7 of Hyndman and Fan):
 * the usual rule of numpy and pandas, and so of what others publish. For figures that are compared with theirs; ours are by nearest
 * rank. NaN without values, which may be in any order.
 */
export function interpolatedQuantile(values: ArrayLike<number>, share: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = Float64Array.from(values).sort();
  const at = (sorted.length - 1) * share;
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low]! + (sorted[high]! - sorted[low]!) * (at - low);
}

/** The mean of at least one value. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Summarises values in any order, or returns null when there are none. Values must be finite; they are not changed. */
export function summarize(values: ArrayLike<number>): Summary | null {
  if (values.length === 0) return null;
  const sorted = Float64Array.from(values).sort();
  let sum = 0;
  for (const value of sorted) sum += value;
  assert(Number.isFinite(sum), "a summary needs finite values");
  return {
    count: sorted.length,
    mean: sum / sorted.length,
    p50: quantile(sorted, 0.5),
    p90: quantile(sorted, 0.9),
    p95: quantile(sorted, 0.95),
    p99: quantile(sorted, 0.99),
    p999: quantile(sorted, 0.999),
    max: sorted[sorted.length - 1]!,
  };
}
