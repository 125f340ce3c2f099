import type { FlowTable } from "./flow-table.ts";
import { MAX_PATH_RESOURCES } from "./layout.ts";

const UNDECIDED = -1;

/** The bottleneck of a flow that is held back by its own cap. */
const OWN_CAP = -1;

/** How far a rate may exceed another by rounding and still count as equal. */
const EQUAL = 1 + 1e-9;

/** Times that a set of flows may grow before everything is taken that could depend on it. */
const MAX_ROUNDS = 6;

/** Share of all flows beyond which further rounds cost more than taking everything at once. */
const MAX_SHARE = 0.25;

/**
 * Max-min fair rates by progressive filling (Bertsekas and Gallager, Data Networks, section 6.5.2): all rates rise together;
 * when a resource is full its flows keep what they have, and so does a flow at its cap; the others go on.
 *
 * After a change only some flows are filled again, with all others as they are. The result is max-min fair for all of them if
 * every flow has a bottleneck: its cap, or a full resource on which nobody has more. Where one of the others has lost its
 * bottleneck, or has more than a flow that is held back there, it joins and the filling is repeated.
 */
export class WaterFill {
  readonly #table: FlowTable;
  /** The flows whose rates are to be found; the first `numFlows` count. */
  flows: Int32Array;
  numFlows = 0;
  /** Results, by slot. */
  newRate: Float64Array;
  #resources: Int32Array;
  #numResources = 0;
  /** What held each flow back last: a resource, or {@link OWN_CAP}. */
  #bottleneck: Int32Array;
  #flowStamp: Int32Array;
  /** Flows whose resources have been marked. */
  #numMarked = 0;
  readonly #resourceStamp: Int32Array;
  readonly #closedStamp: Int32Array;
  #stamp = 0;
  readonly #left: Float64Array;
  readonly #undecided: Int32Array;
  /** Heap of levels. An item is a resource, or a flow's slot plus the number of resources. */
  #levels: Float64Array;
  #items: Int32Array;
  #size = 0;

  constructor(table: FlowTable) {
    const numResources = table.bandwidth.length;
    this.#table = table;
    this.flows = new Int32Array(table.numSlots);
    this.newRate = new Float64Array(table.numSlots);
    this.#bottleneck = new Int32Array(table.numSlots);
    this.#flowStamp = new Int32Array(table.numSlots);
    this.#closedStamp = new Int32Array(numResources);
    this.#resources = new Int32Array(numResources);
    this.#resourceStamp = new Int32Array(numResources);
    this.#left = new Float64Array(numResources);
    this.#undecided = new Int32Array(numResources);
    this.#levels = new Float64Array(numResources + table.numSlots);
    this.#items = new Int32Array(numResources + table.numSlots);
  }

