import type {
  FleetEvent,
  PlacementCandidate,
  PlacementDecision,
  PlacementPolicy,
  PlacementQuery,
  WorkerView,
} from "../placement.ts";
import { FleetBooks } from "./fleet-books.ts";
import { FleetCaches } from "./fleet-caches.ts";
import { LinkPrices } from "./link-prices.ts";
import {
  type DecodeOption,
  firstTokenMsOf,
  type PrefillOption,
  type PricedPair,
  Pricer,
  type PriceWeights,
  placedTokens,
  type TERMS,
} from "./pricer.ts";
import { Traffic } from "./traffic.ts";
import type { WorkerBook } from "./worker-book.ts";

/** Workers that are priced for having some of the prompt, the best of them … */
export const MAX_WARM = 4;
/** … and for being the least loaded of their kind. */
export const MAX_FREE = 3;
/** Priced options that a decision names. */
export const MAX_CANDIDATES = 8;

/**
 * A worker of role `decode` that has no room for a request prefills its prompt only if that is less work there, for what is cached, than this
 * share of the least anywhere else. Everybody who waits for its room would wait for the prompt too, and each of them would look for
 * another decode worker to do the same on: at the edge of what a fleet can do that is a spiral from which it does not come back.
 */
const FULL_WORKER_SHARE = 0.5;

/** Ways to prefill on one worker, with those to decode behind each of them and the links between: see {@link PricedPair}. */
interface Option {
  readonly prefills: readonly PrefillOption[];
  readonly decodes: readonly DecodeOption[];
  readonly links: readonly number[];
}

export interface PricedOptions {
  readonly weights: PriceWeights;
  /** Whether workers can fetch the beginning of a prompt from each other. */
  readonly canFetch: boolean;
  /** Prompts with fewer tokens are never handed over. */
  readonly localPrefillBelowTokens: number;
  /** Memory of the index of caches. */
  readonly indexBytes: number;
}

export const DEFAULT_PRICED_OPTIONS: PricedOptions = {
  weights: { decode: 0.3, disturbance: 0.3, later: 1, impatience: 1, late: 10 },
  canFetch: true,
  localPrefillBelowTokens: 0,
  indexBytes: 256 * 1024 * 1024,
};

/**
 * The cheapest of the options that can win, all priced in seconds: until the first token (queue, room, moving cached blocks, what is
 * left to prefill), from there until decoding begins (the part of the handoff that is not hidden), and what the request's decoding,
 * those that decode already and those that come later pay for it. Waiting for a warm worker, computing again and fetching are options
 * like others; hot prefixes spread when waiting becomes dearer than computing them once more.
 *
 * What a decision costs does not grow with the fleet but for the look-up: a few of the warmest and of the least loaded are priced.
 */
export class PricedPlacement implements PlacementPolicy {
  readonly name = "priced";
  readonly fetches: boolean;
  readonly #localPrefillBelowTokens: number;
  readonly #books = new FleetBooks();
  readonly #links = new LinkPrices();
  readonly #traffic = new Traffic();
  readonly #caches: FleetCaches;
  readonly #pricer: Pricer;

