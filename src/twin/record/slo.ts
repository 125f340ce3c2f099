import type { LatencyMetric } from "../../protocol/slo-schema.ts";
import type { RequestLatencies } from "./latencies.ts";

/** Bounds that every single request has to meet; null: not bounded. */
export type RequestBounds = Readonly<Partial<Record<Exclude<LatencyMetric, "itlMs">, number>>>;

/** A quantile of the whole run that has to stay within a bound. */
export interface QuantileRule {
  readonly metric: LatencyMetric;
  /** Between 0 and 1. */
  readonly quantile: number;
  readonly max: number;
}

/**
 * What counts as good service. `requests`: a share of the requests meets every bound (DistServe's attainment; goodput is the
 * rate of those that do). `quantiles`: quantiles over the run stay within bounds (Splitwise, Sarathi-Serve).
 */
export type SloSet =
  | {
      readonly name: string;
      readonly kind: "requests";
      readonly bounds: RequestBounds;
      /** Share of the requests that has to meet the bounds. */
      readonly attainment: number;
      /** Only requests of this class count; null: all. */
      readonly requestClass: string | null;
    }
  | { readonly name: string; readonly kind: "quantiles"; readonly rules: readonly QuantileRule[] };

/**
 * Splitwise's nine bounds (ISCA 2024, section 5 and its published notebook): slowdowns of TTFT, TBT and E2E against an
 * uncontended machine at p50, p90 and p99.
 */
export const SPLITWISE_RULES: readonly QuantileRule[] = [
  { metric: "ttftSlowdown", quantile: 0.5, max: 2 },
  { metric: "ttftSlowdown", quantile: 0.9, max: 3 },
  { metric: "ttftSlowdown", quantile: 0.99, max: 6 },
  { metric: "tpotSlowdown", quantile: 0.5, max: 1.25 },
  { metric: "tpotSlowdown", quantile: 0.9, max: 1.5 },
  { metric: "tpotSlowdown", quantile: 0.99, max: 5 },
  { metric: "e2eSlowdown", quantile: 0.5, max: 1.25 },
  { metric: "e2eSlowdown", quantile: 0.9, max: 1.5 },
  { metric: "e2eSlowdown", quantile: 0.99, max: 5 },
];

/** Whether a completed request keeps every bound. A metric that it does not have, such as TPOT of one token, is kept. */
export function keepsBounds(latencies: RequestLatencies, bounds: RequestBounds): boolean {
  for (const [metric, bound] of Object.entries(bounds) as [keyof RequestBounds, number][]) {
    const value = latencies[metric];
    if (value !== null && value > bound) return false;
  }
  return true;
}

/** Requests and tokens that met one set of bounds. */
export class SloTally {
  readonly slo: Extract<SloSet, { kind: "requests" }>;
  /** Requests that the set is about, over or not. */
  numArrived = 0;
  numGood = 0;
  /** Prompt tokens that had to be computed, and output tokens, of good requests. */
  computedInputTokens = 0;
  outputTokens = 0;

  constructor(slo: Extract<SloSet, { kind: "requests" }>) {
    this.slo = slo;
  }

  concerns(requestClass: string): boolean {
    return this.slo.requestClass === null || this.slo.requestClass === requestClass;
  }
}
