/** Most separate intervals that are remembered; what lies before them counts as settled. */
const MAX_OPEN_INTERVALS = 256;

/** Total time that intervals cover, overlaps counted once. They come in order, or not far from it. */
export class IntervalUnion {
  /** Separate intervals, ascending. */
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  /** Where they begin in the lists; what is before is settled, and cut off in bulk. */
  #head = 0;
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
    while (last > this.#head && starts[last - 1]! > end) last--;
    let first = last;
    while (first > this.#head && ends[first - 1]! >= start) first--;
    if (first < last) {
      start = Math.min(start, starts[first]!);
      end = Math.max(end, ends[last - 1]!);
    }
    if (last - first === 1) {
      starts[first] = start;
      ends[first] = end;
      return;
    }
    if (first === starts.length) {
      starts.push(start);
      ends.push(end);
    } else {
      starts.splice(first, last - first, start);
      ends.splice(first, last - first, end);
    }
    if (starts.length - this.#head > MAX_OPEN_INTERVALS) this.#settleFirst();
  }

  get totalMs(): number {
    let total = this.#settledMs;
    for (let i = this.#head; i < this.#starts.length; i++) total += this.#ends[i]! - this.#starts[i]!;
    return total;
  }

  #settleFirst(): void {
    const start = this.#starts[this.#head]!;
    this.#settledUntilMs = this.#ends[this.#head]!;
    this.#settledMs += this.#settledUntilMs - start;
    if (++this.#head < MAX_OPEN_INTERVALS) return;
    this.#starts.splice(0, this.#head);
    this.#ends.splice(0, this.#head);
    this.#head = 0;
  }
}
