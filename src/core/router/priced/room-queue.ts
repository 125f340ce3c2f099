import { assert } from "../../util/assert.ts";
import type { WorkerView } from "../placement.ts";
import type { PlacedRequest } from "./fleet-books.ts";

/**
 * Requests that a worker is to decode and has no room for yet, in order. Workers say nothing of it, but it follows from what was placed
 * on them: they admit in order, as much as their KV and their places hold. A prompt is not computed before its decode worker has
 * room, wherever it is to be computed; so those that wait here keep no worker busy.
 */
export class RoomQueue {
  readonly #waiting = new Set<PlacedRequest>();
  #numTokens = 0;

  get size(): number {
    return this.#waiting.size;
  }

  /** KV tokens of their prompts. */
  get numTokens(): number {
    return this.#numTokens;
  }

  has(placed: PlacedRequest): boolean {
    return this.#waiting.has(placed);
  }

  /** Whether a further one, not booked yet, has to wait. */
  isFull({ freeKvTokens, numDecodes }: WorkerView, maxRunning: number, kvTokens: number): boolean {
    return this.size > 0 || (numDecodes > 0 && (freeKvTokens < kvTokens || numDecodes >= maxRunning));
  }

  add(placed: PlacedRequest): void {
    this.#waiting.add(placed);
    this.#numTokens += placed.kvTokens;
  }

  /** Whether it was here. */
  remove(placed: PlacedRequest): boolean {
    if (!this.#waiting.delete(placed)) return false;
    this.#numTokens -= placed.kvTokens;
    return true;
  }

  /** Takes out the first one if there is room for it by now; null when there is none or nobody waits. */
  takeFitting(view: WorkerView, maxRunning: number): PlacedRequest | null {
    const [first] = this.#waiting;
    if (first === undefined || !this.#fits(first, view, maxRunning)) return null;
    this.remove(first);
    return first;
  }

  #fits(first: PlacedRequest, { freeKvTokens, numDecodes }: WorkerView, maxRunning: number): boolean {
    // What is placed there, less all of these but the first.
    const freeTokens = freeKvTokens + this.#numTokens - first.kvTokens;
    const numPlaced = numDecodes - (this.size - 1);
    // Alone it is let in however long it is: the worker fails it if it can't ever fit.
    return numPlaced <= 1 || (freeTokens >= 0 && numPlaced <= maxRunning);
  }

  /** Throws unless the sum is that of the prompts, and the first of them does not fit yet. */
  checkInvariants(view: WorkerView | null, maxRunning: number): void {
    let numTokens = 0;
    for (const { kvTokens } of this.#waiting) numTokens += kvTokens;
    assert(numTokens === this.#numTokens, "the tokens that wait for room are off");
    const [first] = this.#waiting;
    const waits = view === null || first === undefined || !this.#fits(first, view, maxRunning);
    assert(waits, "a request waits for room that is there");
  }
}
