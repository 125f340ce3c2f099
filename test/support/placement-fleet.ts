import type { KvEventBatch } from "../../src/core/kv/kv-events.ts";
import type { RequestId, WorkerId } from "../../src/core/request.ts";
import { type Booking, FleetLedger } from "../../src/core/router/fleet-ledger.ts";
import type {
  ObservedStep,
  PlacementDecision,
  PlacementPolicy,
  PlacementQuery,
  WorkerFacts,
} from "../../src/core/router/placement.ts";
import { placementQuery, workerFacts } from "./placement.ts";

interface Placed {
  readonly booking: Booking;
  readonly decision: PlacementDecision;
  isPrefilled: boolean;
}

/** A policy between a ledger and its fleet, told what the dispatcher would tell it, without a dispatcher's requests. */
export class PlacementFleet {
  readonly policy: PlacementPolicy;
  readonly ledger = new FleetLedger();
  readonly workers = new Map<WorkerId, WorkerFacts>();
  readonly placed = new Map<RequestId, Placed>();
  nowMs = 0;
  #numQueries = 0;

  constructor(policy: PlacementPolicy) {
    this.policy = policy;
  }

  /** Roles by the first letter: `p…`, `d…`, else both. */
  add(id: WorkerId, fields: Partial<WorkerFacts> = {}): this {
    const role = id.startsWith("p") ? "prefill" : id.startsWith("d") ? "decode" : "both";
    const facts = workerFacts({ id, role, ...fields });
    this.workers.set(id, facts);
    this.ledger.add(facts);
    this.policy.observe?.({ kind: "ready", worker: facts }, this.nowMs);
    return this;
  }

  remove(id: WorkerId): void {
    this.workers.delete(id);
    this.ledger.remove(id);
    this.policy.observe?.({ kind: "gone", worker: id }, this.nowMs);
    for (const [requestId, { decision }] of this.placed)
      if (decision.prefillWorker === id || decision.decodeWorker === id) this.over(requestId);
  }

  place(fields: Partial<PlacementQuery> = {}): PlacementDecision | null {
    const query = placementQuery({ requestId: `r${this.#numQueries++}`, ...fields, nowMs: this.nowMs });
    const decision = this.policy.place(query, this.ledger.views(), this.ledger.extremes());
    if (decision === null) return null;
    const booking = this.ledger.book(decision, query.numPromptTokens, query.maxOutputTokens);
    this.placed.set(query.requestId, { booking, decision, isPrefilled: false });
    return decision;
  }

  prefilled(requestId: RequestId, numCachedTokens: number | null = null): void {
    const placed = this.placed.get(requestId);
    if (placed === undefined || placed.isPrefilled) return;
    placed.isPrefilled = true;
    this.policy.observe?.({ kind: "prefilled", requestId, numCachedTokens }, this.nowMs);
    this.ledger.prefilled(placed.booking);
    this.ledger.handedOver(placed.booking);
  }

  over(requestId: RequestId): void {
    const placed = this.placed.get(requestId);
    if (placed === undefined) return;
    this.placed.delete(requestId);
    this.ledger.settle(placed.booking);
    this.policy.observe?.({ kind: "over", requestId, numCachedTokens: null }, this.nowMs);
  }

  kv(worker: WorkerId, batch: KvEventBatch): void {
    this.policy.observe?.({ kind: "kv", worker, batch }, this.nowMs);
  }

  steps(worker: WorkerId, ...steps: ObservedStep[]): void {
    this.policy.observe?.({ kind: "steps", worker, steps }, this.nowMs);
  }

  transfer(from: WorkerId, to: WorkerId, bytes: number, ms: number): void {
    this.policy.observe?.({ kind: "transfer", from, to, bytes, ms }, this.nowMs);
  }
}

/** Hashes of a prompt that is a chain of blocks with these names: equal beginnings have equal hashes. */
export function chainOf(...names: number[]): Int32Array {
  const hashes = new Int32Array(4 * names.length);
  let state = 0x9e3779b9 | 0;
  names.forEach((name, block) => {
    for (let word = 0; word < 4; word++) {
      state = Math.imul(state ^ (name + word), 0x85ebca6b);
      state ^= state >>> 15;
      hashes[4 * block + word] = state;
    }
  });
  return hashes;
}
