import { MAX_FETCH_BLOCKS } from "../../kv/tiers/onboarder.ts";
import { handoffBytes } from "../../perf/handoff-bytes.ts";
import type { PlacementQuery, PrefixFetch, WorkerFacts, WorkerView } from "../placement.ts";
import type { FleetBooks } from "./fleet-books.ts";
import type { FleetCaches } from "./fleet-caches.ts";
import type { LinkPrices } from "./link-prices.ts";
import type { Traffic } from "./traffic.ts";
import type { WorkerBook } from "./worker-book.ts";

/** What the seconds of each kind weigh against those until the first token. */
export interface PriceWeights {
  /** Of the request's own decoding. */
  readonly decode: number;
  /** By which requests that decode already are held up. */
  readonly disturbance: number;
  /** By which requests that come later are held up. */
  readonly later: number;
  /** Of long waits for the first token, beyond what they count anyway: see {@link PATIENCE_MS}. */
  readonly impatience: number;
  /** Beyond the deadline of the first token. */
  readonly late: number;
}

/** Decodes that a long prompt is taken to hold up on an idle decode worker: those of requests that have not come yet. */
const EXPECTED_DECODES = 0.1;

/**
 * Of the requests that are announced to begin with the same prompt, the most that count when one of them is placed: a client that promises
 * thousands must not have every worker compute its prompt.
 */
export const MAX_ASSUMED_FAN_OUT = 32;

/** From memory of the machine, and from its disk, into the accelerator: half of PCIe 5.0 x16, and a fast NVMe drive. */
const HOST_BYTES_PER_MS = 32e6;
const DISK_BYTES_PER_MS = 5e6;

/**
 * A wait of so long for the first token counts half as much again, one of twice as long twice as much: so that few wait very long for the
 * good of many.
 */
const PATIENCE_MS = 4000;

/** Messages of a handoff, and the rest of the decode worker's step after which it takes part. */
const HANDOFF_MS = 5;

/** Terms of a price, in this order. */
export const TERMS = [
  "queue",
  "room",
  "move",
  "prefill",
  "handoff",
  "decode",
  "disturbance",
  "later",
  "impatience",
  "late",
] as const;

/** One way to prefill a prompt, in milliseconds. */
export interface PrefillOption {
  readonly book: WorkerBook;
  readonly fetch: PrefixFetch | null;
  readonly queueMs: number;
  /** Until cached blocks are where they are needed. */
  readonly moveMs: number;
  /** Of prefill, before the worker's factor and with it. */
  readonly baseMs: number;
  readonly prefillMs: number;
  readonly numSteps: number;
  /** What is pushed after the last step is not hidden behind another one. */
  readonly lastStepTokens: number;
  readonly laterMs: number;
}

/** One worker to decode on, in milliseconds. */
export interface DecodeOption {
  readonly book: WorkerBook;
  /** Tokens of the prompt that need not be handed over. */
  readonly cachedTokens: number;
  readonly roomMs: number;
  readonly decodeMs: number;
  /** Requests that decode there in each step, and what a step takes without the new one. */
  readonly numRunning: number;
  readonly stepMs: number;
  readonly disturbanceMs: number;
}

/** One way to serve a request. */
export interface PricedPair {
  readonly prefill: PrefillOption;
  readonly decode: DecodeOption;
  /** Of the link between the two workers, 0 when they are one. */
  readonly linkMsPerByte: number;
  /** The first token is late after that; infinite when it is never. */
  readonly withinMs: number;
  /** Seconds. */
  readonly cost: number;
}

/** Prices the halves of a placement and their pairs. Formulas are in docs/routing.md. */
export class Pricer {
  readonly #parts: { books: FleetBooks; caches: FleetCaches; links: LinkPrices; traffic: Traffic };
  readonly #weights: PriceWeights;
  /** Of the pair that was priced last, in the order of {@link TERMS}. */
  readonly terms = new Float64Array(TERMS.length);

  constructor(
    parts: { books: FleetBooks; caches: FleetCaches; links: LinkPrices; traffic: Traffic },
    weights: PriceWeights,
  ) {
    this.#parts = parts;
    this.#weights = weights;
  }

