import type { HandoffId } from "../../core/handoff/messages.ts";
import type { FlowId, Network } from "../network/network.ts";
import type { TwinWorker } from "./twin-worker.ts";

/** KV on its way from one worker to another. */
export interface Transfer {
  readonly from: TwinWorker;
  readonly to: TwinWorker;
  readonly id: HandoffId;
  readonly start: number;
  readonly end: number;
  readonly bytes: number;
  /** It answers a `fetch`, of which it may be the last piece; null: it is part of a handoff. */
  readonly fetched: { readonly isLast: boolean } | null;
  /** When it was handed to the network, whose pair of workers may have been busy with another one until `startMs`. */
  pushedMs: number;
  startMs: number;
}

/** The transfers of one pair of workers, the first of which is under way. They share one connection, which keeps order. */
interface Lane {
  readonly waiting: Transfer[];
  current: Transfer | null;
  flow: FlowId;
}

/**
 * Moves KV between workers over the network, in order for each pair as one connection does; or, with `oneConnectionPerRequest`,
 * for each request on its own, as the simulators of papers assume.
 */
export class KvTransfers {
  readonly #network: Network;
  readonly #lanes = new Map<string, Lane>();
  readonly #byFlow = new Map<FlowId, Lane>();

  readonly #oneConnectionPerRequest: boolean;

  constructor(network: Network, oneConnectionPerRequest: boolean) {
    this.#network = network;
    this.#oneConnectionPerRequest = oneConnectionPerRequest;
  }

  get nextEndMs(): number {
    return this.#byFlow.size === 0 ? Number.POSITIVE_INFINITY : this.#network.nextEndMs;
  }

  push(transfer: Transfer, nowMs: number): void {
    transfer.pushedMs = nowMs;
    const key = this.#keyOf(transfer);
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = { waiting: [], current: null, flow: -1 };
      this.#lanes.set(key, lane);
    }
    if (lane.current === null) this.#begin(lane, transfer, nowMs);
    else lane.waiting.push(transfer);
  }

  /** A transfer that is over by now, or null. The next one of its pair begins. */
  takeEnded(nowMs: number): Transfer | null {
    const flow = this.#network.takeEnded(nowMs);
    if (flow === null) return null;
    const lane = this.#byFlow.get(flow)!;
    const transfer = lane.current!;
    this.#byFlow.delete(flow);
    lane.current = null;
    const next = lane.waiting.shift();
    if (next !== undefined) this.#begin(lane, next, nowMs);
    else this.#lanes.delete(this.#keyOf(transfer));
    return transfer;
  }

  #keyOf({ from, to, id }: Transfer): string {
    return `${from.id}>${to.id}${this.#oneConnectionPerRequest ? `>${id.requestId}` : ""}`;
  }

  /** A worker is gone: returns the transfers that will never end, to it and from it. */
  drop(worker: TwinWorker, nowMs: number): Transfer[] {
    const dropped: Transfer[] = [];
    for (const [key, lane] of this.#lanes) {
      const some = lane.current ?? lane.waiting[0];
      if (some === undefined || (some.from !== worker && some.to !== worker)) continue;
      if (lane.current !== null) {
        this.#network.cancel(lane.flow, nowMs);
        this.#byFlow.delete(lane.flow);
        dropped.push(lane.current);
      }
      dropped.push(...lane.waiting);
      this.#lanes.delete(key);
    }
    return dropped;
  }

  #begin(lane: Lane, transfer: Transfer, nowMs: number): void {
    transfer.startMs = nowMs;
    lane.current = transfer;
    lane.flow = this.#network.start(
      transfer.from.spec.endpoint,
      transfer.to.spec.endpoint,
      transfer.bytes,
      nowMs,
    );
    this.#byFlow.set(lane.flow, lane);
  }
}
