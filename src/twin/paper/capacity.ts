import type { RandomStream } from "../../core/util/rng.ts";
import type { PlainRequest } from "../workload/list-source.ts";

/** Lengths of one request. */
export interface Lengths {
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/** Requests at the times of a Poisson process. The same stream gives the same requests at every rate, closer together or further apart. */
export function poissonRequests(
  stream: RandomStream,
  options: { count: number; requestsPerSecond: number; draw: (stream: RandomStream) => Lengths },
): PlainRequest[] {
  let arrivalMs = 0;
  return Array.from({ length: options.count }, () => {
    const request = { arrivalMs, ...options.draw(stream) };
    arrivalMs += stream.nextExponential(1000 / options.requestsPerSecond);
    return request;
  });
}

/** The highest rate in [0, max] that passes, to within `tolerance`, if rates pass up to some point and fail beyond: bisection. */
export function highestRate(
  options: { max: number; tolerance: number },
  passes: (rate: number) => boolean,
): number {
  let low = 0;
  let high = options.max;
  while (high - low >= options.tolerance) {
    const middle = (low + high) / 2;
    if (passes(middle)) low = middle;
    else high = middle;
  }
  return low;
}