  /** Prefill with what the worker has cached, and with what it fetches from another one if `holder` is given. */
  prefill(query: PlacementQuery, book: WorkerBook, holder: WorkerBook | null): PrefillOption {
    const { nowMs, numPromptTokens } = query;
    const { caches, links } = this.#parts;
    const { facts, prices, cacheNumber } = book;
    const { running, contextTokens } = decodesOn(book);
    const ownTokens = caches.cachedTokens(cacheNumber);
    let fetch: PrefixFetch | null = null;
    let moveMs = this.#readMs(book, 0, numPromptTokens);
    if (holder !== null) {
      const mostTokens = ownTokens + MAX_FETCH_BLOCKS * caches.blockTokens;
      fetch = {
        from: holder.id,
        numTokens: Math.min(caches.confirmedTokens(holder.cacheNumber), mostTokens),
      };
      const bytes = (fetch.numTokens - ownTokens) * facts.kvBytesPerToken;
      moveMs += this.#readMs(holder, ownTokens, fetch.numTokens);
      moveMs += bytes * links.msPerByte(holder.id, book.id, nowMs);
    }
    // The last token is always computed: it draws the first of the output.
    const tokens = Math.max(1, numPromptTokens - (fetch?.numTokens ?? ownTokens));
    const start = numPromptTokens - tokens;
    const budget = Math.max(1, facts.tokenBudget - running);
    const numFull = Math.floor(tokens / budget);
    const rest = tokens - numFull * budget;
    let baseMs = 0;
    // A step takes longer by the context before it, in proportion, so that the one in the middle is the mean.
    if (numFull > 0)
      baseMs += numFull * prices.baseMs(start + ((numFull - 1) * budget) / 2, budget, running, contextTokens);
    if (rest > 0) baseMs += prices.baseMs(start + numFull * budget, rest, running, contextTokens);
    const prefillMs = baseMs * prices.prefillFactor(nowMs);
    const queueMs = book.queueMs(query.priority, nowMs);
    return {
      book,
      fetch,
      queueMs,
      moveMs,
      baseMs,
      prefillMs,
      numSteps: numFull + (rest > 0 ? 1 : 0),
      lastStepTokens: rest > 0 ? rest : budget,
      laterMs: this.#laterMs(book, prefillMs, queueMs, nowMs),
    };
  }

