import type { HandoffFailure } from "../handoff/messages.ts";
import type { KvEventBatch } from "../kv/kv-events.ts";
import type { FinishReason, Request, RequestId, WorkerId } from "../request.ts";
import { type Booking, FleetLedger } from "../router/fleet-ledger.ts";
import { type KvCounts, KvFeed } from "../router/kv-feed.ts";
import type { ObservedStep, PlacementDecision, PlacementPolicy, WorkerFacts } from "../router/placement.ts";
import type { SampledToken } from "../scheduler/step-plan.ts";
import type { SessionBook } from "../sessions/session-book.ts";
import type { TurnExpectation } from "../sessions/turn-expectation.ts";
import { assert } from "../util/assert.ts";
import type { RequestEvent, WorkerTask } from "../worker-effects.ts";
import { type Flight, forgetUnsent, hasBegun, newFlight, queryOf, takeTokens } from "./flight.ts";

export interface DispatcherLimits {
  /** Requests that are not over, waiting ones included. A further one is refused. */
  readonly maxRequests: number;
  /** How long a request may wait for a worker to be ready. */
  readonly maxWaitMs: number;
  /** How often a request may be placed before it is given up. */
  readonly maxAttempts: number;
}

export interface DispatcherOptions extends DispatcherLimits {
  readonly placement: PlacementPolicy;
  /** Learns when conversations come back. Absent: nobody is told. */
  readonly sessions?: SessionBook;
}

/** Why a request ended badly; the gateway maps it to a status. */
export type DispatchFailure =
  | "queue_full"
  /** No worker became ready in time. */
  | "no_workers"
  /** A worker was lost or failed after output had begun, or too often before. */
  | "worker_lost"
  /** The workers have no room. */
  | "kv_exhausted"
  /** The request can't ever fit a worker. */
  | "too_long";

/** What the dispatcher wants done, in order. */
export type DispatchEffect =
  | {
      readonly kind: "submit";
      readonly worker: WorkerId;
      readonly request: Request;
      readonly task: WorkerTask;
    }
  | {
      readonly kind: "cancel";
      readonly worker: WorkerId;
      readonly requestId: RequestId;
      readonly epoch: number;
    }
  | { readonly kind: "placed"; readonly requestId: RequestId; readonly decision: PlacementDecision }
  /** Prompt tokens that need not be computed, known when the request is first admitted. */
  | { readonly kind: "cached"; readonly requestId: RequestId; readonly numTokens: number }
  | { readonly kind: "tokens"; readonly requestId: RequestId; readonly tokens: readonly SampledToken[] }
  | {
      readonly kind: "finish";
      readonly requestId: RequestId;
      readonly reason: FinishReason;
      readonly numCachedTokens: number;
    }
  | { readonly kind: "error"; readonly requestId: RequestId; readonly failure: DispatchFailure }
  /** Some of what the worker said of its caches was lost: ask it for a snapshot. */
  | { readonly kind: "resync"; readonly worker: WorkerId }
  /** A turn is over whose KV this worker has computed or received, and another one is expected. Of no use without lower tiers. */
  | { readonly kind: "expect"; readonly worker: WorkerId; readonly expectation: TurnExpectation };

