import { assert } from "../../util/assert.ts";
import type { TimeSource } from "../perf-model.ts";
import { type Efficiency, MAX_COORDINATES } from "./efficiency.ts";

/** A fitted efficiency, with what it was fitted on and how well. */
export interface SurfaceData {
  /** Knots per coordinate, ascending. */
  readonly knots: readonly (readonly number[])[];
  /** Smallest and largest measured coordinate. */
  readonly range: readonly (readonly number[])[];
  /** log2(time / roofline time) at the knots, the last coordinate fastest. */
  readonly values: Float64Array;
  /** Measured shapes that it was fitted on, and errors in percent on those that were left out. */
  readonly rows: number;
  readonly heldOutRows: number;
  readonly medianAbsPct: number;
  readonly p90AbsPct: number;
  readonly meanSignedPct: number;
}

/**
 * A fitted efficiency as it is stored: knots and range as numbers with spaces, coordinates parted by bars; fitted rows, left-out rows,
 * median, 90th percentile and mean of the error; values as {@link encodeValues} writes them.
 */
export type StoredSurface = readonly [
  knots: string,
  range: string,
  errors: readonly [number, number, number, number, number],
  values: string,
];

export function storeSurface(data: SurfaceData): StoredSurface {
  const text = (axes: readonly (readonly number[])[]): string => axes.map((axis) => axis.join(" ")).join("|");
  const { rows, heldOutRows, medianAbsPct, p90AbsPct, meanSignedPct } = data;
  const errors = [rows, heldOutRows, medianAbsPct, p90AbsPct, meanSignedPct] as const;
  return [text(data.knots), text(data.range), errors, encodeValues(data.values)];
}

export function readSurface([knots, range, errors, values]: StoredSurface): SurfaceData {
  const axes = (text: string): number[][] => text.split("|").map((axis) => axis.split(" ").map(Number));
  const [rows, heldOutRows, medianAbsPct, p90AbsPct, meanSignedPct] = errors;
  return {
    knots: axes(knots),
    range: axes(range),
    values: decodeValues(values),
    rows,
    heldOutRows,
    medianAbsPct,
    p90AbsPct,
    meanSignedPct,
  };
}

/** Slack, in powers of two, before a coordinate counts as outside the measured range. */
const RANGE_SLACK = 0.01;

/** Digits of stored values: printable characters that need no escape, without some capitals, so that no words come out. */
const DIGITS = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i))
  .filter((digit) => !"\"'`\\AIOX".includes(digit))
  .join("");
/** Stored values are in steps of 1/200, which is 0.35 % of a time, and within +-18. */
const STEPS = 200;
const OFFSET = 3690;

/** Two digits per value: thousands of numbers in source text that is compiled, not parsed. */
function encodeValues(values: ArrayLike<number>): string {
  return Array.from(values, (value) => {
    const code = Math.round(value * STEPS) + OFFSET;
    assert(code >= 0 && code < DIGITS.length ** 2, "an efficiency is within +-18 powers of two");
    return DIGITS[Math.floor(code / DIGITS.length)]! + DIGITS[code % DIGITS.length]!;
  }).join("");
}

function decodeValues(text: string): Float64Array {
  const values = new Float64Array(text.length / 2);
  for (let i = 0; i < values.length; i++) {
    const code = DIGITS.indexOf(text[2 * i]!) * DIGITS.length + DIGITS.indexOf(text[2 * i + 1]!);
    values[i] = (code - OFFSET) / STEPS;
  }
  return values;
}

/** A fitted efficiency: multilinear between knots, constant beyond them. */
export class FittedSurface implements Efficiency {
  readonly source: TimeSource;
  readonly #data: SurfaceData;
  readonly #values: Float64Array;
  readonly #strides: readonly number[];
  /** Of the current cell, for each coordinate between two knots: the position there, and the way to the upper one in the list of values. */
  readonly #fractions = new Float64Array(MAX_COORDINATES);
  readonly #steps = new Int32Array(MAX_COORDINATES);

  constructor(data: SurfaceData, source: TimeSource) {
    this.source = source;
    this.#data = data;
    const sizes = data.knots.map((axis) => axis.length);
    assert(sizes.length <= MAX_COORDINATES, "an operator class has few coordinates");
    this.#strides = sizes.map((_, d) => sizes.slice(d + 1).reduce((product, size) => product * size, 1));
    this.#values = data.values;
    assert(
      this.#values.length === sizes.reduce((product, size) => product * size, 1),
      "one value for every knot",
    );
  }

  log2Factor(coordinates: ArrayLike<number>): number {
    const knots = this.#data.knots;
    let corner = 0;
    // Only coordinates between two knots take a part of both: most kernels have one or two of them.
    let numBetween = 0;
    for (let d = 0; d < knots.length; d++) {
      const axis = knots[d]!;
      const x = coordinates[d]!;
      let at = 0;
      let fraction = 0;
      if (axis.length > 1 && x > axis[0]!) {
        while (at < axis.length - 2 && axis[at + 1]! <= x) at++;
        fraction = Math.min(1, (x - axis[at]!) / (axis[at + 1]! - axis[at]!));
      }
      const stride = this.#strides[d]!;
      corner += at * stride;
      if (fraction === 1) corner += stride;
      else if (fraction > 0) {
        this.#fractions[numBetween] = fraction;
        this.#steps[numBetween++] = stride;
      }
    }
    let sum = 0;
    for (let vertex = 0; vertex < 1 << numBetween; vertex++) {
      let weight = 1;
      let index = corner;
      for (let d = 0; d < numBetween; d++) {
        const fraction = this.#fractions[d]!;
        if ((vertex >> d) & 1) {
          weight *= fraction;
          index += this.#steps[d]!;
        } else weight *= 1 - fraction;
      }
      sum += weight * this.#values[index]!;
    }
    return sum;
  }

  covers(coordinates: ArrayLike<number>): boolean {
    const { range } = this.#data;
    for (let d = 0; d < range.length; d++) {
      const limits = range[d]!;
      const x = coordinates[d]!;
      if (!(x >= limits[0]! - RANGE_SLACK && x <= limits[1]! + RANGE_SLACK)) return false;
    }
    return true;
  }
}

/** The same share of the roofline for every shape: for what nobody has measured. */
export class ConstantEfficiency implements Efficiency {
  readonly source: TimeSource = "roofline";
  readonly #log2Factor: number;

  constructor(log2Factor: number) {
    this.#log2Factor = log2Factor;
  }

  log2Factor(): number {
    return this.#log2Factor;
  }

  covers(): boolean {
    return false;
  }
}
