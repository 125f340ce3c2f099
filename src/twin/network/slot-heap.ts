import { assert } from "../../core/util/assert.ts";

const ABSENT = -1;

/** A binary heap of slots by (time, order) that knows each slot's place, so that times change without leaving anything behind. */
export class SlotHeap {
  #times: Float64Array;
  #orders: Float64Array;
  #items: Int32Array;
  #places: Int32Array;
  #size = 0;

  /** Slots are integers in [0, `numSlots`). */
  constructor(numSlots: number) {
    this.#times = new Float64Array(numSlots);
    this.#orders = new Float64Array(numSlots);
    this.#items = new Int32Array(numSlots);
    this.#places = new Int32Array(numSlots).fill(ABSENT);
  }

  get size(): number {
    return this.#size;
  }

  /** Slots that it has room for. */
  get capacity(): number {
    return this.#places.length;
  }

  /** The earliest time, or infinity. */
  get topTime(): number {
    return this.#size === 0 ? Number.POSITIVE_INFINITY : this.#times[this.#items[0]!]!;
  }

  /** The slot with the earliest time; the heap must not be empty. */
  get top(): number {
    assert(this.#size > 0, "an empty heap has no top");
    return this.#items[0]!;
  }

  /** The slot at a place in [0, `size`), in no particular order. */
  at(place: number): number {
    return this.#items[place]!;
  }

  has(slot: number): boolean {
    return this.#places[slot] !== ABSENT;
  }

  /** Makes room for slots in [0, `numSlots`). */
  grow(numSlots: number): void {
    const times = new Float64Array(numSlots);
    times.set(this.#times);
    this.#times = times;
    const orders = new Float64Array(numSlots);
    orders.set(this.#orders);
    this.#orders = orders;
    const items = new Int32Array(numSlots);
    items.set(this.#items);
    this.#items = items;
    const places = new Int32Array(numSlots).fill(ABSENT);
    places.set(this.#places);
    this.#places = places;
  }

  /** Adds a slot. Among equal times the lower order comes first; no two slots have the same order. */
  push(slot: number, time: number, order: number): void {
    assert(this.#places[slot] === ABSENT, "a slot is in the heap once");
    this.#times[slot] = time;
    this.#orders[slot] = order;
    this.#place(slot, this.#size++);
    this.#up(this.#size - 1);
  }

  /** Changes the time of a slot in the heap. */
  move(slot: number, time: number): void {
    const before = this.#times[slot]!;
    this.#times[slot] = time;
    if (time < before) this.#up(this.#places[slot]!);
    else this.#down(this.#places[slot]!);
  }

  remove(slot: number): void {
    const place = this.#places[slot]!;
    assert(place !== ABSENT, "the slot is not in the heap");
    this.#places[slot] = ABSENT;
    const last = this.#items[--this.#size]!;
    if (last === slot) return;
    this.#place(last, place);
    this.#up(place);
    this.#down(this.#places[last]!);
  }

  #place(slot: number, place: number): void {
    this.#items[place] = slot;
    this.#places[slot] = place;
  }

  #isBefore(a: number, b: number): boolean {
    const timeA = this.#times[a]!;
    const timeB = this.#times[b]!;
    return timeA < timeB || (timeA === timeB && this.#orders[a]! < this.#orders[b]!);
  }

  #up(from: number): void {
    const slot = this.#items[from]!;
    let place = from;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      const above = this.#items[parent]!;
      if (!this.#isBefore(slot, above)) break;
      this.#place(above, place);
      place = parent;
    }
    this.#place(slot, place);
  }

  #down(from: number): void {
    const slot = this.#items[from]!;
    let place = from;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && this.#isBefore(this.#items[child + 1]!, this.#items[child]!)) child++;
      const below = this.#items[child]!;
      if (!this.#isBefore(below, slot)) break;
      this.#place(below, place);
      place = child;
    }
    this.#place(slot, place);
  }
}
