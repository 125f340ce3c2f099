/** Most separate intervals that are remembered; what lies before them counts as settled. */
const MAX_OPEN_INTERVALS = 256;

/** Total time that intervals cover, overlaps counted once. They come in order, or not far from it. */
export class IntervalUnion {
  /** Separate intervals, ascending. */
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  #settledMs = 0;
  #settledUntilMs = 0;

  add(startMs: number, endMs: number): void {
    let start = Math.max(startMs, this.#settledUntilMs);
    let end = endMs;
    if (end <= start) return;
    const starts = this.#starts;
    const ends = this.#ends;
    // Those in [first, last) touch the new one and become one with it.
    let last = starts.length;
    while (last > 0 && starts[last - 1]! > end) last--;
    let first = last;
    while (first > 0 && ends[first - 1]! >= start) first--;
    if (first < last) {
      start = Math.min(start, starts[first]!);
      end = Math.max(end, ends[last - 1]!);
    }
    if (last - first === 1) {
      starts[first] = start;
      ends[first] = end;
      return;
    }
    starts.splice(first, last - first, start);
    ends.splice(first, last - first, end);
    if (starts.length > MAX_OPEN_INTERVALS) this.#settleFirst();
  }

  get totalMs(): number {
    let total = this.#settledMs;
    for (let i = 0; i < this.#starts.length; i++) total += this.#ends[i]! - this.#starts[i]!;
    return total;
  }

  #settleFirst(): void {
    const start = this.#starts.shift()!;
    this.#settledUntilMs = this.#ends.shift()!;
    this.#settledMs += this.#settledUntilMs - start;
  }
}