/**
 * Brings requests to workers and their output back, over any number of attempts.
 *
 * Tokens are passed on once and in order, whichever leg reports them first. An attempt that fails before any token was
 * passed on is followed by another one; later it ends the request, until requests can move while they decode: everything
 * that this takes, the emitted tokens and the seed, is in the flight.
 */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #ledger = new FleetLedger();
  readonly #kvFeed = new KvFeed();
  readonly #flights = new Map<RequestId, Flight>();
  /** Requests without a worker, in order of arrival. */
  readonly #waiting = new Set<Flight>();
  #effects: DispatchEffect[] = [];

  constructor(options: DispatcherOptions) {
    this.#options = options;
  }

  get numRequests(): number {
    return this.#flights.size;
  }

  get policyName(): string {
    return this.#options.placement.name;
  }

  /** Whether placement listens to what workers report of their caches, steps and transfers. */
  get observes(): boolean {
    return this.#options.placement.observe !== undefined;
  }

  /** What has come of the workers' caches so far. */
  get kvCounts(): Readonly<KvCounts> {
    return this.#kvFeed.counts;
  }

  get numWaiting(): number {
    return this.#waiting.size;
  }

  /** When `tick` has something to do next. */
  get nextDeadlineMs(): number {
    if (this.#waiting.size === 0) return Number.POSITIVE_INFINITY;
    // Waiting time is the same for all, so the first to come is the first to run out.
    for (const flight of this.#waiting) return flight.deadlineMs;
    return Number.POSITIVE_INFINITY;
  }

  takeEffects(): DispatchEffect[] {
    const effects = this.#effects;
    if (effects.length > 0) this.#effects = [];
    return effects;
  }

  /** Takes a request over, or says at once why not. Its epoch is the dispatcher's to set. */
  submit(request: Request, nowMs: number): "accepted" | "queue_full" {
    assert(!this.#flights.has(request.id), "a request id is used twice");
    if (this.#flights.size >= this.#options.maxRequests) return "queue_full";
    const flight = newFlight(request, nowMs, this.#options.maxWaitMs);
    this.#flights.set(request.id, flight);
    this.#options.sessions?.arrived(request, nowMs);
    this.#place(flight, nowMs);
    return "accepted";
  }

  /** The client has gone, or has what it wanted. */
  cancel(requestId: RequestId, nowMs: number): void {
    const flight = this.#flights.get(requestId);
    if (flight === undefined) return;
    this.#cancelLegs(flight);
    this.#close(flight, nowMs);
  }

  workerReady(worker: WorkerFacts, nowMs: number): void {
    this.#ledger.add(worker);
    this.#kvFeed.add(worker.id);
    this.#options.placement.observe?.({ kind: "ready", worker }, nowMs);
    for (const flight of [...this.#waiting]) this.#place(flight, nowMs);
  }

  /** A worker's caches have changed. Of a worker that is not here it changes nothing. */
  workerKv(id: WorkerId, batch: KvEventBatch, nowMs: number): void {
    const outcome = this.#kvFeed.receive(id, batch, nowMs);
    if (outcome === "pass") this.#options.placement.observe?.({ kind: "kv", worker: id, batch }, nowMs);
    else if (outcome === "resync") this.#effects.push({ kind: "resync", worker: id });
  }

  /** Steps that a worker has run, in order. Optional: policies that learn prices need them. */
  workerSteps(id: WorkerId, steps: readonly ObservedStep[], nowMs: number): void {
    if (this.#ledger.has(id)) this.#options.placement.observe?.({ kind: "steps", worker: id, steps }, nowMs);
  }

  /** KV has gone from one worker to another. Optional, like the steps. */
  transferred(transfer: { from: WorkerId; to: WorkerId; bytes: number; ms: number }, nowMs: number): void {
    this.#options.placement.observe?.({ ...transfer, kind: "transfer" }, nowMs);
  }

  /** The worker finishes what it has and gets nothing new. */
  workerDraining(id: WorkerId): void {
    this.#ledger.setAccepting(id, false);
  }

  /** A worker reports how many sequences it has that are in no step. Optional: policies that look at queues need it. */
  workerQueue(id: WorkerId, numQueued: number): void {
    this.#ledger.setQueued(id, numQueued);
  }

  workerLost(id: WorkerId, nowMs: number): void {
    this.#ledger.remove(id);
    this.#kvFeed.remove(id);
    this.#options.placement.observe?.({ kind: "gone", worker: id }, nowMs);
    for (const flight of [...this.#flights.values()]) {
      const { decision } = flight;
      if (decision === null) continue;
      const needed = decision.decodeWorker === id || (decision.prefillWorker === id && !flight.handedOff);
      if (needed) this.#attemptFailed(flight, "worker_lost", nowMs);
    }
  }

  /** A worker did not take a request that it was sent, or can't go on with it. */
  attemptFailed(requestId: RequestId, epoch: number, failure: DispatchFailure, nowMs: number): void {
    const flight = this.#current(requestId, epoch);
    if (flight !== null) this.#attemptFailed(flight, failure, nowMs);
  }

  /** What a worker reports of its requests. Events of an earlier epoch are dropped. */
  workerEvents(worker: WorkerId, events: readonly RequestEvent[], nowMs: number): void {
    const touched: Flight[] = []; // Who is in it twice is passed on once: nothing is left then.
    let last: Flight | null = null;
    for (const event of events) {
      const flight = this.#current(event.requestId, event.epoch);
      if (flight === null) continue;
      if (event.kind === "token" || event.kind === "run") {
        if (worker === flight.decision!.decodeWorker) this.#handedOver(flight);
        const tokens = event.kind === "run" ? event.tokens : [event.sampled];
        if (!takeTokens(flight, event.index, tokens)) {
          // A worker that goes on beyond the end can't be trusted with the rest.
          this.#attemptFailed(flight, "worker_lost", nowMs);
          continue;
        }
      } else if (event.kind === "cached") {
        flight.numCachedTokens = event.numTokens;
        flight.reportedCachedTokens = event.numTokens;
        this.#effects.push({ kind: "cached", requestId: event.requestId, numTokens: event.numTokens });
      } else if (event.kind === "finish") flight.finish = event;
      else {
        this.#attemptFailed(flight, failureOf(event.reason), nowMs);
        continue;
      }
      if (last !== flight) touched.push(flight);
      last = flight;
    }
    for (const flight of touched) this.#passOn(flight, nowMs);
  }

  tick(nowMs: number): void {
    for (const flight of [...this.#waiting]) {
      if (nowMs >= flight.deadlineMs) this.#fail(flight, "no_workers", nowMs);
    }
  }

  #current(requestId: RequestId, epoch: number): Flight | null {
    const flight = this.#flights.get(requestId);
    return flight !== undefined && flight.epoch === epoch && flight.decision !== null ? flight : null;
  }

  #place(flight: Flight, nowMs: number): void {
    const { request } = flight;
    const query = queryOf(flight, nowMs);
    const { numPromptTokens: numTokens, maxOutputTokens } = query;
    const decision = this.#options.placement.place(query, this.#ledger.views(), this.#ledger.extremes());
    if (decision === null) {
      this.#waiting.add(flight);
      return;
    }
    this.#waiting.delete(flight);
    flight.epoch++;
    flight.reportedCachedTokens = null;
    flight.decision = decision;
    flight.booking = this.#ledger.book(decision, numTokens, maxOutputTokens);
    flight.handedOff = decision.prefillWorker === decision.decodeWorker;
    this.#effects.push({ kind: "placed", requestId: request.id, decision });
    const attempt: Request = { ...request, epoch: flight.epoch };
    if (flight.handedOff) {
      this.#effects.push({
        kind: "submit",
        worker: decision.decodeWorker,
        request: attempt,
        task: { kind: "local", fetch: decision.fetch },
      });
      return;
    }
    const { prefillWorker, decodeWorker } = decision;
    const decode: WorkerTask = { kind: "decode", peer: prefillWorker };
    const prefill: WorkerTask = { kind: "prefill", peer: decodeWorker, fetch: decision.fetch };
    this.#effects.push({ kind: "submit", worker: decodeWorker, request: attempt, task: decode });
    this.#effects.push({ kind: "submit", worker: prefillWorker, request: attempt, task: prefill });
  }

  #handedOver(flight: Flight): void {
    if (flight.handedOff) return;
    flight.handedOff = true;
    this.#ledger.handedOver(flight.booking!);
  }

  #passOn(flight: Flight, nowMs: number): void {
    const { request, fresh, finish } = flight;
    if (this.#flights.get(request.id) !== flight) return;
    if (fresh.length > 0) {
      if (flight.booking!.prefillTokens > 0) this.#tell(flight, "prefilled", nowMs);
      this.#ledger.prefilled(flight.booking!);
      this.#ledger.grew(flight.booking!, fresh.length);
      this.#effects.push({ kind: "tokens", requestId: request.id, tokens: fresh });
      flight.fresh = [];
    }
    if (finish !== null && flight.numEmitted === finish.numOutputTokens) {
      const { numCachedTokens } = flight;
      this.#effects.push({ kind: "finish", requestId: request.id, reason: finish.reason, numCachedTokens });
      this.#close(flight, nowMs);
    }
  }

  #attemptFailed(flight: Flight, failure: DispatchFailure, nowMs: number): void {
    const begun = hasBegun(flight);
    if (begun) {
      this.#passOn(flight, nowMs); // What came with the failure is output like any other.
      if (flight.decision === null) return; // And may have been the last of it.
    }
    this.#cancelLegs(flight);
    this.#settle(flight, nowMs);
    forgetUnsent(flight);
    if (begun || failure === "too_long" || flight.epoch >= this.#options.maxAttempts)
      this.#fail(flight, failure, nowMs);
    else this.#place(flight, nowMs);
  }

  #fail(flight: Flight, failure: DispatchFailure, nowMs: number): void {
    this.#effects.push({ kind: "error", requestId: flight.request.id, failure });
    this.#close(flight, nowMs);
  }

  /** Tells every worker that still lives and may hold something of the attempt. */
  #cancelLegs(flight: Flight): void {
    if (flight.decision === null) return;
    const { id: requestId } = flight.request;
    const { prefillWorker, decodeWorker } = flight.decision;
    for (const worker of new Set([prefillWorker, decodeWorker])) {
      if (this.#ledger.has(worker))
        this.#effects.push({ kind: "cancel", worker, requestId, epoch: flight.epoch });
    }
  }

  #close(flight: Flight, nowMs: number): void {
    const expectation = this.#options.sessions?.ended(flight.request, nowMs) ?? null;
    const { prefillWorker, decodeWorker } = flight.decision ?? {};
    for (const worker of new Set([prefillWorker, decodeWorker])) {
      if (expectation !== null && worker !== undefined && this.#ledger.has(worker))
        this.#effects.push({ kind: "expect", worker, expectation });
    }
    this.#settle(flight, nowMs);
    this.#waiting.delete(flight);
    this.#flights.delete(flight.request.id);
  }

  /** Ends an attempt in the books. */
  #settle(flight: Flight, nowMs: number): void {
    if (flight.booking === null) return;
    this.#ledger.settle(flight.booking);
    this.#tell(flight, "over", nowMs);
    flight.booking = null;
    flight.decision = null;
  }

  #tell(flight: Flight, kind: "prefilled" | "over", nowMs: number): void {
    const { request, reportedCachedTokens: numCachedTokens } = flight;
    this.#options.placement.observe?.({ kind, requestId: request.id, numCachedTokens }, nowMs);
  }

  checkInvariants(): void {
    const bookings: Booking[] = [];
    for (const [id, flight] of this.#flights) {
      assert(flight.request.id === id, "a flight is filed under another id");
      assert(
        (flight.decision === null) === this.#waiting.has(flight),
        "a flight is neither placed nor waiting",
      );
      assert((flight.booking === null) === (flight.decision === null), "placed and booked disagree");
      assert(flight.fresh.length === 0, "tokens are kept back");
      if (flight.booking !== null) bookings.push(flight.booking);
    }
    for (const flight of this.#waiting)
      assert(this.#flights.has(flight.request.id), "a waiting flight is over");
    this.#ledger.checkInvariants(bookings);
    this.#kvFeed.checkInvariants((id) => this.#ledger.has(id));
    this.#options.sessions?.checkInvariants();
  }
}

function failureOf(reason: HandoffFailure): DispatchFailure {
  return reason === "no_space" ? "kv_exhausted" : "worker_lost";
}
