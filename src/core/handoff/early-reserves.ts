import type { RequestId, WorkerId } from "../request.ts";
import { assert } from "../util/assert.ts";

/** Reserves that may wait at once; a further one is refused. */
const MAX_EARLY_RESERVES = 256;

/** A reserve that came before the gateway told this worker of the request. */
export interface EarlyReserve {
  readonly requestId: RequestId;
  readonly epoch: number;
  readonly peer: WorkerId;
  readonly numTokens: number;
  readonly deadlineMs: number;
}

/** The gateway tells both legs of a request at once, and the prefill worker can be faster than the gateway. */
export class EarlyReserves {
  readonly #byRequest = new Map<RequestId, EarlyReserve>();

  /** The earliest time at which one runs out. */
  get nextDeadlineMs(): number {
    let next = Number.POSITIVE_INFINITY;
    if (this.#byRequest.size === 0) return next;
    for (const { deadlineMs } of this.#byRequest.values()) next = Math.min(next, deadlineMs);
    return next;
  }

  /** Keeps a reserve, or returns false when too many are kept. A later one of the same request replaces it. */
  hold(reserve: EarlyReserve): boolean {
    if (this.#byRequest.size >= MAX_EARLY_RESERVES && !this.#byRequest.has(reserve.requestId)) return false;
    this.#byRequest.set(reserve.requestId, reserve);
    return true;
  }

  /** Takes out the reserve of this request, attempt and worker, if there is one. */
  take(requestId: RequestId, epoch: number, peer: WorkerId): EarlyReserve | null {
    const reserve = this.#byRequest.get(requestId);
    if (reserve === undefined || reserve.epoch !== epoch || reserve.peer !== peer) return null;
    this.#byRequest.delete(requestId);
    return reserve;
  }

  /** Takes out those that have run out. */
  takeExpired(nowMs: number): EarlyReserve[] {
    const expired = [...this.#byRequest.values()].filter(({ deadlineMs }) => nowMs >= deadlineMs);
    for (const { requestId } of expired) this.#byRequest.delete(requestId);
    return expired;
  }

  forgetPeer(peer: WorkerId): void {
    for (const [requestId, reserve] of this.#byRequest) {
      if (reserve.peer === peer) this.#byRequest.delete(requestId);
    }
  }

  checkInvariants(): void {
    assert(this.#byRequest.size <= MAX_EARLY_RESERVES, "too many early reserves");
  }
}
