import { assert } from "../../core/util/assert.ts";

/** Most buckets of one series. When they are full, pairs become one bucket of twice the width. */
export const MAX_SERIES_BUCKETS = 512;

/** Width of a bucket at the beginning of a run. */
const FIRST_WIDTH_MS = 1;

/** Shorter intervals are moments: an amount divided by less could overflow. */
const MIN_INTERVAL_MS = 1e-9;

/** A series as plain arrays: one value per bucket, the first one beginning at time 0. */
export interface SeriesData {
  readonly widthMs: number;
  /** What was added in the bucket, divided by its width. */
  readonly means: Float64Array;
}

/**
 * A quantity over the time of a run, in bounded memory: amounts spread over intervals (bytes, joules, requests), or a level
 * that stands until it changes (blocks in use). Nothing is lost but resolution: the integral over all buckets is exact.
 */
export class TimeSeries {
  #widthMs = FIRST_WIDTH_MS;
  readonly #integrals = new Float64Array(MAX_SERIES_BUCKETS);
  #level = 0;
  #levelSinceMs = 0;
  #endMs = 0;

  /** Adds `amount`, spread evenly over an interval; a very short one is a moment. */
  add(startMs: number, endMs: number, amount: number): void {
    assert(startMs >= 0 && endMs >= startMs, "an interval ends after it begins");
    this.#reach(endMs);
    if (endMs - startMs < MIN_INTERVAL_MS) {
      this.#integrals[this.#indexOf(startMs)]! += amount;
      return;
    }
    this.#spread(startMs, endMs, amount / (endMs - startMs));
  }

  /** From `nowMs` on the level is `value`. Times must not go back. */
  set(value: number, nowMs: number): void {
    this.#settle(nowMs);
    this.#level = value;
  }

  /** Changes the level by `change`. */
  step(change: number, nowMs: number): void {
    this.set(this.#level + change, nowMs);
  }

  /** The series from 0 to `endMs`, levels carried on to there. */
  data(endMs: number): SeriesData {
    this.#settle(Math.max(endMs, this.#levelSinceMs));
    const length = Math.max(1, Math.ceil(Math.max(endMs, this.#endMs) / this.#widthMs));
    const means = new Float64Array(length);
    for (let i = 0; i < length; i++) means[i] = (this.#integrals[i] ?? 0) / this.#widthMs;
    return { widthMs: this.#widthMs, means };
  }

  #settle(nowMs: number): void {
    assert(nowMs >= this.#levelSinceMs, "a level cannot change in the past");
    this.#reach(nowMs);
    if (this.#level !== 0 && nowMs > this.#levelSinceMs) {
      this.#spread(this.#levelSinceMs, nowMs, this.#level);
    }
    this.#levelSinceMs = nowMs;
  }

  #spread(startMs: number, endMs: number, rate: number): void {
    let atMs = startMs;
    for (let index = this.#indexOf(startMs); atMs < endMs; index++) {
      const untilMs = Math.min((index + 1) * this.#widthMs, endMs);
      this.#integrals[index]! += rate * (untilMs - atMs);
      atMs = untilMs;
      if (index === MAX_SERIES_BUCKETS - 1) return;
    }
  }

  #indexOf(timeMs: number): number {
    return Math.min(Math.floor(timeMs / this.#widthMs), MAX_SERIES_BUCKETS - 1);
  }

  #reach(timeMs: number): void {
    assert(timeMs < Number.POSITIVE_INFINITY, "a series has an end");
    if (timeMs > this.#endMs) this.#endMs = timeMs;
    while (timeMs > this.#widthMs * MAX_SERIES_BUCKETS) this.#double();
  }

  #double(): void {
    const half = MAX_SERIES_BUCKETS / 2;
    for (let i = 0; i < half; i++) {
      this.#integrals[i] = this.#integrals[2 * i]! + this.#integrals[2 * i + 1]!;
    }
    this.#integrals.fill(0, half);
    this.#widthMs *= 2;
  }
}
