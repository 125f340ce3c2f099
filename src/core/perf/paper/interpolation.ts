import { assert } from "../../util/assert.ts";

/** A curve through points, straight between them and beyond the outer two. */
export class PiecewiseLinear {
  readonly #xs: Float64Array;
  readonly #ys: Float64Array;

  /** Points in any order, each x once; at least two. */
  constructor(points: ReadonlyArray<readonly [x: number, y: number]>) {
    assert(points.length >= 2, "a curve needs two points");
    const sorted = [...points].sort((a, b) => a[0] - b[0]);
    this.#xs = Float64Array.from(sorted, ([x]) => x);
    this.#ys = Float64Array.from(sorted, ([, y]) => y);
    for (let i = 1; i < sorted.length; i++) assert(this.#xs[i]! > this.#xs[i - 1]!, "an x is given twice");
  }

  at(x: number): number {
    const xs = this.#xs;
    // The first point that is not before x ends the piece; the outer pieces go on for ever.
    let end = 1;
    while (end < xs.length - 1 && xs[end]! < x) end++;
    const slope = (this.#ys[end]! - this.#ys[end - 1]!) / (xs[end]! - xs[end - 1]!);
    return this.#ys[end - 1]! + slope * (x - xs[end - 1]!);
  }

  /** Whether x lies between the outer points. */
  covers(x: number): boolean {
    return x >= this.#xs[0]! && x <= this.#xs[this.#xs.length - 1]!;
  }
}

/** The middle value, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  assert(values.length > 0, "there is no median of nothing");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
