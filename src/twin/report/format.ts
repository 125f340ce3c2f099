import type { Estimate } from "../../protocol/simulation-schema.ts";

/** Three significant digits; plain digits from a thousandth to ten million, powers of ten beyond. */
export function formatNumber(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e7 || size < 1e-3) return value.toExponential(2);
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

/** A value in the unit of its metric: shares become per cent. */
export function formatValue(value: number, unit: string): string {
  return unit === "share" ? `${(value * 100).toFixed(1)} %` : formatNumber(value);
}

/** A half width below this share of the mean is shown as 0. */
const NEGLIGIBLE_SHARE = 5e-4;

/** A mean with half the width of its interval: `12.3 ±0.4`. */
export function formatEstimate(estimate: Estimate, unit: string): string {
  const mean = formatValue(estimate.mean, unit);
  if (estimate.high95 === null) return mean;
  const half = estimate.high95 - estimate.mean;
  if (half <= Math.abs(estimate.mean) * NEGLIGIBLE_SHARE) return `${mean} ±0`;
  const width = unit === "share" ? `${(half * 100).toFixed(1)}` : formatNumber(half);
  return `${mean} ±${width}`;
}

/** The name of a metric with its unit, as a row of a table is headed. */
export function formatLabel(label: string, unit: string): string {
  return unit === "share" || unit === "×" ? label : `${label} [${unit}]`;
}
