import type { TimeSource } from "../perf-model.ts";
import type { Efficiency } from "./efficiency.ts";

/** Measured shapes that agree in all coordinates but the first, ascending in it. */
interface Line {
  /** Coordinates from the second on. */
  readonly fixed: readonly number[];
  readonly at: Float64Array;
  readonly factors: Float64Array;
}

/** Lines that an answer between lines is made from. */
const NEIGHBOURS = 4;
/** Distance, in powers of two, below which two coordinates are the same. */
const SAME = 1e-6;
/** Slack, in powers of two, before a coordinate counts as outside the measured range. */
const RANGE_SLACK = 0.01;

/**
 * A measured table as an efficiency: exact where it has the shape, straight lines along the first coordinate (tokens or context),
 * and the nearest lines weighted by their distance where other sizes are missing.
 */
export class KernelTable implements Efficiency {
  readonly source: TimeSource = "table";
  readonly #lines: readonly Line[];
  readonly #low: readonly number[];
  readonly #high: readonly number[];
  readonly #nearest = new Int32Array(NEIGHBOURS);
  readonly #distances = new Float64Array(NEIGHBOURS);

  /** `points` are coordinates, `log2Factors` what was measured there. At least one point. */
  constructor(points: ReadonlyArray<readonly number[]>, log2Factors: readonly number[]) {
    this.#lines = linesOf(points, log2Factors);
    const dimensions = points[0]!.map((_, d) => d);
    const fold = (d: number, pick: (a: number, b: number) => number): number =>
      points.reduce((best, point) => pick(best, point[d]!), points[0]![d]!);
    this.#low = dimensions.map((d) => fold(d, Math.min));
    this.#high = dimensions.map((d) => fold(d, Math.max));
  }

  log2Factor(coordinates: ArrayLike<number>): number {
    const count = this.#findNearest(coordinates);
    const first = this.#lines[this.#nearest[0]!]!;
    if (this.#distances[0]! < SAME) return onLine(first, coordinates[0]!);
    let sum = 0;
    let weights = 0;
    for (let i = 0; i < count; i++) {
      const weight = 1 / this.#distances[i]!;
      sum += weight * onLine(this.#lines[this.#nearest[i]!]!, coordinates[0]!);
      weights += weight;
    }
    return sum / weights;
  }

  covers(coordinates: ArrayLike<number>): boolean {
    return this.#low.every(
      (low, d) => coordinates[d]! >= low - RANGE_SLACK && coordinates[d]! <= this.#high[d]! + RANGE_SLACK,
    );
  }

  /** Fills the nearest lines, closest first, and returns how many there are. */
  #findNearest(coordinates: ArrayLike<number>): number {
    let count = 0;
    for (let index = 0; index < this.#lines.length; index++) {
      const { fixed } = this.#lines[index]!;
      let distance = 0;
      for (let d = 0; d < fixed.length; d++) distance += (fixed[d]! - coordinates[d + 1]!) ** 2;
      if (count === NEIGHBOURS && distance >= this.#distances[count - 1]!) continue;
      let at = Math.min(count, NEIGHBOURS - 1);
      for (; at > 0 && this.#distances[at - 1]! > distance; at--) {
        this.#distances[at] = this.#distances[at - 1]!;
        this.#nearest[at] = this.#nearest[at - 1]!;
      }
      this.#distances[at] = distance;
      this.#nearest[at] = index;
      count = Math.min(count + 1, NEIGHBOURS);
    }
    return count;
  }
}

function linesOf(points: ReadonlyArray<readonly number[]>, log2Factors: readonly number[]): Line[] {
  const groups = new Map<string, number[]>();
  points.forEach((point, index) => {
    const key = point.slice(1).join(" ");
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [index]);
    else group.push(index);
  });
  return [...groups.values()].map((members) => {
    members.sort((a, b) => points[a]![0]! - points[b]![0]!);
    return {
      fixed: points[members[0]!]!.slice(1),
      at: Float64Array.from(members, (index) => points[index]![0]!),
      factors: Float64Array.from(members, (index) => log2Factors[index]!),
    };
  });
}

/** The factor at `x`, straight between neighbours, held beyond the ends. Repeated measurements of a shape count once, the last. */
function onLine({ at, factors }: Line, x: number): number {
  let low = 0;
  let high = at.length - 1;
  if (x <= at[0]!) return factors[0]!;
  if (x >= at[high]!) return factors[high]!;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (at[middle]! <= x) low = middle;
    else high = middle;
  }
  const span = at[high]! - at[low]!;
  return factors[low]! + ((x - at[low]!) / span) * (factors[high]! - factors[low]!);
}
