import { assert } from "../../core/util/assert.ts";

/** Separate intervals that are kept in case a later one covers them; older ones count as they are. */
const MAX_INTERVALS = 4096;

/**
 * How much time a set of intervals covers, counting once where they overlap. Intervals come in order of their ends. One that reaches back
 * over more than {@link MAX_INTERVALS} gaps counts what lies before them twice.
 */
export class CoveredTime {
  /** Start and end in turn, disjoint and in order. */
  #edges: number[] = [];
  #finishedMs = 0;
  #keptMs = 0;

  /** End of the last interval; 0 without any. */
  get lastMs(): number {
    return this.#edges.at(-1) ?? 0;
  }

  get coveredMs(): number {
    return this.#finishedMs + this.#keptMs;
  }

  add(startMs: number, endMs: number): void {
    assert(endMs >= startMs && endMs >= this.lastMs, "intervals come in order of their ends");
    const edges = this.#edges;
    let from = startMs;
    while (edges.length > 0 && edges.at(-1)! >= from) {
      const lastEnd = edges.pop()!;
      const lastStart = edges.pop()!;
      this.#keptMs -= lastEnd - lastStart;
      from = Math.min(from, lastStart);
    }
    edges.push(from, endMs);
    this.#keptMs += endMs - from;
    if (edges.length <= 4 * MAX_INTERVALS) return;
    // Half of them at once, so that dropping costs nothing to speak of for each interval.
    const dropped = edges.splice(0, 2 * MAX_INTERVALS);
    for (let i = 0; i < dropped.length; i += 2) {
      const length = dropped[i + 1]! - dropped[i]!;
      this.#finishedMs += length;
      this.#keptMs -= length;
    }
  }
}
