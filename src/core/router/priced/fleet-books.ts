import type { RequestId, WorkerId } from "../../request.ts";
import { assert } from "../../util/assert.ts";
import { WinnerTree } from "../../util/winner-tree.ts";
import type { ObservedStep, WorkerFacts, WorkerView } from "../placement.ts";
import { LearnedSteps } from "./learned-steps.ts";
import { StepPrices } from "./step-prices.ts";
import { type BookedPrefill, WorkerBook } from "./worker-book.ts";

/** A request that was placed and is not over. */
export interface PlacedRequest {
  readonly prefillWorker: WorkerBook;
  readonly decodeWorker: WorkerBook;
  readonly prefill: BookedPrefill;
  /** KV that it takes on the decode worker before its first token. */
  readonly kvTokens: number;
  readonly maxOutputTokens: number;
  prefilledAtMs: number | null;
}

/** What is assumed of a worker that nobody has announced. */
const UNKNOWN_FACTS = { perf: null, tokenBudget: 2048, maxRunning: 256, kvBytesPerToken: 131_072 };

/** Step by which workers are compared before they are priced. */
const USUAL_STEP_TOKENS = 1024;

/**
 * The workers and the requests that were placed on them, with the least loaded of each kind at hand: what a decision costs does not grow
 * with the fleet.
 */
export class FleetBooks {
  readonly #byId = new Map<WorkerId, WorkerBook>();
  /** By dense number, and by the number in the index of caches. */
  readonly #books: Array<WorkerBook | undefined> = [];
  readonly #byCacheNumber: Array<WorkerBook | undefined> = [];
  readonly #freeNumbers: number[] = [];
  readonly #requests = new Map<RequestId, PlacedRequest>();
  readonly #learned = new LearnedSteps();
  /** The views of the latest decision, and how many workers of a kind are among them. */
  #views: readonly WorkerView[] | null = null;
  numPrefillers = 0;
  numDecoders = 0;
  /** Workers whose ranks are stale. */
  readonly #touched = new Set<WorkerBook>();
  /** By dense number: who only prefills, and who decodes, first free for a prompt first; who decodes, most room first. */
  #freePrefillers = new WinnerTree(0);
  #freeDecoders = new WinnerTree(0);
  #emptyDecoders = new WinnerTree(0);

