import { readFileSync } from "node:fs";
import type { KvEvent } from "../../src/core/kv/kv-events.ts";
import { HASH_WORDS } from "../../src/core/tokens/block-hash.ts";
import { promptBlockHashes } from "../../src/twin/workload/block-identity.ts";

/** Tokens of a block in the trace, and in the index. */
const TRACE_BLOCK_TOKENS = 512;
const BLOCK_TOKENS = 16;
const BLOCKS_PER_ID = TRACE_BLOCK_TOKENS / BLOCK_TOKENS;

/** One request: where it is served, and what the caches of that worker do about it. */
export interface StreamedRequest {
  readonly hashes: Int32Array;
  readonly numBlocks: number;
  readonly worker: number;
  readonly events: readonly KvEvent[];
}

export interface TraceRow {
  readonly ids: readonly number[];
  readonly inputTokens: number;
}

export type Routing = "affinity" | "round-robin";

/** Reads a Mooncake trace. */
export function readTrace(path: string): TraceRow[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const row = JSON.parse(line) as { hash_ids: number[]; input_length: number };
      return { ids: row.hash_ids, inputTokens: row.input_length };
    });
}

/**
 * A trace as a fleet sees it: each request goes to one worker, and that worker's cache of bounded size stores its blocks and drops the
 * least recently used ones, ends first. The trace repeats without end, each time with hashes of its own, as another tenant would have.
 */
export class KvEventStream {
  readonly #rows: readonly TraceRow[];
  readonly #routing: Routing;
  readonly #capacityBlocks: number;
  readonly #numIds: number;
  /** Per worker, blocks by number, least recently used first. */
  readonly #caches: Array<Set<number>>;
  /** Hash of every block by number. Grows by whole repetitions. */
  readonly #hashes: Int32Array[] = [];
  /** Worker that had a trace block last. */
  readonly #homes = new Map<number, number>();
  readonly #scratch: Int32Array;
  #next = 0;

  constructor(options: {
    rows: readonly TraceRow[];
    routing: Routing;
    numWorkers: number;
    capacityBlocks: number;
  }) {
    this.#rows = options.rows;
    this.#routing = options.routing;
    this.#capacityBlocks = options.capacityBlocks;
    this.#caches = Array.from({ length: options.numWorkers }, () => new Set());
    this.#numIds = 1 + options.rows.reduce((most, { ids }) => Math.max(most, ...ids), 0);
    const longest = options.rows.reduce((most, { inputTokens }) => Math.max(most, inputTokens), 0);
    this.#scratch = new Int32Array(Math.ceil(longest / BLOCK_TOKENS) * HASH_WORDS);
  }

  next(): StreamedRequest {
    const repetition = Math.floor(this.#next / this.#rows.length);
    const { ids, inputTokens } = this.#rows[this.#next % this.#rows.length]!;
    const blocks = { ids, blockTokens: TRACE_BLOCK_TOKENS, scope: `${repetition}` };
    const numBlocks = promptBlockHashes(blocks, inputTokens, BLOCK_TOKENS, this.#scratch);
    const hashes = this.#scratch.slice(0, numBlocks * HASH_WORDS);
    const first = repetition * this.#numIds;
    const worker = this.#route(ids, first);
    this.#next++;
    if (this.#hashes.length === repetition)
      this.#hashes.push(new Int32Array(this.#numIds * BLOCKS_PER_ID * HASH_WORDS));
    return { hashes, numBlocks, worker, events: this.#serve(worker, ids, repetition, hashes) };
  }

  /** Affinity: to the worker that had the request's longest known prefix, if that is half of it at least; the next in turn otherwise. */
  #route(ids: readonly number[], first: number): number {
    let worker = this.#next % this.#caches.length;
    if (this.#routing === "affinity") {
      let known = ids.length - 1;
      while (known >= 0 && !this.#homes.has(first + ids[known]!)) known--;
      if (known + 1 >= ids.length / 2) worker = this.#homes.get(first + ids[known]!) ?? worker;
    }
    for (const id of ids) this.#homes.set(first + id, worker);
    return worker;
  }

  #serve(worker: number, ids: readonly number[], repetition: number, hashes: Int32Array): KvEvent[] {
    const cache = this.#caches[worker]!;
    const known = this.#hashes[repetition]!;
    const numBlocks = hashes.length / HASH_WORDS;
    const base = repetition * this.#numIds * BLOCKS_PER_ID;
    const numberOf = (block: number): number =>
      ids[Math.floor(block / BLOCKS_PER_ID)]! * BLOCKS_PER_ID + (block % BLOCKS_PER_ID);
    let numCached = 0;
    while (numCached < numBlocks && cache.has(base + numberOf(numCached))) numCached++;
    for (let block = numBlocks - 1; block >= 0; block--) {
      const number = numberOf(block);
      known.set(hashes.subarray(block * HASH_WORDS, (block + 1) * HASH_WORDS), number * HASH_WORDS);
      cache.delete(base + number);
      cache.add(base + number);
    }
    const events: KvEvent[] = [];
    if (numCached < numBlocks) {
      const parent =
        numCached === 0 ? null : hashes.slice((numCached - 1) * HASH_WORDS, numCached * HASH_WORDS);
      events.push({ kind: "stored", tier: "device", parent, hashes: hashes.slice(numCached * HASH_WORDS) });
    }
    const excess = cache.size - this.#capacityBlocks;
    if (excess > 0)
      events.unshift({ kind: "removed", tier: "device", hashes: this.#dropOldest(cache, excess) });
    return events;
  }

  #dropOldest(cache: Set<number>, count: number): Int32Array {
    const removed = new Int32Array(count * HASH_WORDS);
    const perRepetition = this.#numIds * BLOCKS_PER_ID;
    let at = 0;
    for (const number of cache) {
      if (at === removed.length) break;
      cache.delete(number);
      const from = (number % perRepetition) * HASH_WORDS;
      removed.set(this.#hashes[Math.floor(number / perRepetition)]!.subarray(from, from + HASH_WORDS), at);
      at += HASH_WORDS;
    }
    return removed;
  }
}
