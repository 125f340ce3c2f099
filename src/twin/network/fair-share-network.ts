import { assert } from "../../core/util/assert.ts";
import { FlowTable, MAX_FLOWS } from "./flow-table.ts";
import { emptyPath, MAX_PATH_RESOURCES, type NetworkLayout } from "./layout.ts";
import type { FlowId, Network } from "./network.ts";
import { SlotHeap } from "./slot-heap.ts";
import { WaterFill } from "./water-fill.ts";

const MS_PER_SECOND = 1000;

/**
 * A network whose flows share every resource of their paths max-min fairly. A flow holds its share until its last byte has
 * left; it ends when the path's latency has passed after that.
 *
 * Cost of a change: the flows whose rates change with it, n of them, times log n, and the flows beside them on contended resources. A
 * flow that meets no contention costs the length of its path.
 */
export class FairShareNetwork implements Network {
  readonly layout: NetworkLayout;
  readonly #table: FlowTable;
  readonly #fill: WaterFill;
  readonly #baseBandwidth: Float64Array;
  readonly #endpoints = new Map<string, number>();
  /** By endpoint. */
  readonly #factor: Float64Array;
  readonly #path = emptyPath();
  /** Flows that still send, by the time at which their last byte leaves. */
  readonly #sending: SlotHeap;
  /** Flows whose last byte is on its way, by the time at which it arrives. */
  readonly #arriving: SlotHeap;
  #numStarted = 0;
  #nowMs = 0;

