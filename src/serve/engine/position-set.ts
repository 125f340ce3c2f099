/** Bounds that a new set has room for: two ranges, which is more than most slots ever have. */
const INITIAL_BOUNDS = 4;

/**
 * A set of token positions as sorted, disjoint, non-adjacent half-open ranges. A running sequence is one range, so
 * the common calls (append at the end, test the end) take constant time.
 */
export class PositionSet {
  /** start, end, start, end, … of the ranges in ascending order. */
  #bounds = new Int32Array(INITIAL_BOUNDS);
  #numRanges = 0;

  get isEmpty(): boolean {
    return this.#numRanges === 0;
  }

  /** One past the largest position, 0 when empty. */
  get end(): number {
    return this.#numRanges === 0 ? 0 : this.#bounds[2 * this.#numRanges - 1]!;
  }

  /** Whether the set is exactly [0, end). */
  get isPrefix(): boolean {
    return this.#numRanges === 0 || (this.#numRanges === 1 && this.#bounds[0] === 0);
  }

  /** Whether every position of [start, end) is in the set. */
  covers(start: number, end: number): boolean {
    if (start >= end) return true;
    const i = this.#firstRangeEndingAfter(start);
    return i < this.#numRanges && this.#bounds[2 * i]! <= start && this.#bounds[2 * i + 1]! >= end;
  }

  /** Whether any position of [start, end) is in the set. */
  intersects(start: number, end: number): boolean {
    if (start >= end) return false;
    const i = this.#firstRangeEndingAfter(start);
    return i < this.#numRanges && this.#bounds[2 * i]! < end;
  }

  /** Adds [start, end), of which no position may be in the set. */
  add(start: number, end: number): void {
    if (start >= end) return;
    const last = 2 * this.#numRanges - 1;
    if (last > 0 && this.#bounds[last] === start) {
      this.#bounds[last] = end;
      return;
    }
    const i = this.#firstRangeEndingAfter(start);
    const joinsLeft = i > 0 && this.#bounds[2 * i - 1] === start;
    const joinsRight = i < this.#numRanges && this.#bounds[2 * i] === end;
    if (joinsLeft && joinsRight) this.#splice(2 * i - 1, 2);
    else if (joinsLeft) this.#bounds[2 * i - 1] = end;
    else if (joinsRight) this.#bounds[2 * i] = start;
    else this.#splice(2 * i, 0, start, end);
  }

  /** Takes [start, end) out; positions that are not in the set are ignored. */
  remove(start: number, end: number): void {
    if (start >= end) return;
    let i = this.#firstRangeEndingAfter(start);
    while (i < this.#numRanges && this.#bounds[2 * i]! < end) {
      const from = this.#bounds[2 * i]!;
      const to = this.#bounds[2 * i + 1]!;
      if (from < start && to > end) {
        this.#splice(2 * i + 1, 0, start, end);
        return;
      }
      if (from < start) {
        this.#bounds[2 * i + 1] = start;
        i++;
      } else if (to > end) {
        this.#bounds[2 * i] = end;
        return;
      } else {
        this.#splice(2 * i, 2);
      }
    }
  }

  /** The ranges as they are now, for {@link restore}. */
  snapshot(): Int32Array {
    return this.#bounds.slice(0, 2 * this.#numRanges);
  }

  restore(snapshot: Int32Array): void {
    if (snapshot.length > this.#bounds.length) this.#bounds = snapshot.slice();
    else this.#bounds.set(snapshot);
    this.#numRanges = snapshot.length / 2;
  }

  #firstRangeEndingAfter(position: number): number {
    let low = 0;
    let high = this.#numRanges;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#bounds[2 * middle + 1]! <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Like `Array.prototype.splice` on the bounds, for an even change of length. */
  #splice(at: number, deleteCount: number, ...inserted: number[]): void {
    const oldLength = 2 * this.#numRanges;
    const newLength = oldLength - deleteCount + inserted.length;
    if (newLength > this.#bounds.length) {
      const grown = new Int32Array(2 * newLength);
      grown.set(this.#bounds.subarray(0, oldLength));
      this.#bounds = grown;
    }
    this.#bounds.copyWithin(at + inserted.length, at + deleteCount, oldLength);
    this.#bounds.set(inserted, at);
    this.#numRanges = newLength / 2;
  }
}