  /** `cacheNumber`: its number in the index of caches, or -1. */
  add(facts: WorkerFacts, cacheNumber: number): WorkerBook {
    assert(!this.#byId.has(facts.id), "a worker is added twice");
    const number = this.#freeNumbers.pop() ?? this.#books.length;
    const book = new WorkerBook(number, cacheNumber, facts, new StepPrices(facts.perf, this.#learned));
    this.#byId.set(facts.id, book);
    this.#books[number] = book;
    if (cacheNumber !== -1) this.#byCacheNumber[cacheNumber] = book;
    this.#views = null;
    return book;
  }

  has(id: WorkerId): boolean {
    return this.#byId.has(id);
  }

  /** Whether a request was placed and is not over. */
  hasRequest(id: RequestId): boolean {
    return this.#requests.has(id);
  }

  remove(id: WorkerId): void {
    const book = this.#byId.get(id);
    if (book === undefined) return;
    this.#byId.delete(id);
    this.#books[book.number] = undefined;
    this.#freeNumbers.push(book.number);
    if (book.cacheNumber !== -1) this.#byCacheNumber[book.cacheNumber] = undefined;
    book.view = null;
    this.#views = null;
    // Requests that wait for their end keep the book; nobody else finds it.
  }

  /** Null for a number in the index that nobody has, or whose worker takes no requests. */
  byCacheNumber(number: number): WorkerBook | null {
    const book = this.#byCacheNumber[number];
    return book === undefined || book.view === null ? null : book;
  }

  /** Takes over who accepts requests now. The ledger makes a new list of views only when that has changed. */
  follow(views: readonly WorkerView[], nowMs: number, onUnknown: (view: WorkerView) => number): void {
    if (views === this.#views) {
      for (const book of this.#touched) this.#rank(book, nowMs);
      this.#touched.clear();
      return;
    }
    for (const book of this.#byId.values()) book.view = null;
    this.numPrefillers = 0;
    this.numDecoders = 0;
    for (const view of views) {
      const facts = { id: view.id, role: view.role, kvTokensTotal: view.kvTokensTotal, ...UNKNOWN_FACTS };
      const book = this.#byId.get(view.id) ?? this.add(facts, onUnknown(view));
      book.view = view;
      if (view.role === "prefill") this.numPrefillers++;
      else this.numDecoders++;
    }
    this.#views = views;
    this.#freePrefillers = new WinnerTree(this.#books.length);
    this.#freeDecoders = new WinnerTree(this.#books.length);
    this.#emptyDecoders = new WinnerTree(this.#books.length);
    for (const book of this.#byId.values()) this.#admit(book, nowMs);
    for (const book of this.#byId.values()) this.#rank(book, nowMs);
    this.#touched.clear();
  }

  observeSteps(id: WorkerId, steps: readonly ObservedStep[], nowMs: number): void {
    const book = this.#byId.get(id);
    if (book === undefined) return;
    for (const step of steps) book.prices.observe(step, nowMs);
    this.#touch(book);
  }

  /** A worker's load or prices have changed, or the ledger is about to change them. */
  #touch(book: WorkerBook): void {
    this.#touched.add(book);
  }

  #rank(book: WorkerBook, nowMs: number): void {
    const { view, number } = book;
    if (view === null) return;
    book.freeMs = book.freeAtMs(nowMs) + book.waitingMs(nowMs);
    book.tokenMs = book.prices.prefillFactor(nowMs) * book.prices.baseMs(0, USUAL_STEP_TOKENS, 0, 0);
    book.tokenMs /= USUAL_STEP_TOKENS;
    if (view.role === "prefill") this.#freePrefillers.set(number, -book.freeMs);
    else {
      this.#freeDecoders.set(number, -book.freeMs);
      this.#emptyDecoders.set(number, decodeRoom(book, nowMs));
    }
  }

  /** The `count` workers that only prefill and are free first. */
  freePrefillers(count: number): WorkerBook[] {
    return this.#freePrefillers.highest(count).map((number) => this.#books[number]!);
  }

  /** The `count` workers that decode and are free first for a prompt of their own. */
  freeDecoders(count: number): WorkerBook[] {
    return this.#freeDecoders.highest(count).map((number) => this.#books[number]!);
  }

  /** The `count` workers that decode and have most room. */
  emptyDecoders(count: number): WorkerBook[] {
    return this.#emptyDecoders.highest(count).map((number) => this.#books[number]!);
  }

  place(requestId: RequestId, placed: PlacedRequest, nowMs: number): void {
    this.over(requestId, nowMs);
    this.#requests.set(requestId, placed);
    const { prefillWorker, decodeWorker, kvTokens } = placed;
    const { view, facts, room } = decodeWorker;
    if (view !== null && room.isFull(view, facts.maxRunning, kvTokens)) {
      room.add(placed);
      prefillWorker.waitingBaseMs += placed.prefill.baseMs;
    } else prefillWorker.addPrefill(placed.prefill, nowMs);
    this.#touch(prefillWorker);
    this.#touch(decodeWorker);
  }

  /** Of the requests that wait for room on a worker, lets those in for which there is some by now. */
  #admit(book: WorkerBook, nowMs: number): void {
    const { view, facts, room } = book;
    if (view === null) return;
    for (;;) {
      const placed = room.takeFitting(view, facts.maxRunning);
      if (placed === null) return;
      placed.prefillWorker.waitingBaseMs -= placed.prefill.baseMs;
      placed.prefillWorker.addPrefill(placed.prefill, nowMs);
      this.#touch(placed.prefillWorker);
    }
  }

  /** Takes a request out of those that wait for room, if it is there. */
  #leaveLine(placed: PlacedRequest): boolean {
    if (!placed.decodeWorker.room.remove(placed)) return false;
    placed.prefillWorker.waitingBaseMs -= placed.prefill.baseMs;
    return true;
  }

  /** Its first token has come. */
  prefilled(requestId: RequestId, nowMs: number): PlacedRequest | null {
    const placed = this.#requests.get(requestId);
    if (placed === undefined || placed.prefilledAtMs !== null) return null;
    placed.prefilledAtMs = nowMs;
    // One that was thought to wait has been let in before others, or shares KV with them.
    if (this.#leaveLine(placed)) this.#admit(placed.decodeWorker, nowMs);
    else placed.prefillWorker.removePrefill(placed.prefill, true, nowMs);
    this.#touch(placed.prefillWorker);
    return placed;
  }

  over(requestId: RequestId, nowMs: number): PlacedRequest | null {
    const placed = this.#requests.get(requestId);
    if (placed === undefined) return null;
    this.#requests.delete(requestId);
    const waited = this.#leaveLine(placed);
    if (!waited && placed.prefilledAtMs === null)
      placed.prefillWorker.removePrefill(placed.prefill, false, nowMs);
    this.#admit(placed.decodeWorker, nowMs);
    this.#touch(placed.prefillWorker);
    this.#touch(placed.decodeWorker);
    return placed;
  }

  checkInvariants(): void {
    const counts = new Map<WorkerBook, number>();
    const waitingMs = new Map<WorkerBook, number>();
    for (const placed of this.#requests.values()) {
      const { prefillWorker, decodeWorker, prefilledAtMs } = placed;
      if (decodeWorker.room.has(placed))
        waitingMs.set(prefillWorker, (waitingMs.get(prefillWorker) ?? 0) + placed.prefill.baseMs);
      else if (prefilledAtMs === null) counts.set(prefillWorker, (counts.get(prefillWorker) ?? 0) + 1);
    }
    for (const [id, book] of this.#byId) {
      assert(book.id === id && this.#books[book.number] === book, "a worker is filed under another name");
      assert(book.numPrefills === (counts.get(book) ?? 0), "prompts on a worker are off");
      const offMs = Math.abs(book.waitingBaseMs - (waitingMs.get(book) ?? 0));
      assert(offMs <= 1e-6 * (1 + book.waitingBaseMs), "what is to come to a worker is off");
      book.checkInvariants();
    }
  }
}

/** How a decode worker ranks before it is priced: free KV in units of the whole, slower ones after faster ones. */
function decodeRoom({ view, prices, facts }: WorkerBook, nowMs: number): number {
  const used = 1 - view!.freeKvTokens / Math.max(1, view!.kvTokensTotal);
  const places = view!.numDecodes / facts.maxRunning;
  return -prices.decodeFactor(nowMs) * (Math.max(0, used) + places);
}
