/** One observation moves the estimate by at most this factor, whatever it says. */
const MAX_JUMP = 2;
/** An estimate stays within this factor of the prior, in either direction. */
const MAX_FACTOR = 32;
/** Without observations the estimate goes half of the way back to the prior in this time, so that whoever was slow is tried again. */
const FORGET_HALF_LIFE_MS = 60_000;

/**
 * A positive factor by which reality differs from a prior, learned from ratios: an exponentially weighted mean of their logarithms.
 * Outliers are clipped, the whole is bounded, and what is not seen any more is forgotten.
 */
export class RobustRatio {
  readonly #weight: number;
  #log = 0;
  #seenAtMs = 0;

  /** `weight` of one observation, in (0, 1]. */
  constructor(weight: number) {
    this.#weight = weight;
  }

  at(nowMs: number): number {
    if (this.#log === 0) return 1;
    return Math.exp(this.#log * 0.5 ** (Math.max(0, nowMs - this.#seenAtMs) / FORGET_HALF_LIFE_MS));
  }

  /** `ratio` of what was seen to what the prior says. One that is no positive number changes nothing. */
  observe(ratio: number, nowMs: number): void {
    if (!(ratio > 0) || ratio === Number.POSITIVE_INFINITY) return;
    const current = Math.log(this.at(nowMs));
    const jump = Math.max(-Math.log(MAX_JUMP), Math.min(Math.log(MAX_JUMP), Math.log(ratio) - current));
    const bound = Math.log(MAX_FACTOR);
    this.#log = Math.max(-bound, Math.min(bound, current + this.#weight * jump));
    this.#seenAtMs = nowMs;
  }
}
