import type { WorkerId, WorkerRole } from "../request.ts";
import { assert } from "../util/assert.ts";
import { WinnerTree } from "../util/winner-tree.ts";
import {
  decodeRoom,
  type FleetExtremes,
  type PlacementDecision,
  prefillRoom,
  type WorkerView,
} from "./placement.ts";

interface WorkerAccount extends WorkerView {
  readonly kvTokensTotal: number;
  accepting: boolean;
  /** Place among the accepting accounts, or -1. */
  place: number;
  outstandingPrefillTokens: number;
  freeKvTokens: number;
  boundKvTokens: number;
  numPrefills: number;
  numDecodes: number;
  /** Those of the decodes whose KV is here. */
  numDecoding: number;
  numQueued: number;
  numIdleSpells: number;
}

/** What one placed request is booked for, so that exactly that is taken back. */
export interface Booking {
  readonly prefillWorker: WorkerId;
  readonly decodeWorker: WorkerId;
  prefillTokens: number;
  kvTokens: number;
  /** Bound of the KV on the decode worker, and on the prefill worker until it is handed over. */
  readonly boundKvTokens: number;
  prefillKvTokens: number;
  isDecoding: boolean;
}

/**
 * The load of every worker as the dispatcher itself has caused it: known at once and without asking anybody. A booking that
 * outlives its worker is settled harmlessly.
 */
export class FleetLedger {
  readonly #accounts = new Map<WorkerId, WorkerAccount>();
  /** Accounts of workers that take requests, until one comes, goes or changes its mind. */
  #accepting: readonly WorkerAccount[] | null = null;
  #byPrefillRoom = new WinnerTree(0);
  #byDecodeRoom = new WinnerTree(0);