  /** Reads what a worker has of positions [start, end) in lower tiers. */
  #readMs({ cacheNumber, facts }: WorkerBook, start: number, end: number): number {
    const { caches } = this.#parts;
    const lower = caches.lowerTokens(cacheNumber);
    const hostStart = caches.deviceTokens(cacheNumber);
    const diskStart = hostStart + lower.host;
    const host = Math.max(0, Math.min(end, diskStart) - Math.max(start, hostStart));
    const disk = Math.max(0, Math.min(end, diskStart + lower.disk) - Math.max(start, diskStart));
    return facts.kvBytesPerToken * (host / HOST_BYTES_PER_MS + disk / DISK_BYTES_PER_MS);
  }

  /**
   * By how much requests that come later are held up, all together: those that come to this worker before it is free again wait as
   * much longer as this prompt takes, half of that if they come while it is computed. With load ρ that is after its backlog / (1 − ρ)
   * (busy period of an M/G/1 queue; Kleinrock, Queueing Systems, volume 1, section 5.8).
   */
  #laterMs(book: WorkerBook, prefillMs: number, queueMs: number, nowMs: number): number {
    const { books, traffic } = this.#parts;
    const numWorkers = book.view!.role === "prefill" ? books.numPrefillers : books.numDecoders;
    const load = traffic.load(numWorkers, nowMs);
    const arrivalsPerMs = traffic.arrivalsPerMs(nowMs) / Math.max(1, numWorkers);
    return (prefillMs * arrivalsPerMs * (queueMs + prefillMs / 2)) / (1 - load);
  }

  decode(query: PlacementQuery, book: WorkerBook): DecodeOption {
    const { nowMs, numPromptTokens } = query;
    const { facts, prices, cacheNumber } = book;
    const { caches, traffic } = this.#parts;
    const factor = prices.decodeFactor(nowMs);
    const outputTokens = traffic.outputTokens(query.maxOutputTokens);
    // A full batch takes a new request in when another one leaves.
    const numRunning = Math.min(numAdmitted(book), facts.maxRunning - 1);
    const contextTokens = admittedTokens(book);
    const stepMs = factor * prices.baseMs(0, 0, numRunning, contextTokens);
    const meanTokens = numPromptTokens + outputTokens / 2;
    const fullerMs = factor * prices.baseMs(0, 0, numRunning + 1, contextTokens + meanTokens);
    const decodeMs = outputTokens * fullerMs;
    return {
      book,
      cachedTokens: caches.deviceTokens(cacheNumber),
      roomMs: roomMs(book, numPromptTokens + outputTokens, decodeMs, nowMs),
      decodeMs,
      numRunning,
      stepMs,
      disturbanceMs:
        numRunning * outputTokens * Math.max(0, fullerMs - stepMs) +
        outputTokens * this.#crowdMs(query, book, numRunning, fullerMs),
    };
  }

  /**
   * By how much a step takes longer for all the requests that are announced to begin with this prompt, if they come to those who have it
   * then, this worker among them, in equal parts, than with this one alone. Whoever computes it once more does it for all of them, so it is the sum over them.
   */
  #crowdMs(query: PlacementQuery, book: WorkerBook, numRunning: number, aloneMs: number): number {
    const { caches } = this.#parts;
    const { numPromptTokens, nowMs, expectedFanOut = 1 } = query;
    const numOthers = Math.min(expectedFanOut, MAX_ASSUMED_FAN_OUT) - 1;
    if (numOthers <= 0) return 0;
    const { facts, prices, cacheNumber } = book;
    const isNew = !caches.holds(cacheNumber, numPromptTokens);
    const here = Math.ceil(numOthers / (caches.numHolders(numPromptTokens) + (isNew ? 1 : 0)));
    const numTogether = Math.min(facts.maxRunning, numRunning + here);
    const contextTokens = admittedTokens(book) + (numTogether - numRunning) * numPromptTokens;
    const crowdedMs = prices.decodeFactor(nowMs) * prices.baseMs(0, 0, numTogether, contextTokens);
    return numOthers * Math.max(0, crowdedMs - aloneMs);
  }

  /**
   * Seconds of a pair, all in all; its terms are in {@link terms} afterwards. Hundreds of pairs are priced for a decision and few are kept,
   * so none of them is made an object here.
   *
   * @param linkMsPerByte as in {@link PricedPair}
   * @param firstTokenWithinMs what is later is `late`; infinite when nothing is
   */
  cost(
    query: PlacementQuery,
    prefill: PrefillOption,
    decode: DecodeOption,
    linkMsPerByte: number,
    firstTokenWithinMs: number,
  ): number {
    const weights = this.#weights;
    const { terms } = this;
    const isLocal = prefill.book === decode.book;
    const { queueMs, prefillMs, numSteps } = prefill;
    const waitMs = Math.max(queueMs, decode.roomMs);
    const moveMs = Math.max(0, prefill.moveMs - waitMs);
    // Decodes wait for steps with a prompt in them, less what these steps would have taken without it.
    const stallMs = isLocal ? stalled(decode) * Math.max(0, prefillMs - numSteps * decode.stepMs) : 0;
    const firstTokenMs = firstTokenMsOf(prefill, decode);
    const lateMs = Math.max(0, firstTokenMs - firstTokenWithinMs);
    terms[0] = queueMs / 1000;
    terms[1] = (waitMs - queueMs) / 1000;
    terms[2] = moveMs / 1000;
    terms[3] = prefillMs / 1000;
    terms[4] = isLocal ? 0 : handoffMs(query, prefill, decode, linkMsPerByte) / 1000;
    terms[5] = (weights.decode * decode.decodeMs) / 1000;
    terms[6] = (weights.disturbance * (decode.disturbanceMs + stallMs)) / 1000;
    terms[7] = (weights.later * prefill.laterMs) / 1000;
    terms[8] = (weights.impatience * firstTokenMs * (firstTokenMs / (2 * PATIENCE_MS))) / 1000;
    terms[9] = (weights.late * lateMs) / 1000;
    let cost = 0;
    for (let i = 0; i < terms.length; i++) cost += terms[i]!;
    return cost;
  }
}

