import type { ObservedStep } from "../placement.ts";

/** Features of a step: one, prefill tokens, prefill attention, decodes, decode context. */
const NUM_FEATURES = 5;
/** Typical sizes of the features, which puts their coefficients on one scale. */
const SCALES = [1, 256, 256 * 1024, 16, 16 * 1024] as const;
/** What steps cost before any was seen, in milliseconds for each feature at its scale: a small model on a CPU. */
const PRIOR_MS = [2, 64, 4, 8, 1] as const;
/** How sure the prior is: variance of each coefficient relative to that of one observation. */
const PRIOR_VARIANCE = 1e4;
/** What an observation is worth after the next one: about 1,000 steps are remembered. */
const FORGETTING = 0.999;
/** A variance never grows beyond it while nothing is learned about its coefficient. */
const MAX_VARIANCE = 1e6;
/** Errors beyond so many times the usual one are clipped. */
const CLIP = 3;
/** Weight of one step in the usual error. */
const ERROR_WEIGHT = 0.02;

/**
 * Milliseconds of a step as a linear function of what it computes, learned from the steps of all workers: recursive least squares
 * with forgetting (Haykin, Adaptive Filter Theory, chapter 10) and clipped errors. What single workers differ by is not its
 * business.
 */
export class LearnedSteps {
  readonly #coefficients = Float64Array.from(PRIOR_MS);
  /** Covariance of the coefficients, row by row. */
  readonly #covariance = new Float64Array(NUM_FEATURES * NUM_FEATURES);
  readonly #features = new Float64Array(NUM_FEATURES);
  readonly #gain = new Float64Array(NUM_FEATURES);
  #usualError = 0;
  #numSteps = 0;

  constructor() {
    for (let i = 0; i < NUM_FEATURES; i++) this.#covariance[i * NUM_FEATURES + i] = PRIOR_VARIANCE;
  }

  /** At least a little: nothing takes no time. */
  ms(
    numPrefillTokens: number,
    prefillAttention: number,
    numDecodes: number,
    decodeContextTokens: number,
  ): number {
    const [a, b, c, d, e] = this.#coefficients;
    // A negative price of something would make more of it cheaper.
    const sum =
      Math.max(0, a!) +
      (Math.max(0, b!) * numPrefillTokens) / SCALES[1] +
      (Math.max(0, c!) * prefillAttention) / SCALES[2] +
      (Math.max(0, d!) * numDecodes) / SCALES[3] +
      (Math.max(0, e!) * decodeContextTokens) / SCALES[4];
    return Math.max(1e-3, sum);
  }

  observe({ numPrefillTokens, prefillAttention, numDecodes, decodeContextTokens, ms }: ObservedStep): void {
    if (!Number.isFinite(ms) || ms < 0) return;
    const x = this.#features;
    x[0] = 1;
    x[1] = numPrefillTokens / SCALES[1];
    x[2] = prefillAttention / SCALES[2];
    x[3] = numDecodes / SCALES[3];
    x[4] = decodeContextTokens / SCALES[4];
    let predicted = 0;
    for (let i = 0; i < NUM_FEATURES; i++) predicted += this.#coefficients[i]! * x[i]!;
    let error = ms - predicted;
    this.#numSteps++;
    // The first steps tell what is usual.
    if (this.#numSteps > 2 * NUM_FEATURES) {
      const limit = CLIP * Math.max(this.#usualError, 0.05 * Math.abs(predicted));
      error = Math.max(-limit, Math.min(limit, error));
    }
    this.#usualError += (Math.abs(error) - this.#usualError) * Math.max(ERROR_WEIGHT, 1 / this.#numSteps);
    this.#update(error);
  }

  #update(error: number): void {
    const x = this.#features;
    const p = this.#covariance;
    const gain = this.#gain;
    let denominator = FORGETTING;
    for (let i = 0; i < NUM_FEATURES; i++) {
      let sum = 0;
      for (let j = 0; j < NUM_FEATURES; j++) sum += p[i * NUM_FEATURES + j]! * x[j]!;
      gain[i] = sum;
      denominator += x[i]! * sum;
    }
    for (let i = 0; i < NUM_FEATURES; i++) this.#coefficients[i]! += (gain[i]! / denominator) * error;
    for (let i = 0; i < NUM_FEATURES; i++)
      for (let j = 0; j <= i; j++) {
        const value = (p[i * NUM_FEATURES + j]! - (gain[i]! * gain[j]!) / denominator) / FORGETTING;
        p[i * NUM_FEATURES + j] = value;
        p[j * NUM_FEATURES + i] = value;
      }
    this.#limit();
  }

  /** Keeps what is not learned about from winding up: a variance that would grow too large takes its row and column along. */
  #limit(): void {
    const p = this.#covariance;
    for (let i = 0; i < NUM_FEATURES; i++) {
      const variance = p[i * NUM_FEATURES + i]!;
      if (variance > 0 && variance <= MAX_VARIANCE) continue;
      const scale = variance > 0 ? Math.sqrt(MAX_VARIANCE / variance) : 0;
      for (let j = 0; j < NUM_FEATURES; j++) {
        p[i * NUM_FEATURES + j]! *= scale;
        p[j * NUM_FEATURES + i]! *= scale;
      }
      if (variance <= 0) p[i * NUM_FEATURES + i] = PRIOR_VARIANCE;
    }
  }
}
