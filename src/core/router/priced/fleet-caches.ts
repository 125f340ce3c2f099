import type { KvEventBatch } from "../../kv/kv-events.ts";
import type { RequestId, WorkerId } from "../../request.ts";
import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { assert } from "../../util/assert.ts";
import { Overlaps } from "../index/overlaps.ts";
import { MAX_INDEX_WORKERS, PrefixIndex } from "../index/prefix-index.ts";
import type { PlacementQuery } from "../placement.ts";
import { blockTokensOf } from "../policies/known-caches.ts";
import { AssumedCache } from "./assumed-cache.ts";

/** What a worker lacks of a prompt is not worth predicting below this share of it. */
const LEAST_PREDICTED_SHARE = 1 / 16;

/**
 * Most blocks on their way to a decode worker that are predicted of it. They make a further handoff shorter and no prompt cheaper, so that
 * long ones are not worth noting twice: events tell of them soon.
 */
const MAX_TRANSFER_BLOCKS = 1024;

interface CachedWorker {
  readonly number: number;
  readonly kvTokens: number;
  /** Whether it has ever said what it has; until then its cache is assumed. */
  isTold: boolean;
  assumed: AssumedCache | null;
  numAssumedBatches: number;
}

/** A prompt under way to workers of which some say nothing. */
interface Underway {
  readonly hashes: Int32Array;
  readonly blockTokens: number;
  readonly prefillWorker: WorkerId;
  readonly decodeWorker: WorkerId;
  /** Whether its first token has come. Before that nothing is handed over to the decode worker in full. */
  isPrefilled: boolean;
}

/**
 * What is in the fleet's caches: by the workers' events, by predictions while a prompt is under way, and for workers that say nothing by
 * assumption.
 */
export class FleetCaches {
  readonly #index: PrefixIndex;
  readonly #workers = new Map<WorkerId, CachedWorker>();
  /** By number in the index. */
  readonly #byNumber: Array<CachedWorker | undefined> = [];
  readonly #underway = new Map<RequestId, Underway>();
  /** What each worker has of the latest prompt asked about, by its number in the index. */
  readonly overlaps = new Overlaps();
  blockTokens = 0;

  constructor(options: { maxBytes: number }) {
    this.#index = new PrefixIndex(options);
  }

  /** Its number in the index; -1 when the index has as many workers as it can. */
  add(id: WorkerId, kvTokens: number): number {
    if (this.#workers.size >= MAX_INDEX_WORKERS) return -1;
    const number = this.#index.addWorker(id);
    const worker = { number, kvTokens, isTold: false, assumed: null, numAssumedBatches: 0 };
    this.#workers.set(id, worker);
    this.#byNumber[number] = worker;
    return number;
  }

  remove(id: WorkerId): void {
    const worker = this.#workers.get(id);
    if (worker === undefined) return;
    this.#index.removeWorker(id);
    this.#workers.delete(id);
    this.#byNumber[worker.number] = undefined;
  }

  /** A worker says what has changed. Whatever was assumed of it is forgotten. */
  apply(id: WorkerId, batch: KvEventBatch): void {
    const worker = this.#workers.get(id);
    if (worker !== undefined && !worker.isTold) {
      worker.isTold = true;
      worker.assumed = null;
      if (worker.numAssumedBatches > 0) this.#index.apply(id, NOTHING_YET);
    }
    this.#index.apply(id, batch);
  }

  /** Fills {@link overlaps}. */
  look(query: PlacementQuery): void {
    const { promptBlockHashes: hashes, nowMs } = query;
    this.blockTokens = blockTokensOf(query);
    this.#index.expire(nowMs);
    this.#index.lookup(hashes ?? NO_HASHES, (hashes?.length ?? 0) / HASH_WORDS, this.overlaps);
  }

  /** Whether a worker has most of a prompt of so many tokens, or is about to. */
  holds(number: number, numPromptTokens: number): boolean {
    return 2 * this.cachedTokens(number) >= numPromptTokens;
  }

  /** How many workers do. */
  numHolders(numPromptTokens: number): number {
    const { workers, numWorkers } = this.overlaps;
    let count = 0;
    for (let i = 0; i < numWorkers; i++) if (this.holds(workers[i]!, numPromptTokens)) count++;
    return count;
  }

  /** Leading tokens of the prompt that a worker has in any tier, or is about to have. */
  cachedTokens(number: number): number {
    return number === -1 ? 0 : (this.overlaps.disk[number] ?? 0) * this.blockTokens;
  }

  deviceTokens(number: number): number {
    return number === -1 ? 0 : (this.overlaps.device[number] ?? 0) * this.blockTokens;
  }

  /** Of {@link cachedTokens}, those that are on no nearer tier than these. */
  lowerTokens(number: number): { host: number; disk: number } {
    if (number === -1) return { host: 0, disk: 0 };
    const { device, host, disk } = this.overlaps;
    const [near, lower, lowest] = [device[number] ?? 0, host[number] ?? 0, disk[number] ?? 0];
    return { host: (lower - near) * this.blockTokens, disk: (lowest - lower) * this.blockTokens };
  }

  /** What the worker surely has, in any tier, where others can fetch it: by what it says itself. */
  confirmedTokens(number: number): number {
    return this.#byNumber[number]?.isTold !== true
      ? 0
      : (this.overlaps.confirmed[number] ?? 0) * this.blockTokens;
  }

  /** The prompt that was asked about goes to these workers. */
  placed(query: PlacementQuery, prefillWorker: WorkerId, decodeWorker: WorkerId): void {
    const { requestId, promptBlockHashes: hashes, nowMs } = query;
    this.over(requestId);
    if (hashes === null || hashes.length === 0) return;
    this.#predict(prefillWorker, hashes, "predicted", `p${requestId}`, nowMs);
    if (decodeWorker !== prefillWorker)
      this.#predict(decodeWorker, hashes, "in-transfer", `d${requestId}`, nowMs);
    if (this.#workers.get(prefillWorker)?.isTold && this.#workers.get(decodeWorker)?.isTold) return;
    this.#underway.set(requestId, {
      hashes: hashes.slice(),
      blockTokens: this.blockTokens,
      prefillWorker,
      decodeWorker,
      isPrefilled: false,
    });
  }

