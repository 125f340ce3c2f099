import type { ArrivalProcess } from "./arrival-process.ts";
import { timed, type UntimedRequest } from "./plain-request.ts";
import { SessionSource } from "./session-source.ts";
import { PulledSource } from "./trace-source.ts";
import type { WorkloadSource } from "./workload.ts";

/** Makes one request after the other; null after the last. */
export type RequestMaker = () => UntimedRequest | null;

/** When requests that are made one after the other are sent. */
export type Pace =
  | { readonly arrivals: ArrivalProcess }
  /** Closed loop: this many at once, each followed by the next `thinkMs` after its end. */
  | { readonly concurrency: number; readonly thinkMs: number };

/** A source of made requests. */
export function paced(make: RequestMaker, pace: Pace): WorkloadSource {
  if ("concurrency" in pace) {
    const starts = { lanes: pace.concurrency, staggerMs: 0, gapMs: pace.thinkMs };
    return new SessionSource(() => {
      const request = make();
      if (request === null) return null;
      let isSent = false;
      return {
        next: () => {
          if (isSent) return null;
          isSent = true;
          return { request, delayMs: 0, afterArrivalMs: 0, starts: [], waitsForAgents: false };
        },
      };
    }, starts);
  }
  return new PulledSource(() => {
    const arrivalMs = pace.arrivals();
    if (arrivalMs === Number.POSITIVE_INFINITY) return null;
    const request = make();
    return request === null ? null : timed(request, arrivalMs);
  });
}
