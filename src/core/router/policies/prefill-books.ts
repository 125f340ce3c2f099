import type { RequestId, WorkerId } from "../../request.ts";
import type { FleetEvent } from "../placement.ts";

/** Prompt tokens by worker that were not in its cache when they were placed there, until their request's first token comes. */
export class PrefillBooks {
  readonly #requests = new Map<RequestId, { readonly worker: WorkerId; readonly numTokens: number }>();
  readonly #tokens = new Map<WorkerId, number>();

  outstanding(worker: WorkerId): number {
    return this.#tokens.get(worker) ?? 0;
  }

  add(requestId: RequestId, worker: WorkerId, numTokens: number): void {
    this.#settle(requestId);
    this.#requests.set(requestId, { worker, numTokens });
    this.#tokens.set(worker, this.outstanding(worker) + numTokens);
  }

  observe(event: FleetEvent): void {
    if (event.kind === "gone") this.#tokens.delete(event.worker);
    else if (event.kind === "prefilled" || event.kind === "over") this.#settle(event.requestId);
  }

  #settle(requestId: RequestId): void {
    const booked = this.#requests.get(requestId);
    if (booked === undefined) return;
    this.#requests.delete(requestId);
    const left = this.outstanding(booked.worker) - booked.numTokens;
    // A worker that has gone took its sum along.
    if (left > 0) this.#tokens.set(booked.worker, left);
    else this.#tokens.delete(booked.worker);
  }
}
