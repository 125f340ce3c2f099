/** Something that will happen at a time. */
export interface TimedEvent {
  readonly atMs: number;
  /** Order among events of one time: smaller first. */
  readonly rank: number;
}

/**
 * Future events, the next one first: by time, then rank, then order of insertion. A binary heap; both operations cost the
 * logarithm of its size.
 */
export class EventHeap<E extends TimedEvent> {
  readonly #events: E[] = [];
  /** Order of insertion of the event at the same index. */
  readonly #orders: number[] = [];
  #nextOrder = 0;

  get size(): number {
    return this.#events.length;
  }

  /** Time of the next event; infinite when there is none. */
  get nextMs(): number {
    return this.#events.length === 0 ? Number.POSITIVE_INFINITY : this.#events[0]!.atMs;
  }

  /** Rank of the next event; infinite when there is none. */
  get nextRank(): number {
    return this.#events.length === 0 ? Number.POSITIVE_INFINITY : this.#events[0]!.rank;
  }

  push(event: E): void {
    const order = this.#nextOrder++;
    const events = this.#events;
    const orders = this.#orders;
    let at = events.length;
    events.push(event);
    orders.push(order);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (isBefore(events[parent]!, orders[parent]!, event, order)) break;
      events[at] = events[parent]!;
      orders[at] = orders[parent]!;
      at = parent;
    }
    events[at] = event;
    orders[at] = order;
  }

  pop(): E | null {
    const events = this.#events;
    const orders = this.#orders;
    const first = events[0];
    if (first === undefined) return null;
    const last = events.pop()!;
    const order = orders.pop()!;
    const size = events.length;
    if (size === 0) return first;
    let at = 0;
    for (let child = 1; child < size; child = 2 * at + 1) {
      if (
        child + 1 < size &&
        isBefore(events[child + 1]!, orders[child + 1]!, events[child]!, orders[child]!)
      )
        child++;
      if (isBefore(last, order, events[child]!, orders[child]!)) break;
      events[at] = events[child]!;
      orders[at] = orders[child]!;
      at = child;
    }
    events[at] = last;
    orders[at] = order;
    return first;
  }
}

function isBefore(a: TimedEvent, aOrder: number, b: TimedEvent, bOrder: number): boolean {
  if (a.atMs !== b.atMs) return a.atMs < b.atMs;
  if (a.rank !== b.rank) return a.rank < b.rank;
  return aOrder < bOrder;
}
