import type { TimeSource } from "../perf-model.ts";

/** Numbers of coordinates that an operator class has at most. */
export const MAX_COORDINATES = 6;

/**
 * How far a kernel is from its roofline, over the shapes of one operator class, precision and device. Coordinates are the
 * base-2 logarithms that the operator class defines; the answer is log2(time / roofline time).
 */
export interface Efficiency {
  readonly source: TimeSource;
  /** Outside the range it holds what it says at the edge: the utilisation stays, the time follows the roofline. */
  log2Factor(coordinates: ArrayLike<number>): number;
  /** Whether the coordinates lie in the range that was measured or fitted. */
  covers(coordinates: ArrayLike<number>): boolean;
}

/** Where a sum of kernel times came from. Filled in as kernels are priced. */
export class Provenance {
  source: TimeSource = "table";
  isExtrapolated = false;

  clear(): void {
    this.source = "table";
    this.isExtrapolated = false;
  }

  add(source: TimeSource, isExtrapolated: boolean): void {
    if (RANK[source] > RANK[this.source]) this.source = source;
    if (isExtrapolated) this.isExtrapolated = true;
  }
}

/** The order of {@link TimeSource}, best first. */
const RANK: Readonly<Record<TimeSource, number>> = { table: 0, fitted: 1, roofline: 2, paper: 3, profile: 4 };
