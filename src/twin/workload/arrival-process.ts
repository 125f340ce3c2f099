import type { RandomStream } from "../../core/util/rng.ts";
import { nextGamma, nextWeibull, weibullShapeOf } from "../../core/util/variates.ts";

/** When requests, or sessions, of an open loop arrive. Rates are means, per second. */
export type ArrivalSpec =
  /** Equal gaps, the first arrival at 0. */
  | { readonly kind: "constant"; readonly requestsPerSecond: number }
  | { readonly kind: "poisson"; readonly requestsPerSecond: number }
  /** Independent gaps of that coefficient of variation: above 1 burstier than Poisson. */
  | { readonly kind: "gamma" | "weibull"; readonly requestsPerSecond: number; readonly cv: number }
  /**
   * A Poisson process that is switched between two rates; both last for exponential times of the given means (a two-state
   * Markov-modulated Poisson process: Heffes and Lucantoni, 1986). Starts with a burst.
   */
  | {
      readonly kind: "bursts";
      readonly requestsPerSecond: number;
      readonly idleRequestsPerSecond: number;
      readonly burstMs: number;
      readonly idleMs: number;
    }
  /** A Poisson process whose rate swings about its mean: rate × (1 + swing × sin(2π (t + phase) / period)). */
  | {
      readonly kind: "diurnal";
      readonly requestsPerSecond: number;
      readonly swing: number;
      readonly periodMs: number;
      readonly phaseMs: number;
    }
  /** One rate after the other, each for its time; ends after the last. */
  | {
      readonly kind: "stages";
      readonly gaps: "constant" | "poisson";
      readonly stages: ReadonlyArray<{ readonly requestsPerSecond: number; readonly durationMs: number }>;
    };

/** Gives the next arrival, in milliseconds from the start and never before the last; infinite when there is none. */
export type ArrivalProcess = () => number;

/** An arrival process from its beginning. */
export function arrivalProcess(spec: ArrivalSpec, stream: RandomStream): ArrivalProcess {
  switch (spec.kind) {
    case "constant":
      return constantArrivals(spec.requestsPerSecond);
    case "poisson":
      return renewal(1000 / spec.requestsPerSecond, () => stream.nextExponential(1));
    case "gamma": {
      const shape = 1 / spec.cv ** 2;
      return renewal(1000 / spec.requestsPerSecond, () => nextGamma(shape, stream));
    }
    case "weibull": {
      const shape = weibullShapeOf(spec.cv);
      return renewal(1000 / spec.requestsPerSecond, () => nextWeibull(shape, stream));
    }
    case "bursts":
      return burstArrivals(spec, stream);
    case "diurnal":
      return diurnalArrivals(spec, stream);
    case "stages":
      return stagedArrivals(spec, stream);
  }
}

function constantArrivals(requestsPerSecond: number): ArrivalProcess {
  let index = 0;
  return () => (index++ * 1000) / requestsPerSecond;
}

function renewal(meanGapMs: number, nextUnitGap: () => number): ArrivalProcess {
  let timeMs = 0;
  return () => {
    timeMs += meanGapMs * nextUnitGap();
    return timeMs;
  };
}

function burstArrivals(spec: ArrivalSpec & { kind: "bursts" }, stream: RandomStream): ArrivalProcess {
  let timeMs = 0;
  let isBurst = true;
  let endMs = stream.nextExponential(spec.burstMs);
  return () => {
    for (;;) {
      const rate = isBurst ? spec.requestsPerSecond : spec.idleRequestsPerSecond;
      const nextMs = rate > 0 ? timeMs + stream.nextExponential(1000 / rate) : Number.POSITIVE_INFINITY;
      if (nextMs < endMs) {
        timeMs = nextMs;
        return timeMs;
      }
      // A Poisson process forgets, so that the gap is drawn anew at the new rate.
      timeMs = endMs;
      isBurst = !isBurst;
      endMs += stream.nextExponential(isBurst ? spec.burstMs : spec.idleMs);
    }
  };
}

/** By rejection from a process of the highest rate (Lewis and Shedler, 1979). */
function diurnalArrivals(spec: ArrivalSpec & { kind: "diurnal" }, stream: RandomStream): ArrivalProcess {
  const highest = spec.requestsPerSecond * (1 + spec.swing);
  let timeMs = 0;
  return () => {
    for (;;) {
      timeMs += stream.nextExponential(1000 / highest);
      const angle = (2 * Math.PI * (timeMs + spec.phaseMs)) / spec.periodMs;
      const rate = spec.requestsPerSecond * (1 + spec.swing * Math.sin(angle));
      if (stream.nextFloat() * highest < rate) return timeMs;
    }
  };
}

function stagedArrivals(spec: ArrivalSpec & { kind: "stages" }, stream: RandomStream): ArrivalProcess {
  let stage = 0;
  let startMs = 0;
  let next = stageProcess(spec, 0, stream);
  return () => {
    for (;;) {
      const current = spec.stages[stage];
      if (current === undefined) return Number.POSITIVE_INFINITY;
      const offsetMs = next();
      if (offsetMs < current.durationMs) return startMs + offsetMs;
      startMs += current.durationMs;
      stage++;
      next = stageProcess(spec, stage, stream);
    }
  };
}

function stageProcess(
  spec: ArrivalSpec & { kind: "stages" },
  stage: number,
  stream: RandomStream,
): ArrivalProcess {
  const rate = spec.stages[stage]?.requestsPerSecond ?? 0;
  if (rate === 0) return () => Number.POSITIVE_INFINITY;
  return arrivalProcess({ kind: spec.gaps, requestsPerSecond: rate }, stream);
}
