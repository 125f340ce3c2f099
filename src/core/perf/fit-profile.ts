import { quantile } from "../util/quantiles.ts";
import {
  coefficientsOf,
  type LinearCost,
  NUM_STEP_TERMS,
  type StepCoefficients,
  stepTerms,
} from "./profile-model.ts";
import type { StepLoad } from "./step-load.ts";

/** How well a fit describes what it was fitted on, in percent of each measured value. */
export interface FitError {
  readonly n: number;
  readonly medianAbsPct: number;
  readonly p90AbsPct: number;
}

/** Measured rows of a linear model: `terms` has `width` values for each of `times`. */
interface Rows {
  readonly width: number;
  /** How much each row counts. */
  readonly shares: Float64Array;
  readonly terms: Float64Array;
  readonly times: Float64Array;
}

/** Rounds of reweighting: the weights settle after a few. */
const ROUNDS = 30;
/** Sweeps over the coefficients in a round; each starts where the last one ended. */
const SWEEPS = 400;
/** Relative residual below which a row does not gain further weight. */
const MIN_RESIDUAL = 0.01;
/** Fitted values below it count as this much: nothing that is measured takes less. */
const MIN_VALUE_MS = 1e-4;

/**
 * Fits the step coefficients of a profile to measured steps: the least sum of relative deviations, with no coefficient below zero.
 * Deviations count linearly, so that a step during which the machine did something else weighs no more than any other: the fit is of
 * medians. Solved as least squares that are reweighted by the residuals (Schlossmacher 1973), each round by coordinate descent.
 * `add` is called with every measured step.
 */
export class StepFit {
  readonly #terms: number[] = [];
  readonly #times: number[] = [];
  readonly #shares: number[] = [];
  readonly #row = new Float64Array(NUM_STEP_TERMS);

  get size(): number {
    return this.#times.length;
  }

  /** `ms` is positive. `share`: how much the step counts beside the others. */
  add(load: StepLoad, ms: number, share = 1): void {
    stepTerms(load, this.#row);
    this.#terms.push(...this.#row);
    this.#times.push(ms);
    this.#shares.push(share);
  }

  solve(): { coefficients: StepCoefficients; error: FitError } {
    const rows: Rows = {
      width: NUM_STEP_TERMS,
      terms: Float64Array.from(this.#terms),
      times: Float64Array.from(this.#times),
      shares: Float64Array.from(this.#shares),
    };
    const solution = leastDeviations(rows);
    return { coefficients: coefficientsOf(solution), error: errorOf(rows, solution) };
  }
}

/**
 * Coefficients of any linear model, fitted in the same way: `terms` of each sample have one length, `ms` is positive. All zero without
 * samples.
 */
export function fitTerms(
  width: number,
  samples: ReadonlyArray<{ readonly terms: readonly number[]; readonly ms: number }>,
): Float64Array {
  return leastDeviations({
    width,
    terms: Float64Array.from(samples.flatMap(({ terms }) => terms)),
    times: Float64Array.from(samples, ({ ms }) => ms),
    shares: new Float64Array(samples.length).fill(1),
  });
}

/** Fits `callMs + tokenMs × tokens` in the same way; zero without samples. Not negative. */
export function fitLinear(
  samples: ReadonlyArray<{ readonly tokens: number; readonly ms: number }>,
): LinearCost {
  const rows = samples.map(({ tokens, ms }) => ({ terms: [1, tokens], ms }));
  const [callMs = 0, tokenMs = 0] = fitTerms(2, rows);
  return { callMs, tokenMs };
}

function leastDeviations(rows: Rows): Float64Array {
  const { width, times, shares } = rows;
  const solution = new Float64Array(width);
  const weights = new Float64Array(times.length);
  for (let i = 0; i < times.length; i++) weights[i] = shares[i]! / times[i]! ** 2;
  for (let round = 0; round < ROUNDS; round++) {
    descend(rows, weights, solution);
    for (let i = 0; i < times.length; i++) {
      // Relative to the fit, not to what was measured: that would count rows that came out short for more than others like them.
      const value = Math.max(rowValue(rows, i, solution), MIN_VALUE_MS);
      const residual = Math.max(Math.abs(times[i]! / value - 1), MIN_RESIDUAL);
      weights[i] = shares[i]! / (value * value * residual);
    }
  }
  return solution;
}

/** Weighted least squares over the non-negative coefficients, from where `solution` stands. */
function descend({ width, terms, times }: Rows, weights: Float64Array, solution: Float64Array): void {
  const gram = new Float64Array(width * width);
  const right = new Float64Array(width);
  for (let row = 0; row < times.length; row++) {
    const base = row * width;
    for (let i = 0; i < width; i++) {
      const weighted = weights[row]! * terms[base + i]!;
      if (weighted === 0) continue;
      right[i] = right[i]! + weighted * times[row]!;
      for (let j = 0; j < width; j++)
        gram[i * width + j] = gram[i * width + j]! + weighted * terms[base + j]!;
    }
  }
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    for (let i = 0; i < width; i++) {
      const own = gram[i * width + i]!;
      if (own === 0) continue;
      let gradient = right[i]!;
      for (let j = 0; j < width; j++) gradient -= gram[i * width + j]! * solution[j]!;
      solution[i] = Math.max(0, solution[i]! + gradient / own);
    }
  }
}

function rowValue({ width, terms }: Rows, row: number, solution: Float64Array): number {
  let value = 0;
  for (let i = 0; i < width; i++) value += terms[row * width + i]! * solution[i]!;
  return value;
}

function errorOf(rows: Rows, solution: Float64Array): FitError {
  const n = rows.times.length;
  if (n === 0) return { n, medianAbsPct: 0, p90AbsPct: 0 };
  const errors = Float64Array.from(rows.times, (time, row) =>
    Math.abs(100 * (rowValue(rows, row, solution) / time - 1)),
  ).sort();
  return { n, medianAbsPct: quantile(errors, 0.5), p90AbsPct: quantile(errors, 0.9) };
}
