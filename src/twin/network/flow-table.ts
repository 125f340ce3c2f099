import { assert } from "../../core/util/assert.ts";
import { MAX_PATH_RESOURCES } from "./layout.ts";

/** Most flows under way at once. A run with more is refused: its fleet sends far more than its links carry. */
export const MAX_FLOWS = 1 << 20;

const FIRST_SLOTS = 64;
const NONE = -1;

/** How far the flows on a resource may exceed it by rounding before it counts as contended. */
const SLACK = 1 + 1e-9;

function grown<T extends Float64Array | Int32Array | Uint8Array>(
  make: new (length: number) => T,
  old: T,
  length: number,
): T {
  const array = new make(length);
  array.set(old);
  return array;
}

/**
 * Flows in typed arrays by slot, and for every resource the list of flows that cross it. Rates are bytes per millisecond.
 *
 * A flow's `cap` is the least bandwidth on its path. While the caps of all flows on a resource fit into it together, the
 * resource limits nobody: it is not contended, and its flows do not depend on each other through it.
 */
export class FlowTable {
  /** Bandwidth of each resource now. */
  readonly bandwidth: Float64Array;
  /** Flows on each resource. */
  readonly numOn: Int32Array;
  /** Sum of the caps of the flows on each resource. */
  readonly #demand: Float64Array;
  readonly #head: Int32Array;

  numSlots = FIRST_SLOTS;
  /** Bytes that had not left at `updatedMs`. */
  bytesLeft = new Float64Array(FIRST_SLOTS);
  bytes = new Float64Array(FIRST_SLOTS);
  rate = new Float64Array(FIRST_SLOTS);
  cap = new Float64Array(FIRST_SLOTS);
  updatedMs = new Float64Array(FIRST_SLOTS);
  latencyMs = new Float64Array(FIRST_SLOTS);
  /** What the path allows to one flow besides its resources. */
  pathCap = new Float64Array(FIRST_SLOTS);
  /** Place in the order of start. */
  order = new Float64Array(FIRST_SLOTS);
  from = new Int32Array(FIRST_SLOTS);
  to = new Int32Array(FIRST_SLOTS);
  /** How often the slot has been given out: makes ids of old flows invalid. */
  generation = new Float64Array(FIRST_SLOTS);
  isUsed = new Uint8Array(FIRST_SLOTS);
  numHops = new Uint8Array(FIRST_SLOTS);
  /** Resource of hop k of a slot at `slot * MAX_PATH_RESOURCES + k`: a place in the lists below as well. */
  hops = new Int32Array(FIRST_SLOTS * MAX_PATH_RESOURCES);
  #next = new Int32Array(FIRST_SLOTS * MAX_PATH_RESOURCES);
  #previous = new Int32Array(FIRST_SLOTS * MAX_PATH_RESOURCES);
  #freeSlots = new Int32Array(FIRST_SLOTS);
  #numFree = FIRST_SLOTS;

  constructor(bandwidth: Float64Array) {
    this.bandwidth = bandwidth;
    this.numOn = new Int32Array(bandwidth.length);
    this.#demand = new Float64Array(bandwidth.length);
    this.#head = new Int32Array(bandwidth.length).fill(NONE);
    for (let i = 0; i < FIRST_SLOTS; i++) this.#freeSlots[i] = FIRST_SLOTS - 1 - i;
  }

  get numFlows(): number {
    return this.numSlots - this.#numFree;
  }