/** A prompt waits for the worker, for room and for blocks to be moved at the same time. */
export function firstTokenMsOf(prefill: PrefillOption, decode: DecodeOption): number {
  const waitMs = Math.max(prefill.queueMs, decode.roomMs);
  return waitMs + Math.max(0, prefill.moveMs - waitMs) + prefill.prefillMs;
}

/** From the first token until the decode worker has everything. Chunks move while the next ones are computed. */
function handoffMs(
  { numPromptTokens }: PlacementQuery,
  prefill: PrefillOption,
  decode: DecodeOption,
  linkMsPerByte: number,
): number {
  const { facts } = prefill.book;
  const allMs =
    linkMsPerByte * bytesFrom(facts, Math.min(decode.cachedTokens, numPromptTokens - 1), numPromptTokens);
  const lastMs = linkMsPerByte * bytesFrom(facts, numPromptTokens - prefill.lastStepTokens, numPromptTokens);
  return HANDOFF_MS + Math.max(Math.min(allMs, lastMs), allMs - prefill.prefillMs);
}

/** Of a prompt's tokens from `start` on. */
function bytesFrom({ perf, kvBytesPerToken }: WorkerFacts, start: number, numPromptTokens: number): number {
  if (perf === null) return (numPromptTokens - start) * kvBytesPerToken;
  return handoffBytes(perf, start, numPromptTokens, numPromptTokens);
}

/** KV tokens of the requests placed on a worker for decoding. */
export function placedTokens(view: WorkerView): number {
  return Math.max(0, view.kvTokensTotal - view.freeKvTokens);
}

/**
 * How many decodes a prompt holds up on the worker that decodes it. Not none where workers that only prefill are there to keep prompts
 * away: somebody may come while it is computed, and a fleet that stands idle should not begin by giving up what it is split for.
 */
function stalled({ book, numRunning }: DecodeOption): number {
  return book.view!.role === "decode" ? Math.max(EXPECTED_DECODES, numRunning) : numRunning;
}

/** What decodes beside a prompt on a worker. */
function decodesOn(book: WorkerBook): { running: number; contextTokens: number } {
  if (book.view!.role === "prefill") return { running: 0, contextTokens: 0 };
  return { running: Math.min(numAdmitted(book), book.facts.maxRunning), contextTokens: admittedTokens(book) };
}

/** Requests placed on a worker for decoding that it has room for, and their KV tokens. */
function numAdmitted({ view, room }: WorkerBook): number {
  return Math.max(0, view!.numDecodes - room.size);
}

function admittedTokens({ view, room }: WorkerBook): number {
  return Math.max(0, placedTokens(view!) - room.numTokens);
}

/**
 * How long a request of so many tokens waits for KV and for a place in a worker's steps, behind those that wait already, when each of the
 * worker's requests takes about `decodeMs` and they end one after the other at even intervals.
 */
function roomMs(book: WorkerBook, tokens: number, decodeMs: number, nowMs: number): number {
  const { kvTokensTotal, numDecodes } = book.view!;
  const missing = placedTokens(book.view!) + tokens - kvTokensTotal;
  const count = numAdmitted(book);
  const admitted = admittedTokens(book);
  const numEnds = missing > 0 && admitted > 0 ? Math.ceil((missing * count) / admitted) : 0;
  const kvMs = count === 0 ? 0 : (decodeMs * numEnds) / count;
  const { maxRunning } = book.facts;
  const placesMs = (decodeMs * Math.max(0, numDecodes + 1 - maxRunning)) / maxRunning;
  const endsMs = Math.min(decodeMs, Math.max(kvMs, placesMs));
  return endsMs === 0 ? 0 : endsMs + book.queueMs(0, nowMs) + book.waitingMs(nowMs);
}
