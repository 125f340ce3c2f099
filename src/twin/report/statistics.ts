import type { Estimate } from "../../protocol/simulation-schema.ts";

/** 97.5 % quantiles of Student's t with 1 to 30 degrees of freedom. */
const T_975 = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131,
  2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/** 97.5 % quantile of the normal distribution. */
const Z = 1.959964;

/**
 * 97.5 % quantile of Student's t: tabled up to 30 degrees of freedom, above by the Cornish-Fisher expansion (Abramowitz and
 * Stegun 26.7.5), which is right to three decimals there.
 */
export function studentT975(degreesOfFreedom: number): number {
  const tabled = T_975[degreesOfFreedom - 1];
  if (tabled !== undefined) return tabled;
  const v = degreesOfFreedom;
  return Z + (Z ** 3 + Z) / (4 * v) + (5 * Z ** 5 + 16 * Z ** 3 + 3 * Z) / (96 * v ** 2);
}

/** Mean and 95 % confidence interval of independent values; null when there are none. */
export function estimate(values: readonly number[]): Estimate | null {
  const n = values.length;
  if (n === 0) return null;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  if (n === 1) return { n, mean, low95: null, high95: null };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  const half = studentT975(n - 1) * Math.sqrt(variance / n);
  return { n, mean, low95: mean - half, high95: mean + half };
}
