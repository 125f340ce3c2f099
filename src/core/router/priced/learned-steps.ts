import type { ObservedStep } from "../placement.ts";

/** Features of a step: one, prefill tokens, prefill attention, decodes, decode context. */
const NUM_FEATURES = 5;
/** Typical sizes of the features, which puts their coefficients on one scale. */
const SCALES = [1, 256, 256 * 1024, 16, 16 * 1024] as const;
/** What steps cost before any was seen, in milliseconds for each feature at its scale: a small model on a CPU. */
const PRIOR_MS = [2, 64, 4, 8, 1] as const;
/** How sure the prior is of each coefficient, in observations of a feature at its scale. Of what is not seen for long as much stays. */
const LEAST_INFORMATION = 1e-4;
/** What an observation is worth after the next one: about 1,000 steps are remembered. */
const FORGETTING = 0.999;
/** Steps beyond it are nobody's, and their squares would leave the range of numbers: milliseconds, and features at their scale. */
const MAX_AMOUNT = 1e9;
/** A step with an error of more than so many times the usual one counts for so much less. */
const CLIP = 3;
/** Weight of one step in the usual error. */
const ERROR_WEIGHT = 0.02;

/**
 * Milliseconds of a step as a linear function of what it computes, learned from the steps of all workers: recursive least squares
 * with forgetting (Haykin, Adaptive Filter Theory, chapter 10) and Huber's weights. It keeps the information, not its inverse, and never
 * less of it than the prior has (Gunnarsson, "Combining tracking and regularization in recursive least squares identification", 1996):
 * traffic that is all alike for hours leaves it positive definite, and what it does not tell about stays as it was learned. What
 * single workers differ by is not its business.
 */
export class LearnedSteps {
  readonly #coefficients = Float64Array.from(PRIOR_MS);
  /** Weighted sum of the products of features, row by row, the lower half: the inverse of the coefficients' covariance. */
  readonly #information = new Float64Array(NUM_FEATURES * NUM_FEATURES);
  readonly #factor = new Float64Array(NUM_FEATURES * NUM_FEATURES);
  readonly #features = new Float64Array(NUM_FEATURES);
  readonly #gain = new Float64Array(NUM_FEATURES);
  #usualError = 0;
  #numSteps = 0;

  constructor() {
    for (let i = 0; i < NUM_FEATURES; i++) this.#information[i * NUM_FEATURES + i] = LEAST_INFORMATION;
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

  /** A step that took no time that can be, or that is beyond all measure, changes nothing. */
  observe({ numPrefillTokens, prefillAttention, numDecodes, decodeContextTokens, ms }: ObservedStep): void {
    const x = this.#features;
    x[0] = 1;
    x[1] = numPrefillTokens / SCALES[1];
    x[2] = prefillAttention / SCALES[2];
    x[3] = numDecodes / SCALES[3];
    x[4] = decodeContextTokens / SCALES[4];
    if (!isAmount(ms) || !x.every(isAmount)) return;
    let predicted = 0;
    for (let i = 0; i < NUM_FEATURES; i++) predicted += this.#coefficients[i]! * x[i]!;
    const error = ms - predicted;
    const size = Math.abs(error);
    this.#numSteps++;
    // The first steps tell what is usual.
    const limit =
      this.#numSteps > 2 * NUM_FEATURES
        ? CLIP * Math.max(this.#usualError, 0.05 * Math.abs(predicted))
        : Number.POSITIVE_INFINITY;
    const usual = Math.min(size, limit);
    this.#usualError += (usual - this.#usualError) * Math.max(ERROR_WEIGHT, 1 / this.#numSteps);
    if (size > 0) this.#update(error, usual / size);
  }

  #update(error: number, weight: number): void {
    const x = this.#features;
    const information = this.#information;
    for (let i = 0; i < NUM_FEATURES; i++) {
      for (let j = 0; j <= i; j++) {
        const at = i * NUM_FEATURES + j;
        information[at] = FORGETTING * information[at]! + weight * x[i]! * x[j]!;
      }
      information[i * NUM_FEATURES + i]! += (1 - FORGETTING) * LEAST_INFORMATION;
    }
    this.#solve();
    for (let i = 0; i < NUM_FEATURES; i++) this.#coefficients[i]! += weight * error * this.#gain[i]!;
  }

  /** Sets the gain to the inverse of the information times the features, by Cholesky's factors. */
  #solve(): void {
    const a = this.#information;
    const l = this.#factor;
    const gain = this.#gain;
    for (let i = 0; i < NUM_FEATURES; i++) {
      for (let j = 0; j <= i; j++) {
        let sum = a[i * NUM_FEATURES + j]!;
        for (let k = 0; k < j; k++) sum -= l[i * NUM_FEATURES + k]! * l[j * NUM_FEATURES + k]!;
        // Rounding must not take away the least that there is.
        l[i * NUM_FEATURES + j] =
          i === j ? Math.sqrt(Math.max(sum, LEAST_INFORMATION)) : sum / l[j * NUM_FEATURES + j]!;
      }
      let sum = this.#features[i]!;
      for (let k = 0; k < i; k++) sum -= l[i * NUM_FEATURES + k]! * gain[k]!;
      gain[i] = sum / l[i * NUM_FEATURES + i]!;
    }
    for (let i = NUM_FEATURES - 1; i >= 0; i--) {
      let sum = gain[i]!;
      for (let k = i + 1; k < NUM_FEATURES; k++) sum -= l[k * NUM_FEATURES + i]! * gain[k]!;
      gain[i] = sum / l[i * NUM_FEATURES + i]!;
    }
  }
}

function isAmount(value: number): boolean {
  return value >= 0 && value <= MAX_AMOUNT;
}