  #predict(
    id: WorkerId,
    hashes: Int32Array,
    kind: "predicted" | "in-transfer",
    tag: string,
    nowMs: number,
  ): void {
    const worker = this.#workers.get(id);
    if (worker === undefined) return;
    const numBlocks = hashes.length / HASH_WORDS;
    const missing = numBlocks - (this.overlaps.device[worker.number] ?? 0);
    if (missing <= LEAST_PREDICTED_SHARE * numBlocks) return;
    if (kind === "predicted" || numBlocks <= MAX_TRANSFER_BLOCKS)
      this.#index.predict(id, hashes, numBlocks, kind, tag, nowMs);
  }

  /** Its first token has come: the prefill worker has computed all of it. */
  prefilled(requestId: RequestId): void {
    this.#index.settle(`p${requestId}`);
    const underway = this.#underway.get(requestId);
    if (underway === undefined) return;
    underway.isPrefilled = true;
    this.#assume(underway.prefillWorker, underway);
  }

  over(requestId: RequestId): void {
    this.#index.settle(`p${requestId}`);
    this.#index.settle(`d${requestId}`);
    const underway = this.#underway.get(requestId);
    if (underway === undefined) return;
    this.#underway.delete(requestId);
    if (underway.isPrefilled && underway.decodeWorker !== underway.prefillWorker)
      this.#assume(underway.decodeWorker, underway);
  }

  #assume(id: WorkerId, { hashes, blockTokens }: Underway): void {
    const worker = this.#workers.get(id);
    if (worker === undefined || worker.isTold) return;
    worker.assumed ??= new AssumedCache(worker.kvTokens / Math.max(1, blockTokens));
    const events = worker.assumed.store(hashes);
    this.#index.apply(id, { sequence: ++worker.numAssumedBatches, isSnapshot: false, events });
  }

  /** Throws unless what is kept of requests is of requests that are not over, and the index is sound. */
  checkInvariants(isUnderway: (id: RequestId) => boolean): void {
    for (const id of this.#underway.keys()) assert(isUnderway(id), `${id} is over and kept`);
    this.#index.checkInvariants();
  }
}

const NO_HASHES = new Int32Array(0);
/** What a worker that begins to say what it has is known to have. */
const NOTHING_YET: KvEventBatch = { sequence: 0, isSnapshot: true, events: [] };
