import { assert } from "../../core/util/assert.ts";
import type { Summary } from "../../core/util/quantiles.ts";

/** Largest relative error of a quantile once values are kept in buckets. */
export const HISTOGRAM_RELATIVE_ERROR = 0.005;

/** Up to so many added values quantiles are exact. */
export const MAX_EXACT_VALUES = 4096;

/** Values below this share the bucket of zero: a picosecond, when values are milliseconds. */
const MIN_VALUE = 1e-9;

/** Values above this share the last bucket: thirty million years, when values are milliseconds. */
const MAX_VALUE = 1e18;

const GAMMA = (1 + HISTOGRAM_RELATIVE_ERROR) / (1 - HISTOGRAM_RELATIVE_ERROR);
const LOG_GAMMA = Math.log(GAMMA);
const FIRST_BUCKET = Math.ceil(Math.log(MIN_VALUE) / LOG_GAMMA);
const LAST_BUCKET = Math.ceil(Math.log(MAX_VALUE) / LOG_GAMMA);
/** Values this close to a bound are placed by their logarithm, whose rounding decides. */
const BOUND_MARGIN = 1e-9;
/** The least and the most of each bucket that surely belong there, filled in as buckets are used: powers take long. */
const lows = new Float64Array(LAST_BUCKET - FIRST_BUCKET + 1);
const highs = new Float64Array(LAST_BUCKET - FIRST_BUCKET + 1);

function fillBounds(index: number): void {
  lows[index - FIRST_BUCKET] = GAMMA ** (index - 1) * (1 + BOUND_MARGIN);
  highs[index - FIRST_BUCKET] = GAMMA ** index * (1 - BOUND_MARGIN);
}

/** Buckets are made in runs of this length around those in use. */
const GROWTH = 256;

/** A histogram as plain arrays, ascending by value: it can be sent to another thread. */
export interface HistogramData {
  readonly values: Float64Array;
  readonly counts: Float64Array;
  readonly isExact: boolean;
  readonly sum: number;
  readonly min: number;
  readonly max: number;
}

/**
 * A distribution of values that are not negative, in bounded memory. The first {@link MAX_EXACT_VALUES} are kept as they are;
 * then all go into buckets whose bounds grow geometrically, so that every quantile is within
 * {@link HISTOGRAM_RELATIVE_ERROR} of the exact one (DDSketch: Masson, Rim, Lee, 2019). Mean, minimum and maximum stay exact.
 */
export class LatencyHistogram {
  #count = 0;
  #sum = 0;
  #min = Number.POSITIVE_INFINITY;
  #max = 0;
  /** Kept values and how often each was seen; null once they are in buckets. */
  #exact: { values: number[]; counts: number[] } | null = { values: [], counts: [] };
  #buckets = new Float64Array(0);
  #offset = 0;
  #zeros = 0;
  /** What {@link data} gave last, until another value is added. */
  #data: HistogramData | null = null;
  /** The bucket that was filled last, and the values that surely belong to it. */
  #lastIndex = 0;
  #lastLow = Number.POSITIVE_INFINITY;
  #lastHigh = 0;

  get count(): number {
    return this.#count;
  }

  get isExact(): boolean {
    return this.#exact !== null;
  }

