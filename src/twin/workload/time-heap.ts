/** Things with a time, the earliest first; of equal times the one that was pushed first. A binary heap. */
export class TimeHeap<T> {
  readonly #times: number[] = [];
  readonly #orders: number[] = [];
  readonly #values: T[] = [];
  #numPushed = 0;

  get size(): number {
    return this.#values.length;
  }

  /** Time of the first; infinite when there is none. */
  get firstMs(): number {
    return this.#times[0] ?? Number.POSITIVE_INFINITY;
  }

  push(timeMs: number, value: T): void {
    const order = this.#numPushed++;
    let at = this.#values.length;
    while (at > 0) {
      const parent = (at - 1) >>> 1;
      // The one above was pushed earlier, so that a tie stays.
      if (this.#times[parent]! <= timeMs) break;
      this.#move(parent, at);
      at = parent;
    }
    this.#set(at, timeMs, order, value);
  }

  /** Takes the first out. The heap must not be empty. */
  pop(): T {
    const first = this.#values[0];
    const timeMs = this.#times.pop();
    const order = this.#orders.pop();
    const value = this.#values.pop();
    if (timeMs === undefined || order === undefined) throw new RangeError("the heap is empty");
    const size = this.#values.length;
    if (size === 0) return value as T;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && this.#isBefore(child + 1, this.#times[child]!, this.#orders[child]!)) child++;
      if (!this.#isBefore(child, timeMs, order)) break;
      this.#move(child, at);
      at = child;
    }
    this.#set(at, timeMs, order, value as T);
    return first as T;
  }

  #isBefore(at: number, timeMs: number, order: number): boolean {
    const own = this.#times[at]!;
    return own < timeMs || (own === timeMs && this.#orders[at]! < order);
  }

  #move(from: number, to: number): void {
    this.#set(to, this.#times[from]!, this.#orders[from]!, this.#values[from]!);
  }

  #set(at: number, timeMs: number, order: number, value: T): void {
    this.#times[at] = timeMs;
    this.#orders[at] = order;
    this.#values[at] = value;
  }
}
