import { quantile } from "../../core/util/quantiles.ts";

/** Quantiles of the relative error of predictions, in percent. */
export interface ErrorStats {
  readonly n: number;
  readonly medianAbsPct: number;
  readonly p90AbsPct: number;
  readonly meanSignedPct: number;
}

/** Collects relative errors of one metric. */
export class ErrorSample {
  readonly #errors: number[] = [];

  /** `measured` is not zero. */
  add(predicted: number, measured: number): void {
    this.#errors.push((predicted / measured - 1) * 100);
  }

  get size(): number {
    return this.#errors.length;
  }

  /** Quantiles by nearest rank; with no errors all are 0. */
  stats(): ErrorStats {
    const n = this.#errors.length;
    if (n === 0) return { n, medianAbsPct: 0, p90AbsPct: 0, meanSignedPct: 0 };
    const absolute = this.#errors.map(Math.abs).sort((a, b) => a - b);
    const at = (share: number): number => quantile(absolute, share);
    const mean = this.#errors.reduce((sum, error) => sum + error, 0) / n;
    return { n, medianAbsPct: round(at(0.5)), p90AbsPct: round(at(0.9)), meanSignedPct: round(mean) };
  }
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
