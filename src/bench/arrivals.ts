import type { RandomStream, Rng } from "../core/util/rng.ts";
import type { WorkloadSource } from "../twin/workload/workload.ts";

/** When requests start. */
export type Arrivals =
  /** Open loop: exponential gaps, independent of how fast answers come. `requestsPerSecond` is the mean rate. */
  | { readonly kind: "poisson"; readonly requestsPerSecond: number }
  /** Open loop: equal gaps. */
  | { readonly kind: "uniform"; readonly requestsPerSecond: number }
  /** Closed loop: this many requests at once; the next starts when one ends. */
  | { readonly kind: "concurrency"; readonly numRequests: number }
  /** Times, lengths and common prefixes of a workload, whose sessions wait for answers; `name` is for the report. */
  | { readonly kind: "workload"; readonly name: string; open(rng: Rng): WorkloadSource };

/** Arrivals that do not wait for answers. */
export type OpenArrivals = Extract<Arrivals, { readonly requestsPerSecond: number }>;

/**
 * Times of arrivals in milliseconds after the start, ascending, without end. A Poisson process starts with a gap, equal gaps start
 * at 0.
 */
export function* arrivalTimes(arrivals: OpenArrivals, stream: RandomStream): Generator<number, never> {
  const meanGapMs = 1000 / arrivals.requestsPerSecond;
  if (arrivals.kind === "uniform") {
    for (let index = 0; ; index++) yield index * meanGapMs;
  }
  for (let timeMs = 0; ; ) {
    timeMs += stream.nextExponential(meanGapMs);
    yield timeMs;
  }
}