  add({ id, role, kvTokensTotal }: { id: WorkerId; role: WorkerRole; kvTokensTotal: number }): void {
    assert(!this.#accounts.has(id), "a worker is added twice");
    this.#accounts.set(id, {
      id,
      role,
      kvTokensTotal,
      accepting: true,
      place: -1,
      outstandingPrefillTokens: 0,
      freeKvTokens: kvTokensTotal,
      boundKvTokens: 0,
      numPrefills: 0,
      numDecodes: 0,
      numDecoding: 0,
      numQueued: 0,
      numIdleSpells: 0,
    });
    this.#accepting = null;
  }

  remove(id: WorkerId): void {
    this.#accounts.delete(id);
    this.#accepting = null;
  }

  /** A worker that does not accept keeps what it has and gets nothing new. */
  setAccepting(id: WorkerId, accepting: boolean): void {
    const account = this.#accounts.get(id);
    if (account !== undefined) account.accepting = accepting;
    this.#accepting = null;
  }

  /** What a worker reports of its queue. */
  setQueued(id: WorkerId, numQueued: number): void {
    const account = this.#accounts.get(id);
    if (account !== undefined) account.numQueued = numQueued;
  }

  has(id: WorkerId): boolean {
    return this.#accounts.has(id);
  }

  /** Workers that take requests, as they stand now. The views change with every booking: look at them, do not keep them. */
  views(): readonly WorkerView[] {
    this.#accepting ??= this.#line();
    return this.#accepting;
  }

  /** The ends of the fleet by load, as they stand now. */
  extremes(): FleetExtremes {
    const views = this.views();
    return {
      leastPrefill: views[this.#byPrefillRoom.winner] ?? null,
      mostDecodeRoom: views[this.#byDecodeRoom.winner] ?? null,
    };
  }

  #line(): readonly WorkerAccount[] {
    for (const account of this.#accounts.values()) account.place = -1;
    const accepting = [...this.#accounts.values()].filter((account) => account.accepting);
    this.#byPrefillRoom = new WinnerTree(accepting.length);
    this.#byDecodeRoom = new WinnerTree(accepting.length);
    accepting.forEach((account, place) => {
      account.place = place;
      this.#rank(account);
    });
    return accepting;
  }

  /** Must follow every change of an account's load. */
  #rank(account: WorkerAccount): void {
    if (account.place === -1) return;
    this.#byPrefillRoom.set(account.place, prefillRoom(account));
    this.#byDecodeRoom.set(account.place, decodeRoom(account));
  }

  /** `numTokens` are known; up to `maxNewTokens` more can follow. */
  book(decision: PlacementDecision, numTokens: number, maxNewTokens: number): Booking {
    const { prefillWorker, decodeWorker } = decision;
    const boundKvTokens = numTokens + maxNewTokens;
    // The prefill worker draws one token.
    const prefillKvTokens = prefillWorker === decodeWorker ? 0 : numTokens + 1;
    const prefill = this.#accounts.get(prefillWorker);
    const decode = this.#accounts.get(decodeWorker);
    if (prefill !== undefined) {
      prefill.outstandingPrefillTokens += numTokens;
      prefill.boundKvTokens += prefillKvTokens;
      prefill.numPrefills++;
      this.#rank(prefill);
    }
    if (decode !== undefined) {
      decode.freeKvTokens -= numTokens;
      decode.boundKvTokens += boundKvTokens;
      decode.numDecodes++;
      this.#rank(decode);
    }
    const prefillTokens = numTokens;
    const kvTokens = numTokens;
    return {
      prefillWorker,
      decodeWorker,
      prefillTokens,
      kvTokens,
      boundKvTokens,
      prefillKvTokens,
      isDecoding: false,
    };
  }

  /** The first token has come. */
  prefilled(booking: Booking): void {
    if (booking.prefillTokens === 0) return;
    const account = this.#accounts.get(booking.prefillWorker);
    if (booking.prefillWorker === booking.decodeWorker) this.#beginDecoding(booking);
    if (account !== undefined) {
      account.outstandingPrefillTokens -= booking.prefillTokens;
      account.numPrefills--;
      this.#rank(account);
      countIdleSpell(account);
    }
    booking.prefillTokens = 0;
  }

  /** The decode worker has everything. */
  handedOver(booking: Booking): void {
    const account = this.#accounts.get(booking.prefillWorker);
    if (account !== undefined) account.boundKvTokens -= booking.prefillKvTokens;
    booking.prefillKvTokens = 0;
    this.#beginDecoding(booking);
  }

  #beginDecoding(booking: Booking): void {
    if (booking.isDecoding) return;
    booking.isDecoding = true;
    const account = this.#accounts.get(booking.decodeWorker);
    if (account !== undefined) account.numDecoding++;
  }

  /** Output has grown by `numTokens`. */
  grew(booking: Booking, numTokens: number): void {
    const account = this.#accounts.get(booking.decodeWorker);
    booking.kvTokens += numTokens;
    if (account === undefined) return;
    account.freeKvTokens -= numTokens;
    this.#rank(account);
  }

  settle(booking: Booking): void {
    const prefill = this.#accounts.get(booking.prefillWorker);
    const isPrefilling = booking.prefillTokens > 0;
    if (prefill !== undefined) {
      prefill.boundKvTokens -= booking.prefillKvTokens;
      if (isPrefilling) prefill.numPrefills--;
      prefill.outstandingPrefillTokens -= booking.prefillTokens;
      this.#rank(prefill);
    }
    const decode = this.#accounts.get(booking.decodeWorker);
    if (decode !== undefined) {
      decode.freeKvTokens += booking.kvTokens;
      decode.boundKvTokens -= booking.boundKvTokens;
      decode.numDecodes--;
      if (booking.isDecoding) decode.numDecoding--;
      this.#rank(decode);
    }
    // A worker that had nothing to do for this request has not run dry now.
    if (prefill !== undefined && isPrefilling && prefill !== decode) countIdleSpell(prefill);
    if (decode !== undefined && (booking.isDecoding || (isPrefilling && prefill === decode)))
      countIdleSpell(decode);
    booking.prefillTokens = 0;
    booking.prefillKvTokens = 0;
    booking.kvTokens = 0;
  }

  /** Throws unless the accounts equal the sum of the bookings. */
  checkInvariants(bookings: Iterable<Booking>): void {
    const sums = new Map<
      WorkerId,
      { prefill: number; kv: number; bound: number; prefills: number; decodes: number; decoding: number }
    >();
    const sumOf = (id: WorkerId) => {
      if (!sums.has(id)) sums.set(id, { prefill: 0, kv: 0, bound: 0, prefills: 0, decodes: 0, decoding: 0 });
      return sums.get(id)!;
    };
    for (const booking of bookings) {
      const prefill = sumOf(booking.prefillWorker);
      prefill.prefill += booking.prefillTokens;
      prefill.bound += booking.prefillKvTokens;
      prefill.prefills += booking.prefillTokens > 0 ? 1 : 0;
      const decode = sumOf(booking.decodeWorker);
      decode.kv += booking.kvTokens;
      decode.bound += booking.boundKvTokens;
      decode.decodes++;
      decode.decoding += booking.isDecoding ? 1 : 0;
    }
    for (const account of this.#accounts.values()) {
      const { prefill, kv, bound, prefills, decodes, decoding } = sumOf(account.id);
      assert(account.outstandingPrefillTokens === prefill, "outstanding prefill is off");
      assert(account.kvTokensTotal - account.freeKvTokens === kv, "placed KV is off");
      assert(account.boundKvTokens === bound, "the bound of placed KV is off");
      assert(account.numPrefills === prefills, "the number of prefills is off");
      assert(account.numDecodes === decodes, "the number of placed requests is off");
      assert(account.numDecoding === decoding, "the number of decoding requests is off");
    }
    const { leastPrefill, mostDecodeRoom } = this.extremes();
    const views = this.views();
    assert(leastPrefill === highest(views, prefillRoom), "the least loaded prefill worker is another one");
    assert(mostDecodeRoom === highest(views, decodeRoom), "the decode worker with most room is another one");
  }
}

/** The first of the workers with the highest score: the slow way, to check the trees with. */
function highest(workers: readonly WorkerView[], score: (worker: WorkerView) => number): WorkerView | null {
  const highestScore = Math.max(Number.NEGATIVE_INFINITY, ...workers.map(score));
  if (highestScore === Number.NEGATIVE_INFINITY) return null;
  return workers.find((worker) => score(worker) === highestScore) ?? null;
}

/** Counts it when nothing that could be computed is left on a worker. */
function countIdleSpell(account: WorkerAccount): void {
  if (account.numPrefills === 0 && account.numDecoding === 0) account.numIdleSpells++;
}