  constructor(layout: NetworkLayout) {
    this.layout = layout;
    const bandwidth = new Float64Array(layout.resources.length);
    for (const [index, { name, bytesPerSecond }] of layout.resources.entries()) {
      assert(
        bytesPerSecond > 0 && Number.isFinite(bytesPerSecond),
        `resource ${name} needs a finite bandwidth`,
      );
      bandwidth[index] = bytesPerSecond / MS_PER_SECOND;
    }
    for (const [index, name] of layout.endpoints.entries()) {
      assert(!this.#endpoints.has(name), `two endpoints are called ${name}`);
      this.#endpoints.set(name, index);
    }
    this.#table = new FlowTable(bandwidth);
    this.#baseBandwidth = bandwidth.slice();
    this.#factor = new Float64Array(layout.endpoints.length).fill(1);
    this.#fill = new WaterFill(this.#table);
    this.#sending = new SlotHeap(this.#table.numSlots);
    this.#arriving = new SlotHeap(this.#table.numSlots);
  }

  /**
   * When the network has to be asked next, infinite when nothing is under way: a flow ends, or a last byte leaves and makes room
   * for other flows. In the second case `takeEnded` gives null and a new time stands here.
   */
  get nextEndMs(): number {
    return Math.min(this.#sending.topTime, this.#arriving.topTime);
  }

  /** Flows that have not ended. */
  get numFlows(): number {
    return this.#table.numFlows;
  }

  /** Throws RangeError for an endpoint that the layout does not have. `bytes` is finite and not negative. */
  start(from: string, to: string, bytes: number, nowMs: number): FlowId {
    assert(bytes >= 0 && Number.isFinite(bytes), "a flow moves a finite number of bytes");
    const source = this.#endpointOf(from);
    const target = this.#endpointOf(to);
    this.#advance(nowMs);
    const table = this.#table;
    const slot = table.allocate();
    if (this.#sending.capacity < table.numSlots) {
      this.#sending.grow(table.numSlots);
      this.#arriving.grow(table.numSlots);
    }
    const path = this.#path;
    table.from[slot] = source;
    table.to[slot] = target;
    this.#fillPath(source, target);
    table.pathCap[slot] = path.capBytesPerSecond / MS_PER_SECOND;
    table.numHops[slot] = path.numResources;
    const base = slot * MAX_PATH_RESOURCES;
    for (let i = 0; i < path.numResources; i++) table.hops[base + i] = path.resources[i]!;
    table.latencyMs[slot] = path.latencyMs;
    table.bytes[slot] = bytes;
    table.bytesLeft[slot] = bytes;
    table.updatedMs[slot] = nowMs;
    table.rate[slot] = 0;
    table.computeCap(slot, this.#factorOf(slot));
    this.#begin(slot, this.#numStarted++, nowMs);
    return this.#idOf(slot);
  }

  /** The flow must not have been taken out, and must not have been cancelled before. */
  cancel(flow: FlowId, nowMs: number): void {
    this.#advance(nowMs);
    const slot = this.#slotOf(flow);
    if (this.#arriving.has(slot)) this.#arriving.remove(slot);
    else {
      this.#settle(slot, nowMs);
      this.#stopSending(slot, nowMs);
    }
    this.#table.free(slot);
  }

  takeEnded(nowMs: number): FlowId | null {
    this.#advance(nowMs);
    if (this.#arriving.topTime > nowMs) return null;
    const slot = this.#arriving.top;
    this.#arriving.remove(slot);
    this.#table.free(slot);
    return this.#idOf(slot);
  }

  /** Throws RangeError for an endpoint that the layout does not have. */
  latencyMs(from: string, to: string): number {
    this.#fillPath(this.#endpointOf(from), this.#endpointOf(to));
    return this.#path.latencyMs;
  }

  /**
   * The factor is relative to the layout, not to an earlier factor. 0 is a dead link, whose flows wait. A resource that several
   * endpoints share takes the factor that was set last.
   */
  scale(endpoint: string, factor: number, nowMs: number): void {
    assert(factor >= 0 && Number.isFinite(factor), "a link's factor is finite and not negative");
    this.#advance(nowMs);
    const table = this.#table;
    const index = this.#endpointOf(endpoint);
    this.#factor[index] = factor;
    // A factor changes caps along whole paths and so what is contended; it is rare, so everything is computed anew.
    for (let i = 0; i < this.#sending.size; i++) table.unlink(this.#sending.at(i));
    for (const resource of this.layout.resourcesOf(index)) {
      table.bandwidth[resource] = this.#baseBandwidth[resource]! * factor;
    }
    for (let i = 0; i < this.#sending.size; i++) {
      const slot = this.#sending.at(i);
      table.computeCap(slot, this.#factorOf(slot));
      table.link(slot);
    }
    this.#fill.clear();
    for (let i = 0; i < this.#sending.size; i++) this.#fill.add(this.#sending.at(i));
    this.#solve(nowMs);
  }

  /** What a flow gets at the moment, bytes per second; 0 once its last byte has left. */
  bytesPerSecondOf(flow: FlowId): number {
    const slot = this.#slotOf(flow);
    return this.#sending.has(slot) ? this.#table.rate[slot]! * MS_PER_SECOND : 0;
  }

  /** Lets the flow send, or lets it arrive if there is nothing to wait for. */
  #begin(slot: number, order: number, nowMs: number): void {
    const table = this.#table;
    table.order[slot] = order;
    if (table.bytes[slot] === 0 || table.cap[slot] === Number.POSITIVE_INFINITY) {
      table.numHops[slot] = 0;
      this.#arriving.push(slot, nowMs + table.latencyMs[slot]!, order);
      return;
    }
    this.#sending.push(slot, Number.POSITIVE_INFINITY, order);
    table.link(slot);
    this.#fill.clear();
    this.#fill.add(slot);
    this.#fill.addNeighbours(slot, false);
    this.#solve(nowMs);
  }

  /** Lets time pass: last bytes leave. */
  #advance(nowMs: number): void {
    assert(nowMs >= this.#nowMs, "time goes backwards");
    const table = this.#table;
    while (this.#sending.topTime <= nowMs) {
      const atMs = this.#sending.topTime;
      const slot = this.#sending.top;
      table.bytesLeft[slot] = 0;
      this.#stopSending(slot, atMs);
      this.#arriving.push(slot, atMs + table.latencyMs[slot]!, table.order[slot]!);
    }
    this.#nowMs = nowMs;
  }

  /** Takes a flow off its path and gives its share to others. Its `bytesLeft` is up to date. */
  #stopSending(slot: number, nowMs: number): void {
    const table = this.#table;
    const fill = this.#fill;
    // Whom the flow held back is known only while it is still there.
    fill.clear();
    fill.addNeighbours(slot, true);
    table.unlink(slot);
    this.#sending.remove(slot);
    this.#solve(nowMs);
  }

  /** Computes the rates of the flows in the fill and moves their ends. */
  #solve(nowMs: number): void {
    if (this.#fill.numFlows === 0) return;
    const table = this.#table;
    this.#fill.solve();
    const { flows, newRate, numFlows } = this.#fill;
    for (let i = 0; i < numFlows; i++) {
      const slot = flows[i]!;
      const rate = newRate[slot]!;
      if (rate === table.rate[slot]) continue;
      this.#settle(slot, nowMs);
      table.rate[slot] = rate;
      const left = table.bytesLeft[slot]!;
      this.#sending.move(slot, left === 0 ? nowMs : nowMs + left / rate);
    }
  }

  /** Brings `bytesLeft` up to date. */
  #settle(slot: number, nowMs: number): void {
    const table = this.#table;
    const moved = table.rate[slot]! * (nowMs - table.updatedMs[slot]!);
    table.bytesLeft[slot] = Math.max(0, table.bytesLeft[slot]! - moved);
    table.updatedMs[slot] = nowMs;
  }

  #fillPath(from: number, to: number): void {
    const path = this.#path;
    path.numResources = 0;
    path.latencyMs = 0;
    path.capBytesPerSecond = Number.POSITIVE_INFINITY;
    this.layout.fillPath(from, to, path);
  }

  #endpointOf(name: string): number {
    const index = this.#endpoints.get(name);
    if (index === undefined) throw new RangeError(`the network has no endpoint ${name}`);
    return index;
  }

  #factorOf(slot: number): number {
    return Math.min(this.#factor[this.#table.from[slot]!]!, this.#factor[this.#table.to[slot]!]!);
  }

  #idOf(slot: number): FlowId {
    return this.#table.generation[slot]! * MAX_FLOWS + slot;
  }

  #slotOf(flow: FlowId): number {
    const slot = flow % MAX_FLOWS;
    assert(this.#table.isUsed[slot] === 1 && this.#idOf(slot) === flow, `flow ${flow} is not under way`);
    return slot;
  }
}