  /** Adds a value, `count` times. */
  add(value: number, count = 1): void {
    assert(
      value >= 0 && value < Number.POSITIVE_INFINITY && count >= 0,
      "a histogram takes finite values from 0",
    );
    if (count === 0) return;
    this.#data = null;
    this.#count += count;
    this.#sum += value * count;
    if (value < this.#min) this.#min = value;
    if (value > this.#max) this.#max = value;
    const exact = this.#exact;
    if (exact === null) {
      this.#fill(value, count);
      return;
    }
    exact.values.push(value);
    exact.counts.push(count);
    if (exact.values.length > MAX_EXACT_VALUES) this.#toBuckets();
  }

  /** Adds the gaps between neighbours of the times from `from` to `to` of a list, `count` times. */
  addGaps(timesMs: Float64Array, from: number, to: number, count: number): void {
    // Neighbouring gaps are nearly equal: most fall into one bucket, and are counted together.
    let inBucket = 0;
    let sum = this.#sum;
    let low = this.#lastLow;
    let high = this.#lastHigh;
    for (let i = from; i < to; i++) {
      const value = timesMs[i + 1]! - timesMs[i]!;
      if (value > low && value < high && value >= this.#min && value <= this.#max) {
        inBucket += count;
        sum += value * count;
        continue;
      }
      this.#sum = sum;
      this.#fillLast(inBucket);
      inBucket = 0;
      this.add(value, count);
      sum = this.#sum;
      low = this.#lastLow;
      high = this.#lastHigh;
    }
    this.#sum = sum;
    this.#fillLast(inBucket);
  }

  /** Adds all that another one, or its data, has seen. */
  merge(other: HistogramData): void {
    if (other.values.length === 0) return;
    if (!other.isExact && this.#exact !== null) this.#toBuckets();
    const sum = this.#sum + other.sum;
    for (let i = 0; i < other.values.length; i++) this.add(other.values[i]!, other.counts[i]!);
    this.#data = null;
    this.#sum = sum;
    this.#min = Math.min(this.#min, other.min);
    this.#max = Math.max(this.#max, other.max);
  }

  /** The q-quantile by nearest rank, or null without values. */
  quantile(q: number): number | null {
    return this.#count === 0 ? null : quantileOf(this.data(), q);
  }

  summary(): Summary | null {
    if (this.#count === 0) return null;
    const data = this.data();
    return {
      count: this.#count,
      mean: this.#sum / this.#count,
      p50: quantileOf(data, 0.5),
      p90: quantileOf(data, 0.9),
      p95: quantileOf(data, 0.95),
      p99: quantileOf(data, 0.99),
      p999: quantileOf(data, 0.999),
      max: this.#max,
    };
  }

  /** Values (of a bucket, the one that is nearest to all of it) and their counts, ascending. */
  data(): HistogramData {
    this.#data ??= this.#sorted();
    return this.#data;
  }

  #sorted(): HistogramData {
    const { values, counts } = this.#exact === null ? this.#bucketValues() : sorted(this.#exact);
    return { values, counts, isExact: this.isExact, sum: this.#sum, min: this.#min, max: this.#max };
  }

  #bucketValues(): { values: Float64Array; counts: Float64Array } {
    const values: number[] = [];
    const counts: number[] = [];
    if (this.#zeros > 0) {
      values.push(0);
      counts.push(this.#zeros);
    }
    for (let i = 0; i < this.#buckets.length; i++) {
      const count = this.#buckets[i]!;
      if (count === 0) continue;
      const middle = (2 * GAMMA ** (this.#offset + i)) / (GAMMA + 1);
      values.push(Math.min(Math.max(middle, this.#min), this.#max));
      counts.push(count);
    }
    return { values: new Float64Array(values), counts: new Float64Array(counts) };
  }

  #toBuckets(): void {
    const exact = this.#exact;
    this.#exact = null;
    for (const [index, value] of exact?.values.entries() ?? []) this.#fill(value, exact!.counts[index]!);
  }

  /** Counts values of the bucket that was filled last. */
  #fillLast(count: number): void {
    if (count === 0) return;
    this.#data = null;
    this.#count += count;
    this.#buckets[this.#lastIndex - this.#offset]! += count;
  }

  #fill(value: number, count: number): void {
    if (value < MIN_VALUE) {
      this.#zeros += count;
      return;
    }
    const index = Math.min(Math.max(Math.ceil(Math.log(value) / LOG_GAMMA), FIRST_BUCKET), LAST_BUCKET);
    if (index < this.#offset || index >= this.#offset + this.#buckets.length) this.#reach(index);
    this.#buckets[index - this.#offset]! += count;
    const at = index - FIRST_BUCKET;
    if (highs[at] === 0) fillBounds(index);
    this.#lastIndex = index;
    this.#lastLow = lows[at]!;
    this.#lastHigh = highs[at]!;
  }

  #reach(index: number): void {
    const isEmpty = this.#buckets.length === 0;
    const first = isEmpty ? index : Math.min(this.#offset, index);
    const last = isEmpty ? index : Math.max(this.#offset + this.#buckets.length - 1, index);
    const offset = Math.floor(first / GROWTH) * GROWTH;
    const length = Math.ceil((last + 1 - offset) / GROWTH) * GROWTH;
    const buckets = new Float64Array(length);
    if (!isEmpty) buckets.set(this.#buckets, this.#offset - offset);
    this.#buckets = buckets;
    this.#offset = offset;
  }
}

/** The q-quantile by nearest rank of weighted values in ascending order. There must be some. */
export function quantileOf(data: Pick<HistogramData, "values" | "counts">, q: number): number {
  let total = 0;
  for (const count of data.counts) total += count;
  // Rounded to 12 digits, as in core/util/quantiles.ts.
  const rank = Math.max(Math.ceil(Number((q * total).toPrecision(12))), 1);
  let seen = 0;
  for (let i = 0; i < data.values.length; i++) {
    seen += data.counts[i]!;
    if (seen >= rank) return data.values[i]!;
  }
  return data.values[data.values.length - 1]!;
}

function sorted({ values, counts }: { values: readonly number[]; counts: readonly number[] }): {
  values: Float64Array;
  counts: Float64Array;
} {
  const ascending = new Float64Array(values).sort();
  if (counts.every((count) => count === 1)) return { values: ascending, counts: new Float64Array(counts) };
  // Equal values become one: their counts are looked up by value.
  const totals = new Map<number, number>();
  values.forEach((value, index) => {
    totals.set(value, (totals.get(value) ?? 0) + counts[index]!);
  });
  let length = 0;
  for (let i = 0; i < ascending.length; i++)
    if (i === 0 || ascending[i] !== ascending[length - 1]) ascending[length++] = ascending[i]!;
  const distinct = ascending.slice(0, length);
  return { values: distinct, counts: distinct.map((value) => totals.get(value)!) };
}