  /** A slot with nothing on it. Throws RangeError beyond {@link MAX_FLOWS}. */
  allocate(): number {
    if (this.#numFree === 0) this.#grow();
    const slot = this.#freeSlots[--this.#numFree]!;
    this.isUsed[slot] = 1;
    this.generation[slot] = this.generation[slot]! + 1;
    this.numHops[slot] = 0;
    return slot;
  }

  free(slot: number): void {
    assert(this.isUsed[slot] === 1, "a slot is freed once");
    this.isUsed[slot] = 0;
    this.#freeSlots[this.#numFree++] = slot;
  }

  /** Puts a flow on the resources of its path. Its `cap` is set. */
  link(slot: number): void {
    const base = slot * MAX_PATH_RESOURCES;
    for (let entry = base; entry < base + this.numHops[slot]!; entry++) {
      const resource = this.hops[entry]!;
      const head = this.#head[resource]!;
      this.#next[entry] = head;
      this.#previous[entry] = NONE;
      if (head !== NONE) this.#previous[head] = entry;
      this.#head[resource] = entry;
      this.numOn[resource] = this.numOn[resource]! + 1;
      this.#demand[resource] = this.#demand[resource]! + this.cap[slot]!;
    }
  }

  unlink(slot: number): void {
    const base = slot * MAX_PATH_RESOURCES;
    for (let entry = base; entry < base + this.numHops[slot]!; entry++) {
      const resource = this.hops[entry]!;
      const next = this.#next[entry]!;
      const previous = this.#previous[entry]!;
      if (previous === NONE) this.#head[resource] = next;
      else this.#next[previous] = next;
      if (next !== NONE) this.#previous[next] = previous;
      this.numOn[resource] = this.numOn[resource]! - 1;
      // Starting from zero again whenever the resource is empty keeps rounding errors from adding up.
      const demand = this.#demand[resource]! - this.cap[slot]!;
      this.#demand[resource] = this.numOn[resource] === 0 ? 0 : demand;
    }
  }

  /** Sets the cap from the path and the bandwidths as they are. The flow must not be linked. */
  computeCap(slot: number, factor: number): void {
    const pathCap = this.pathCap[slot]!;
    let cap = pathCap === Number.POSITIVE_INFINITY ? pathCap : pathCap * factor;
    const base = slot * MAX_PATH_RESOURCES;
    for (let entry = base; entry < base + this.numHops[slot]!; entry++) {
      cap = Math.min(cap, this.bandwidth[this.hops[entry]!]!);
    }
    this.cap[slot] = cap;
  }

  /** Whether the flows on the resource may get less than their caps because of it. */
  isContended(resource: number): boolean {
    return this.#demand[resource]! > this.bandwidth[resource]! * SLACK;
  }

  /** First place in the list of a resource's flows, or -1. The slot of a place is `place / MAX_PATH_RESOURCES`, rounded down. */
  first(resource: number): number {
    return this.#head[resource]!;
  }

  /** The place that follows, or -1. */
  after(place: number): number {
    return this.#next[place]!;
  }

  #grow(): void {
    const old = this.numSlots;
    const length = old * 2;
    if (length > MAX_FLOWS) throw new RangeError(`more than ${MAX_FLOWS} transfers are under way at once`);
    this.numSlots = length;
    this.bytesLeft = grown(Float64Array, this.bytesLeft, length);
    this.bytes = grown(Float64Array, this.bytes, length);
    this.rate = grown(Float64Array, this.rate, length);
    this.cap = grown(Float64Array, this.cap, length);
    this.updatedMs = grown(Float64Array, this.updatedMs, length);
    this.latencyMs = grown(Float64Array, this.latencyMs, length);
    this.pathCap = grown(Float64Array, this.pathCap, length);
    this.order = grown(Float64Array, this.order, length);
    this.generation = grown(Float64Array, this.generation, length);
    this.from = grown(Int32Array, this.from, length);
    this.to = grown(Int32Array, this.to, length);
    this.isUsed = grown(Uint8Array, this.isUsed, length);
    this.numHops = grown(Uint8Array, this.numHops, length);
    this.hops = grown(Int32Array, this.hops, length * MAX_PATH_RESOURCES);
    this.#next = grown(Int32Array, this.#next, length * MAX_PATH_RESOURCES);
    this.#previous = grown(Int32Array, this.#previous, length * MAX_PATH_RESOURCES);
    this.#freeSlots = grown(Int32Array, this.#freeSlots, length);
    for (let slot = length - 1; slot >= old; slot--) this.#freeSlots[this.#numFree++] = slot;
  }
}
