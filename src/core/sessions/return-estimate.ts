import { type GapHistogram, gapAt, NUM_BUCKETS } from "./gap-histogram.ts";

/** What the fleet's gaps weigh, as gaps of the conversation itself. */
const PRIOR_WEIGHT = 4;
/** Fewer gaps of the fleet than this weigh less. */
const FULL_PRIOR_GAPS = 8;
/** Conversations that count as lost before any was: without evidence nobody is expected. */
const BASE_LOST = 1;
/** The next turn is prepared for from here on, and given up from there on: parts of the gaps. */
const EARLY_QUANTILE = 0.1;
const LATE_QUANTILE = 0.9;
/** A client's own word on the gap is believed with this margin. */
export const LATEST_FACTOR = 3;

/** When a conversation is likely to come back, in milliseconds from the end of its last turn. */
export interface ReturnEstimate {
  /** Earlier is unlikely. */
  readonly earlyMs: number;
  /** Later is unlikely. */
  readonly lateMs: number;
  /** Of coming back at all, in [0, 1]. */
  readonly probability: number;
}

/**
 * A conversation's gap from its own last gaps, given as buckets, and the fleet's: the posterior of a Dirichlet distribution whose
 * prior is the fleet's histogram at a weight of {@link PRIOR_WEIGHT} gaps. Null when nothing is known.
 *
 * ```
 *   p(bucket) ∝ own(bucket) + w × fleet(bucket)      w = PRIOR_WEIGHT / max(FULL_PRIOR_GAPS, fleet total)
 *   p(lost)   ∝               w × (fleet lost + BASE_LOST)
 * ```
 */
export function estimateReturn(own: readonly number[], fleet: GapHistogram): ReturnEstimate | null {
  const weight = PRIOR_WEIGHT / Math.max(FULL_PRIOR_GAPS, fleet.total + fleet.lost);
  const mass = new Float64Array(NUM_BUCKETS);
  for (let i = 0; i < NUM_BUCKETS; i++) mass[i] = weight * fleet.count(i);
  for (const bucket of own) mass[bucket] = mass[bucket]! + 1;
  const returning = own.length + weight * fleet.total;
  if (returning === 0) return null;
  return {
    earlyMs: quantile(mass, EARLY_QUANTILE * returning),
    lateMs: quantile(mass, LATE_QUANTILE * returning),
    probability: returning / (returning + weight * (fleet.lost + BASE_LOST)),
  };
}

/** What a client says of its next turn stands for an estimate. */
export function announcedReturn(nextTurnMs: number): ReturnEstimate {
  return { earlyMs: nextTurnMs, lateMs: LATEST_FACTOR * nextTurnMs, probability: 1 };
}

/** The gap below which `wanted` of the mass lies. */
function quantile(mass: Float64Array, wanted: number): number {
  let below = 0;
  for (let i = 0; i < NUM_BUCKETS; i++) {
    const here = mass[i]!;
    if (here > 0 && below + here >= wanted) return gapAt(i + Math.max(0, wanted - below) / here);
    below += here;
  }
  return gapAt(NUM_BUCKETS);
}
