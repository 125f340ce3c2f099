import { assert } from "../util/assert.ts";

/** Steps per doubling of the gap: neighbouring buckets differ by a quarter. */
const BUCKETS_PER_OCTAVE = 3;
/** Gaps from 1 ms to 37 hours are told apart; shorter and longer ones fall into the ends. */
const NUM_OCTAVES = 27;
/** Buckets of gaps, by the logarithm of their length. */
export const NUM_BUCKETS = BUCKETS_PER_OCTAVE * NUM_OCTAVES;
/** What the earlier gaps count after each further one: about the last thousand matter. */
const DECAY = 0.999;

/** The bucket of a gap. */
export function bucketOf(gapMs: number): number {
  const bucket = Math.floor(BUCKETS_PER_OCTAVE * Math.log2(Math.max(gapMs, 1)));
  return Math.min(bucket, NUM_BUCKETS - 1);
}

/** Where a bucket begins, in milliseconds; fractions of a bucket count along the logarithm. */
export function gapAt(bucket: number): number {
  return 2 ** (bucket / BUCKETS_PER_OCTAVE);
}

/**
 * How long it takes conversations to come back, and how many do not: counts by bucket, of which the recent ones count most. One gap
 * counts once, however long it is, so that no single conversation can bend it.
 */
export class GapHistogram {
  readonly #counts = new Float64Array(NUM_BUCKETS);
  #total = 0;
  #lost = 0;

  /** Returns, decayed. */
  get total(): number {
    return this.#total;
  }

  /** Conversations that did not return, decayed. */
  get lost(): number {
    return this.#lost;
  }

  count(bucket: number): number {
    return this.#counts[bucket]!;
  }

  /** A conversation has come back after a gap of this bucket. */
  add(bucket: number): void {
    assert(bucket >= 0 && bucket < NUM_BUCKETS, "there is no such bucket");
    this.#decay();
    this.#counts[bucket] = this.#counts[bucket]! + 1;
    this.#total++;
  }

  /** One has not come back. */
  addLost(): void {
    this.#decay();
    this.#lost++;
  }

  /** One that was counted as lost has come back after all. */
  takeLost(): void {
    this.#lost = Math.max(0, this.#lost - 1);
  }

  #decay(): void {
    for (let i = 0; i < NUM_BUCKETS; i++) this.#counts[i] = this.#counts[i]! * DECAY;
    this.#total *= DECAY;
    this.#lost *= DECAY;
  }

  checkInvariants(): void {
    const sum = this.#counts.reduce((all, count) => all + count, 0);
    assert(Math.abs(sum - this.#total) <= 1e-6 * (1 + sum), "the histogram's total is off");
    assert(this.#lost >= 0, "fewer than none were lost");
  }
}
