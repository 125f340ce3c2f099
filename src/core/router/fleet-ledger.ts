import type { WorkerId, WorkerRole } from "../request.ts";
import { assert } from "../util/assert.ts";
import type { PlacementDecision, WorkerView } from "./placement.ts";

interface WorkerAccount {
  readonly id: WorkerId;
  readonly role: WorkerRole;
  readonly kvTokensTotal: number;
  accepting: boolean;
  outstandingPrefillTokens: number;
  kvTokensPlaced: number;
}

/** What one placed request is booked for, so that exactly that is taken back. */
export interface Booking {
  readonly prefillWorker: WorkerId;
  readonly decodeWorker: WorkerId;
  prefillTokens: number;
  kvTokens: number;
}

/**
 * The load of every worker as the dispatcher itself has caused it: known at once and without asking anybody. A booking that
 * outlives its worker is settled harmlessly.
 */
export class FleetLedger {
  readonly #accounts = new Map<WorkerId, WorkerAccount>();

  add(worker: { id: WorkerId; role: WorkerRole; kvTokensTotal: number }): void {
    assert(!this.#accounts.has(worker.id), "a worker is added twice");
    this.#accounts.set(worker.id, {
      ...worker,
      accepting: true,
      outstandingPrefillTokens: 0,
      kvTokensPlaced: 0,
    });
  }

  remove(id: WorkerId): void {
    this.#accounts.delete(id);
  }

  /** A worker that does not accept keeps what it has and gets nothing new. */
  setAccepting(id: WorkerId, accepting: boolean): void {
    const account = this.#accounts.get(id);
    if (account !== undefined) account.accepting = accepting;
  }

  has(id: WorkerId): boolean {
    return this.#accounts.has(id);
  }

  views(): WorkerView[] {
    const views: WorkerView[] = [];
    for (const account of this.#accounts.values()) {
      if (!account.accepting) continue;
      const { id, role, outstandingPrefillTokens } = account;
      views.push({
        id,
        role,
        outstandingPrefillTokens,
        freeKvTokens: account.kvTokensTotal - account.kvTokensPlaced,
      });
    }
    return views;
  }

  book(decision: PlacementDecision, numTokens: number): Booking {
    const { prefillWorker, decodeWorker } = decision;
    const prefill = this.#accounts.get(prefillWorker);
    const decode = this.#accounts.get(decodeWorker);
    if (prefill !== undefined) prefill.outstandingPrefillTokens += numTokens;
    if (decode !== undefined) decode.kvTokensPlaced += numTokens;
    return { prefillWorker, decodeWorker, prefillTokens: numTokens, kvTokens: numTokens };
  }

  /** The first token has come. */
  prefilled(booking: Booking): void {
    const account = this.#accounts.get(booking.prefillWorker);
    if (account !== undefined) account.outstandingPrefillTokens -= booking.prefillTokens;
    booking.prefillTokens = 0;
  }

  /** Output has grown by `numTokens`. */
  grew(booking: Booking, numTokens: number): void {
    const account = this.#accounts.get(booking.decodeWorker);
    if (account !== undefined) account.kvTokensPlaced += numTokens;
    booking.kvTokens += numTokens;
  }

  settle(booking: Booking): void {
    this.prefilled(booking);
    const account = this.#accounts.get(booking.decodeWorker);
    if (account !== undefined) account.kvTokensPlaced -= booking.kvTokens;
    booking.kvTokens = 0;
  }

  /** Throws unless the accounts equal the sum of the bookings. */
  checkInvariants(bookings: Iterable<Booking>): void {
    const prefill = new Map<WorkerId, number>();
    const kv = new Map<WorkerId, number>();
    for (const booking of bookings) {
      prefill.set(booking.prefillWorker, (prefill.get(booking.prefillWorker) ?? 0) + booking.prefillTokens);
      kv.set(booking.decodeWorker, (kv.get(booking.decodeWorker) ?? 0) + booking.kvTokens);
    }
    for (const account of this.#accounts.values()) {
      assert(
        account.outstandingPrefillTokens === (prefill.get(account.id) ?? 0),
        "outstanding prefill is off",
      );
      assert(account.kvTokensPlaced === (kv.get(account.id) ?? 0), "placed KV is off");
    }
  }
}
