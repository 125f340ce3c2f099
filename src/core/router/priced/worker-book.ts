import type { WorkerId } from "../../request.ts";
import { assert } from "../../util/assert.ts";
import type { WorkerFacts, WorkerView } from "../placement.ts";
import { RoomQueue } from "./room-queue.ts";
import type { StepPrices } from "./step-prices.ts";

/** A prompt under way that should be done has this share of a mean prompt's work left. */
const UNFINISHED_SHARE = 0.1;
/** What is overdue is expected to take that share of its delay longer. */
const OVERDUE_SHARE = 0.5;

/** A prompt that is to be prefilled on a worker. */
export interface BookedPrefill {
  /** Milliseconds of its own, before the worker's factor. */
  readonly baseMs: number;
  readonly priority: number;
}

/** What the router knows of one worker beside its caches. */
export class WorkerBook {
  readonly id: WorkerId;
  /** In the books, and in the index of caches: -1 when it is not there. */
  readonly number: number;
  readonly cacheNumber: number;
  readonly facts: WorkerFacts;
  readonly prices: StepPrices;
  /** Null while the worker takes no requests. */
  view: WorkerView | null = null;
  /** As of the latest change of its load: when it is free for a new prompt, and how long one token of that takes. For comparing many. */
  freeMs = 0;
  tokenMs = 0;
  /** Those that it is to decode and has no room for yet. */
  readonly room = new RoomQueue();
  /** Milliseconds, before the worker's factor, of prompts that are to be prefilled here when their decode workers have room. */
  waitingBaseMs = 0;
  readonly #prefills = new Set<BookedPrefill>();
  /** Sums of their milliseconds, in all and by priority. */
  #backlogBaseMs = 0;
  readonly #byPriority = new Map<number, { count: number; baseMs: number }>();
  /** Since when the prompts that are left have been worked on. */
  #sinceMs = 0;

  constructor(number: number, cacheNumber: number, facts: WorkerFacts, prices: StepPrices) {
    this.id = facts.id;
    this.number = number;
    this.cacheNumber = cacheNumber;
    this.facts = facts;
    this.prices = prices;
  }

  get numPrefills(): number {
    return this.#prefills.size;
  }

  addPrefill(prefill: BookedPrefill, nowMs: number): void {
    if (this.#prefills.size === 0) this.#sinceMs = nowMs;
    this.#prefills.add(prefill);
    this.#backlogBaseMs += prefill.baseMs;
    const sum = this.#byPriority.get(prefill.priority) ?? { count: 0, baseMs: 0 };
    sum.count++;
    sum.baseMs += prefill.baseMs;
    this.#byPriority.set(prefill.priority, sum);
  }

  /** It is done or given up. What is next begins now, unless it was not its turn yet: then others have been worked on. */
  removePrefill(prefill: BookedPrefill, isDone: boolean, nowMs: number): void {
    const [first] = this.#prefills;
    if (!this.#prefills.delete(prefill)) return;
    this.#backlogBaseMs = this.#prefills.size === 0 ? 0 : this.#backlogBaseMs - prefill.baseMs;
    const sum = this.#byPriority.get(prefill.priority)!;
    sum.count--;
    sum.baseMs -= prefill.baseMs;
    if (sum.count === 0) this.#byPriority.delete(prefill.priority);
    if (isDone || first === prefill) this.#sinceMs = nowMs;
  }

  /** When it will have prefilled all that it has, as far as expected; long ago when it has been idle for long. */
  freeAtMs(nowMs: number): number {
    return this.#sinceMs + this.prices.prefillFactor(nowMs) * this.#backlogBaseMs;
  }

  /** How long the prompts take that are to be prefilled here when there is room for them elsewhere. */
  waitingMs(nowMs: number): number {
    return this.prices.prefillFactor(nowMs) * this.waitingBaseMs;
  }

  /** How long a new prompt of this priority waits for those before it. */
  queueMs(priority: number, nowMs: number): number {
    const { size } = this.#prefills;
    if (size === 0) return 0;
    const factor = this.prices.prefillFactor(nowMs);
    const elapsedMs = nowMs - this.#sinceMs;
    const allMs = factor * this.#backlogBaseMs;
    const unfinishedMs = (UNFINISHED_SHARE * allMs) / size;
    let aheadMs = allMs;
    for (const [other, { baseMs }] of this.#byPriority) if (other > priority) aheadMs -= factor * baseMs;
    return Math.max(aheadMs - elapsedMs, unfinishedMs, OVERDUE_SHARE * (elapsedMs - allMs));
  }

  /** Throws unless the sums are those of the prompts. */
  checkInvariants(): void {
    this.room.checkInvariants(this.view, this.facts.maxRunning);
    const sums = new Map<number, number>();
    let all = 0;
    for (const { baseMs, priority } of this.#prefills) {
      all += baseMs;
      sums.set(priority, (sums.get(priority) ?? 0) + baseMs);
    }
    const isNear = (a: number, b: number) => Math.abs(a - b) <= 1e-6 * (1 + Math.abs(b));
    assert(isNear(this.#backlogBaseMs, all), "the backlog is off");
    assert(this.#byPriority.size === sums.size, "priorities are off");
    for (const [priority, { baseMs }] of this.#byPriority)
      assert(isNear(baseMs, sums.get(priority)!), "the backlog of a priority is off");
  }
}
