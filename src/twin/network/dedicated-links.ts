import type { FlowId, Network } from "./network.ts";

interface Flow {
  readonly id: FlowId;
  readonly endMs: number;
}

/**
 * A link of its own for every flow: nothing contends. What the simulators of Splitwise and DistServe assume, and an upper
 * bound for any real network.
 */
export class DedicatedLinks implements Network {
  readonly #bytesPerMs: number;
  readonly #latencyMs: number;
  /** Flows under way, by end and then by start. */
  readonly #flows: Flow[] = [];
  readonly #factors = new Map<string, number>();
  #nextId = 0;

  /** `bytesPerSecond` may be infinite: transfers then take the latency alone. */
  constructor(options: { bytesPerSecond: number; latencyMs: number }) {
    this.#bytesPerMs = options.bytesPerSecond / 1000;
    this.#latencyMs = options.latencyMs;
  }

  start(from: string, to: string, bytes: number, nowMs: number): FlowId {
    const id = this.#nextId++;
    const factor = Math.min(this.#factors.get(from) ?? 1, this.#factors.get(to) ?? 1);
    const flow = { id, endMs: nowMs + this.#latencyMs + bytes / (this.#bytesPerMs * factor) };
    let at = this.#flows.length;
    while (at > 0 && this.#flows[at - 1]!.endMs > flow.endMs) at--;
    this.#flows.splice(at, 0, flow);
    return id;
  }

  cancel(flow: FlowId): void {
    const at = this.#flows.findIndex(({ id }) => id === flow);
    if (at !== -1) this.#flows.splice(at, 1);
  }

  get nextEndMs(): number {
    return this.#flows.length === 0 ? Number.POSITIVE_INFINITY : this.#flows[0]!.endMs;
  }

  takeEnded(nowMs: number): FlowId | null {
    return this.nextEndMs <= nowMs ? this.#flows.shift()!.id : null;
  }

  latencyMs(): number {
    return this.#latencyMs;
  }

  /** Holds for flows that start from now on. */
  scale(endpoint: string, factor: number): void {
    this.#factors.set(endpoint, factor);
  }
}