  constructor(options: Partial<PricedOptions> = {}) {
    const all = { ...DEFAULT_PRICED_OPTIONS, ...options };
    const { weights, indexBytes } = all;
    this.fetches = all.canFetch;
    this.#localPrefillBelowTokens = all.localPrefillBelowTokens;
    this.#caches = new FleetCaches({ maxBytes: indexBytes });
    const parts = { books: this.#books, caches: this.#caches, links: this.#links, traffic: this.#traffic };
    this.#pricer = new Pricer(parts, weights);
  }

  place(query: PlacementQuery, views: readonly WorkerView[]): PlacementDecision | null {
    this.#books.follow(views, query.nowMs, ({ id, kvTokensTotal }) => this.#caches.add(id, kvTokensTotal));
    if (this.#books.numDecoders === 0) return null;
    this.#caches.look(query);
    const pairs = this.#pairs(query);
    this.#book(query, pairs[0]!);
    const candidates = pairs.map((pair) => this.#candidate(query, pair));
    const { prefillWorker, decodeWorker, fetch } = candidates[0]!;
    const decision = { prefillWorker, decodeWorker, reason: "cheapest", candidates } as const;
    return fetch === null ? decision : { ...decision, fetch };
  }

  /** The cheapest of the pairs that can win, cheapest first; of equals those that were priced first. */
  #pairs(query: PlacementQuery): PricedPair[] {
    const books = this.#books;
    const warm = this.#warmest(query);
    const decoders = new Set([...books.emptyDecoders(MAX_FREE), ...books.freeDecoders(MAX_FREE)]);
    const prefillers = new Set(books.freePrefillers(MAX_FREE));
    for (const book of warm) (book.view!.role === "prefill" ? prefillers : decoders).add(book);
    if (query.numPromptTokens < this.#localPrefillBelowTokens) prefillers.clear();
    const decodes = [...decoders].map((book) => this.#pricer.decode(query, book));
    const options: Option[] = [];
    for (const book of prefillers) {
      const links = decodes.map((decode) => this.#links.msPerByte(book.id, decode.book.id, query.nowMs));
      options.push({ prefills: this.#prefills(query, book, warm), decodes, links });
    }
    const leastElsewhereMs = leastWorkMs(options);
    for (const decode of decodes) {
      const all = this.#prefills(query, decode.book, warm);
      const isFull = decode.roomMs > 0 && decode.book.view!.role === "decode";
      const prefills = isFull ? all.filter((one) => workMs(one) < FULL_WORKER_SHARE * leastElsewhereMs) : all;
      options.push({ prefills, decodes: [decode], links: [0] });
    }
    const withinMs = firstTokenWithinMs(query, options);
    const best: PricedPair[] = [];
    for (const { prefills, decodes: ends, links } of options)
      for (const prefill of prefills)
        for (let i = 0; i < ends.length; i++)
          this.#price(query, prefill, ends[i]!, links[i]!, withinMs, best);
    return best;
  }

  /** Prices a pair, and puts it among the best so far if it belongs there. */
  #price(
    query: PlacementQuery,
    prefill: PrefillOption,
    decode: DecodeOption,
    linkMsPerByte: number,
    withinMs: number,
    best: PricedPair[],
  ): void {
    const cost = this.#pricer.cost(query, prefill, decode, linkMsPerByte, withinMs);
    if (best.length === MAX_CANDIDATES && !(cost < best[MAX_CANDIDATES - 1]!.cost)) return;
    let at = best.length;
    while (at > 0 && cost < best[at - 1]!.cost) at--;
    if (best.length === MAX_CANDIDATES) best.pop();
    best.splice(at, 0, { prefill, decode, linkMsPerByte, withinMs, cost });
  }

  #prefills(query: PlacementQuery, book: WorkerBook, warm: readonly WorkerBook[]) {
    const options = [this.#pricer.prefill(query, book, null)];
    if (!this.fetches) return options;
    const own = this.#caches.cachedTokens(book.cacheNumber);
    for (const holder of warm) {
      if (holder === book || this.#caches.confirmedTokens(holder.cacheNumber) <= own) continue;
      options.push(this.#pricer.prefill(query, book, holder));
    }
    return options;
  }

  /** Workers that have some of the prompt, those first that would have computed the rest first. */
  #warmest({ numPromptTokens, nowMs }: PlacementQuery): WorkerBook[] {
    const { workers, numWorkers } = this.#caches.overlaps;
    const best: Array<{ book: WorkerBook; score: number }> = [];
    for (let i = 0; i < numWorkers; i++) {
      const book = this.#books.byCacheNumber(workers[i]!);
      if (book === null) continue;
      const missing = numPromptTokens - this.#caches.cachedTokens(book.cacheNumber);
      const score = Math.max(nowMs, book.freeMs) + missing * book.tokenMs;
      if (best.length === MAX_WARM && score >= best[MAX_WARM - 1]!.score) continue;
      let at = best.length;
      while (at > 0 && best[at - 1]!.score > score) at--;
      best.splice(at, 0, { book, score });
      if (best.length > MAX_WARM) best.pop();
    }
    return best.map(({ book }) => book);
  }

  /** Prices a pair once more, for the terms. */
  #candidate(
    query: PlacementQuery,
    { prefill, decode, linkMsPerByte, withinMs, cost }: PricedPair,
  ): PlacementCandidate {
    const { terms } = this.#pricer;
    this.#pricer.cost(query, prefill, decode, linkMsPerByte, withinMs);
    return {
      prefillWorker: prefill.book.id,
      decodeWorker: decode.book.id,
      fetch: prefill.fetch,
      // Written out: objects of one shape are made several times as fast as from a list of names, and this makes eight for each request.
      terms: {
        queue: terms[0]!,
        room: terms[1]!,
        move: terms[2]!,
        prefill: terms[3]!,
        handoff: terms[4]!,
        decode: terms[5]!,
        disturbance: terms[6]!,
        later: terms[7]!,
        impatience: terms[8]!,
        late: terms[9]!,
      } satisfies Record<(typeof TERMS)[number], number>,
      cost,
    };
  }

  #book(query: PlacementQuery, { prefill, decode }: PricedPair): void {
    const { requestId, nowMs, priority, maxOutputTokens } = query;
    const placed = {
      prefillWorker: prefill.book,
      decodeWorker: decode.book,
      prefill: { baseMs: prefill.baseMs, priority },
      kvTokens: query.numPromptTokens,
      maxOutputTokens,
      prefilledAtMs: null,
    };
    this.#books.place(requestId, placed, nowMs);
    this.#caches.placed(query, prefill.book.id, decode.book.id);
    this.#traffic.arrived(prefill.prefillMs, nowMs);
  }

  observe(event: FleetEvent, nowMs: number): void {
    switch (event.kind) {
      case "ready": {
        const { worker } = event;
        this.#books.add(worker, this.#caches.add(worker.id, worker.kvTokensTotal));
        return;
      }
      case "gone":
        this.#books.remove(event.worker);
        this.#caches.remove(event.worker);
        this.#links.forget(event.worker);
        return;
      case "kv":
        this.#caches.apply(event.worker, event.batch);
        return;
      case "steps":
        this.#books.observeSteps(event.worker, event.steps, nowMs);
        return;
      case "transfer": {
        const { from, to, bytes, ms } = event;
        // It may be told after one of them has gone: nobody would forget that one again.
        if (this.#books.has(from) && this.#books.has(to)) this.#links.observe(from, to, bytes, ms, nowMs);
        return;
      }
      case "prefilled":
        this.#books.prefilled(event.requestId, nowMs);
        this.#caches.prefilled(event.requestId);
        return;
      case "over":
        this.#over(event.requestId, nowMs);
    }
  }

  #over(requestId: string, nowMs: number): void {
    const placed = this.#books.over(requestId, nowMs);
    this.#caches.over(requestId);
    if (placed === null || placed.prefilledAtMs === null) return;
    const { view, facts, prices } = placed.decodeWorker;
    if (view === null) return;
    // Nobody says how long an output was; it took so many steps of about this length. Waiting for the handoff is in it: hence the bound.
    const numRunning = Math.min(view.numDecodes + 1, facts.maxRunning);
    const stepMs = prices.decodeFactor(nowMs) * prices.baseMs(0, 0, numRunning, placedTokens(view));
    if (stepMs > 0)
      this.#traffic.ended(Math.min(placed.maxOutputTokens, (nowMs - placed.prefilledAtMs) / stepMs));
  }

  /** Throws unless the books agree with themselves. */
  checkInvariants(): void {
    this.#books.checkInvariants();
    this.#caches.checkInvariants((id) => this.#books.hasRequest(id));
    this.#links.checkInvariants((id) => this.#books.has(id));
  }
}

/**
 * How long a first token may take before it is late. Infinite when nobody has said, and when no option can do it: a request that is late
 * anyhow must not take from others what does not help it.
 */
function firstTokenWithinMs(
  { nowMs, firstTokenDeadlineMs }: PlacementQuery,
  options: readonly Option[],
): number {
  if (firstTokenDeadlineMs === null) return Number.POSITIVE_INFINITY;
  const withinMs = firstTokenDeadlineMs - nowMs;
  for (const { prefills, decodes } of options)
    for (const prefill of prefills)
      for (const decode of decodes) if (firstTokenMsOf(prefill, decode) <= withinMs) return withinMs;
  return Number.POSITIVE_INFINITY;
}

/** Of one option and of the best of many; infinite when there are none. */
function workMs({ moveMs, prefillMs }: PrefillOption): number {
  return moveMs + prefillMs;
}

function leastWorkMs(options: readonly Option[]): number {
  let least = Number.POSITIVE_INFINITY;
  for (const { prefills } of options) for (const one of prefills) least = Math.min(least, workMs(one));
  return least;
}