  /** Begins a new set of flows. */
  clear(): void {
    if (this.flows.length < this.#table.numSlots) this.#grow();
    // The stamp wraps around after two thousand million changes; old marks must not come back to life then.
    if (this.#stamp === 0x7fffffff) {
      this.#flowStamp.fill(0);
      this.#resourceStamp.fill(0);
      this.#closedStamp.fill(0);
      this.#stamp = 0;
    }
    this.#stamp++;
    this.numFlows = 0;
    this.#numResources = 0;
    this.#numMarked = 0;
  }

  add(slot: number): void {
    if (this.#flowStamp[slot] !== this.#stamp) this.#append(slot);
  }

  /** Adds the flows that share a contended resource with a flow, or only those that such a resource holds back. */
  addNeighbours(slot: number, areHeldBack: boolean): void {
    const table = this.#table;
    const base = slot * MAX_PATH_RESOURCES;
    for (let hop = base; hop < base + table.numHops[slot]!; hop++) {
      const resource = table.hops[hop]!;
      if (!table.isContended(resource)) continue;
      for (let place = table.first(resource); place >= 0; place = table.after(place)) {
        const other = (place / MAX_PATH_RESOURCES) | 0;
        if (other === slot || (areHeldBack && this.#bottleneck[other] !== resource)) continue;
        this.add(other);
      }
    }
  }

  /** Finds the rates of the added flows, and adds those whose rates change with them. */
  solve(): void {
    for (let round = 1; ; round++) {
      this.#markResources();
      this.#fill();
      if (!this.#grewBy(round)) return;
    }
  }

  /** Takes in the contended resources of the flows. */
  #markResources(): void {
    const table = this.#table;
    while (this.#numMarked < this.numFlows) {
      const slot = this.flows[this.#numMarked++]!;
      const base = slot * MAX_PATH_RESOURCES;
      for (let hop = base; hop < base + table.numHops[slot]!; hop++) {
        const resource = table.hops[hop]!;
        if (this.#resourceStamp[resource] === this.#stamp || !table.isContended(resource)) continue;
        this.#resourceStamp[resource] = this.#stamp;
        this.#resources[this.#numResources++] = resource;
      }
    }
  }

  /** Fills what the other flows leave. */
  #fill(): void {
    const table = this.#table;
    const numAll = table.bandwidth.length;
    this.#size = 0;
    for (let i = 0; i < this.#numResources; i++) {
      const resource = this.#resources[i]!;
      let left = table.bandwidth[resource]!;
      let undecided = 0;
      for (let place = table.first(resource); place >= 0; place = table.after(place)) {
        const slot = (place / MAX_PATH_RESOURCES) | 0;
        if (this.#flowStamp[slot] === this.#stamp) undecided++;
        else left -= table.rate[slot]!;
      }
      this.#left[resource] = left;
      this.#undecided[resource] = undecided;
      if (undecided > 0) this.#push(resource, Math.max(0, left) / undecided);
    }
    for (let i = 0; i < this.numFlows; i++) {
      const slot = this.flows[i]!;
      this.newRate[slot] = UNDECIDED;
      if (this.#needsCap(slot)) this.#push(slot + numAll, table.cap[slot]!);
    }
    for (let i = (this.#size >> 1) - 1; i >= 0; i--) this.#down(i);
    while (this.#size > 0) this.#step(numAll);
  }

  /** Adds the flows that may no longer keep their rates; all that could depend on the change once they are many. */
  #grewBy(round: number): boolean {
    const before = this.numFlows;
    for (let i = 0; i < this.#numResources; i++) this.#check(this.#resources[i]!);
    if (this.numFlows === before) return false;
    if (round >= MAX_ROUNDS || this.numFlows > MAX_SHARE * this.#table.numFlows) this.#close();
    return true;
  }

  /** Adds the flows on a resource that lost it as their bottleneck, or have more than a flow that it holds back. */
  #check(resource: number): void {
    const table = this.#table;
    let used = 0;
    let most = 0;
    let numOthers = 0;
    let level = Number.POSITIVE_INFINITY;
    for (let place = table.first(resource); place >= 0; place = table.after(place)) {
      const slot = (place / MAX_PATH_RESOURCES) | 0;
      let rate = table.rate[slot]!;
      if (this.#flowStamp[slot] !== this.#stamp) numOthers++;
      else {
        // A flow that this pass has added still has its old rate here.
        rate = this.newRate[slot]!;
        if (this.#bottleneck[slot] === resource) level = Math.min(level, rate);
      }
      used += rate;
      most = Math.max(most, rate);
    }
    if (numOthers === 0) return;
    const isFull = used * EQUAL >= table.bandwidth[resource]!;
    for (let place = table.first(resource); place >= 0; place = table.after(place)) {
      const slot = (place / MAX_PATH_RESOURCES) | 0;
      if (this.#flowStamp[slot] === this.#stamp) continue;
      const rate = table.rate[slot]!;
      const isHeldBack = this.#bottleneck[slot] === resource;
      if ((isHeldBack && (!isFull || most > rate * EQUAL)) || rate > level * EQUAL) this.add(slot);
    }
  }

  /** Adds everything that is connected to the flows through contended resources. */
  #close(): void {
    const table = this.#table;
    for (let i = 0; i < this.numFlows; i++) {
      const base = this.flows[i]! * MAX_PATH_RESOURCES;
      const end = base + table.numHops[this.flows[i]!]!;
      for (let hop = base; hop < end; hop++) {
        const resource = table.hops[hop]!;
        if (this.#closedStamp[resource] === this.#stamp || !table.isContended(resource)) continue;
        this.#closedStamp[resource] = this.#stamp;
        for (let place = table.first(resource); place >= 0; place = table.after(place)) {
          this.add((place / MAX_PATH_RESOURCES) | 0);
        }
      }
    }
  }

  /** Decides what the lowest level decides. */
  #step(numAll: number): void {
    const item = this.#items[0]!;
    const level = this.#levels[0]!;
    if (item >= numAll) {
      this.#pop();
      if (this.newRate[item - numAll] === UNDECIDED) this.#decide(item - numAll, level, OWN_CAP);
      return;
    }
    const undecided = this.#undecided[item]!;
    if (undecided === 0) {
      this.#pop();
      return;
    }
    // Levels only rise, as flows that are decided took no more than an equal part: an old level is a lower bound.
    const share = Math.max(0, this.#left[item]!) / undecided;
    if (share > level) {
      this.#levels[0] = share;
      this.#down(0);
      return;
    }
    this.#pop();
    const table = this.#table;
    for (let place = table.first(item); place >= 0; place = table.after(place)) {
      const slot = (place / MAX_PATH_RESOURCES) | 0;
      if (this.#flowStamp[slot] === this.#stamp && this.newRate[slot] === UNDECIDED) {
        this.#decide(slot, level, item);
      }
    }
  }

  #decide(slot: number, rate: number, bottleneck: number): void {
    const table = this.#table;
    this.newRate[slot] = rate;
    this.#bottleneck[slot] = bottleneck;
    const base = slot * MAX_PATH_RESOURCES;
    for (let hop = base; hop < base + table.numHops[slot]!; hop++) {
      const resource = table.hops[hop]!;
      if (this.#resourceStamp[resource] !== this.#stamp) continue;
      this.#left[resource] = this.#left[resource]! - rate;
      this.#undecided[resource] = this.#undecided[resource]! - 1;
    }
  }

  /** Whether the contended resources alone could give the flow more than its cap. */
  #needsCap(slot: number): boolean {
    const table = this.#table;
    const cap = table.cap[slot]!;
    const base = slot * MAX_PATH_RESOURCES;
    for (let hop = base; hop < base + table.numHops[slot]!; hop++) {
      const resource = table.hops[hop]!;
      if (this.#resourceStamp[resource] === this.#stamp && table.bandwidth[resource]! <= cap) return false;
    }
    return true;
  }

  #append(slot: number): void {
    this.#flowStamp[slot] = this.#stamp;
    this.newRate[slot] = this.#table.rate[slot]!;
    this.flows[this.numFlows++] = slot;
  }

  #push(item: number, level: number): void {
    this.#items[this.#size] = item;
    this.#levels[this.#size++] = level;
  }

  #pop(): void {
    this.#size--;
    this.#items[0] = this.#items[this.#size]!;
    this.#levels[0] = this.#levels[this.#size]!;
    this.#down(0);
  }

  #down(from: number): void {
    const item = this.#items[from]!;
    const level = this.#levels[from]!;
    let place = from;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && this.#levels[child + 1]! < this.#levels[child]!) child++;
      if (this.#levels[child]! >= level) break;
      this.#items[place] = this.#items[child]!;
      this.#levels[place] = this.#levels[child]!;
      place = child;
    }
    this.#items[place] = item;
    this.#levels[place] = level;
  }

  #grow(): void {
    const length = this.#table.numSlots;
    const stamps = new Int32Array(length);
    stamps.set(this.#flowStamp);
    this.#flowStamp = stamps;
    const bottleneck = new Int32Array(length);
    bottleneck.set(this.#bottleneck);
    this.#bottleneck = bottleneck;
    this.flows = new Int32Array(length);
    this.newRate = new Float64Array(length);
    this.#levels = new Float64Array(this.#resources.length + length);
    this.#items = new Int32Array(this.#resources.length + length);
  }
}
