import type { KvEvent, KvEventBatch } from "../../kv/kv-events.ts";
import type { WorkerId } from "../../request.ts";
import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { assert } from "../../util/assert.ts";
import { leadingRun, lowBits } from "./bits.ts";
import { HOLDER_WORDS, NONE, PAGE_BLOCKS, pageOf, slotOf } from "./block-pages.ts";
import { BlockStore } from "./block-store.ts";
import type { Overlaps } from "./overlaps.ts";
import { HELD } from "./page-holders.ts";
import { type Prediction, Predictions } from "./predictions.ts";

/** Below this an index would do nothing but evict. */
export const MIN_INDEX_BYTES = 512 * 1024;
/** Workers at a time. */
export const MAX_INDEX_WORKERS = 4096;
/** A prediction that no event has confirmed for so long is forgotten: the prompt has been computed, or its request is lost. */
export const PREDICTION_TTL_MS = 120_000;
/** Predictions open at a time; the oldest is forgotten for a further one. */
export const MAX_PREDICTIONS = 65_536;
/** The part of the ceiling that the predictions' own records may take: one in so many bytes. */
const PREDICTION_SHARE = 4;

/** A look-up reads the beginnings of so many pages before it needs them. */
const MAX_PAGES_AHEAD = 16;

const TIERS: readonly number[] = [HELD.device, HELD.host, HELD.disk];
const ALL_WAYS: readonly number[] = [...TIERS, HELD.predicted, HELD.inTransfer];

/** What the index has and has dropped, since it was made. */
export interface PrefixIndexStats {
  /** Distinct blocks. */
  readonly numBlocks: number;
  /** (Block, worker) pairs. */
  readonly numEntries: number;
  /** Typed arrays in use, and the most that ever were. Never more than the ceiling. */
  readonly bytes: number;
  readonly peakBytes: number;
  readonly numPredictions: number;
  /** Batches of workers that are not in the index: unknown ones and former epochs of known ones. */
  readonly numUnknownWorkerBatches: number;
  readonly numGaps: number;
  /** Batches that had been applied before. */
  readonly numRepeatedBatches: number;
  /** Removals of blocks that were not known to be there, evicted ones among them. */
  readonly numVainRemovals: number;
  readonly numEvictedBlocks: number;
  readonly numEvictedEntries: number;
  /** Blocks that could not be noted at all. */
  readonly numRefusedBlocks: number;
  readonly numExpiredPredictions: number;
  /** Predictions forgotten early because of {@link MAX_PREDICTIONS} or their share of the memory. */
  readonly numDroppedPredictions: number;
}

interface IndexedWorker {
  readonly number: number;
  /** Of the latest batch that has been applied. */
  sequence: number;
}

/**
 * Which worker has which block in which tier, and how that is known: from the worker's events, or from our own placements before the
 * events come.
 *
 * It says of a worker exactly what its events say, blocks missing in the middle of a chain included, unless the ceiling has made it
 * forget something: then it says less, never more. A block's hash stands for everything up to its end, tenant and model included, so
 * a tenant cannot meet another one's blocks. A look-up compares all 128 bits of
 * the first and of the last block that it finds in each page; what is between them in the chain is then equal too.
 *
 * Blocks are integers: a page and a slot in it. Memory, all in typed arrays: a page of 32 blocks takes 576 bytes with its only holder;
 * several holders are a group of 24 to 48 bytes each; a block's place in the hash table takes 6 to 13 bytes. That makes 24 to 31 bytes per block of
 * full pages that one worker has, and 20 to 27 bytes per (block, worker) entry on a trace (`npm run bench:index`, which measures it: the
 * arrays' own objects add 1 %).
 *
 * Cost: a look-up is one search per page and two comparisons in it, and a step for every worker with part of the page; an event is one
 * search per block. {@link removeWorker}, a snapshot and `cleared` look at every page, besides what they remove.
 */
export class PrefixIndex {
  readonly #store: BlockStore;
  readonly #predictions: Predictions;
  readonly #workers = new Map<WorkerId, IndexedWorker>();
  readonly #freeNumbers: number[] = [];
  #numNumbers = 0;
  #numUnknownWorkerBatches = 0;
  #numGaps = 0;
  #numRepeatedBatches = 0;
  #numVainRemovals = 0;
  #numExpiredPredictions = 0;
  #numDroppedPredictions = 0;

  /** `maxBytes`: what its typed arrays may take in all, at least {@link MIN_INDEX_BYTES}. */
  constructor(options: { maxBytes: number }) {
    assert(options.maxBytes >= MIN_INDEX_BYTES, `a prefix index needs ${MIN_INDEX_BYTES} bytes at least`);
    this.#store = new BlockStore(options.maxBytes);
    this.#predictions = new Predictions(this.#store.budget);
  }

  /** Dense number of a new worker, small: that of a worker that has gone is given again. */
  addWorker(id: WorkerId): number {
    assert(!this.#workers.has(id), "a worker is added to the index twice");
    assert(this.#workers.size < MAX_INDEX_WORKERS, `more than ${MAX_INDEX_WORKERS} workers`);
    const number = this.#freeNumbers.pop() ?? this.#numNumbers++;
    this.#workers.set(id, { number, sequence: 0 });
    return number;
  }

  /** Everything that is known of the worker goes. Harmless when it is not there. */
  removeWorker(id: WorkerId): void {
    const worker = this.#workers.get(id);
    if (worker === undefined) return;
    for (const prediction of [...this.#predictions.ofWorker(worker.number)])
      this.#predictions.remove(prediction);
    this.#store.clear(worker.number, ALL_WAYS);
    this.#store.tidy();
    this.#workers.delete(id);
    this.#freeNumbers.push(worker.number);
  }

  /**
   * Takes in what has changed in a worker's caches. A batch whose number is not the next one is a `gap`: nothing of it is applied, nor
   * of later ones, until a snapshot comes, or the missing batch. What was known stays meanwhile. A batch that has been applied
   * already changes nothing. A snapshot is always taken, whatever its number: numbers go on from it.
   */
  apply(id: WorkerId, batch: KvEventBatch): "ok" | "gap" | "unknown-worker" {
    const worker = this.#workers.get(id);
    if (worker === undefined) {
      this.#numUnknownWorkerBatches++;
      return "unknown-worker";
    }
    if (batch.isSnapshot) this.#store.clear(worker.number, TIERS);
    else if (batch.sequence <= worker.sequence) {
      this.#numRepeatedBatches++;
      return "ok";
    } else if (batch.sequence !== worker.sequence + 1) {
      this.#numGaps++;
      return "gap";
    }
    worker.sequence = batch.sequence;
    for (const event of batch.events) this.#applyEvent(worker.number, event);
    this.#store.tidy();
    return "ok";
  }

  #applyEvent(worker: number, event: KvEvent): void {
    const held = HELD[event.tier];
    if (event.kind === "cleared") {
      this.#store.clear(worker, [held]);
      return;
    }
    const { hashes } = event;
    const numBlocks = Math.floor(hashes.length / HASH_WORDS);
    if (event.kind === "stored") this.#store.mark(worker, held, hashes, numBlocks, event.parent);
    else this.#numVainRemovals += this.#store.unmark(worker, held, hashes, 0, numBlocks);
  }

  /**
   * Notes that a worker will have the leading `numBlocks` of a prompt: because a request is placed there (`predicted`), or because
   * KV is on its way (`in-transfer`). Ends with {@link settle} or {@link expire}, not with the worker's events. Several predictions may
   * have one tag. Unknown workers are ignored.
   */
  predict(
    id: WorkerId,
    hashes: Int32Array,
    numBlocks: number,
    kind: "predicted" | "in-transfer",
    tag: string,
    nowMs: number,
  ): void {
    const worker = this.#workers.get(id);
    const count = Math.min(numBlocks, Math.floor(hashes.length / HASH_WORDS));
    if (worker === undefined || count <= 0) return;
    if (!this.#makeRoomToPredict(Predictions.bytesFor(count))) {
      this.#numDroppedPredictions++;
      return;
    }
    const held = kind === "predicted" ? HELD.predicted : HELD.inTransfer;
    // A copy: whose array it is may use it for something else before this prediction is settled.
    const own = hashes.slice(0, count * HASH_WORDS);
    this.#predictions.add({ tag, worker: worker.number, held, hashes: own, atMs: nowMs });
    this.#store.mark(worker.number, held, own, count, null);
    this.#store.tidy();
  }

  #makeRoomToPredict(bytes: number): boolean {
    const { budget } = this.#store;
    const share = Math.floor(budget.maxBytes / PREDICTION_SHARE);
    if (bytes > share) return false;
    while (this.#predictions.size >= MAX_PREDICTIONS || this.#predictions.bytes + bytes > share) {
      this.#forget(this.#predictions.oldest()!);
      this.#numDroppedPredictions++;
    }
    return budget.has(bytes) || this.#store.makeRoom(bytes);
  }

  /** Forgets what was predicted under a tag; what events have confirmed stays. */
  settle(tag: string): void {
    for (const prediction of [...this.#predictions.ofTag(tag)]) this.#forget(prediction);
    this.#store.tidy();
  }

  /** Forgets predictions that are {@link PREDICTION_TTL_MS} old. */
  expire(nowMs: number): void {
    for (;;) {
      const oldest = this.#predictions.oldest();
      if (oldest === undefined || nowMs - oldest.atMs < PREDICTION_TTL_MS) break;
      this.#forget(oldest);
      this.#numExpiredPredictions++;
    }
    this.#store.tidy();
  }

  #forget(prediction: Prediction): void {
    this.#predictions.remove(prediction);
    const { worker, held, hashes } = prediction;
    const kept = this.#predictions.numStillPredicted(prediction);
    this.#store.unmark(worker, held, hashes, kept, hashes.length / HASH_WORDS);
  }

  /** Fills `out` with what every worker has of the leading `numBlocks`. What is found counts as used. */
  lookup(hashes: Int32Array, numBlocks: number, out: Overlaps): void {
    out.reset(this.#numNumbers);
    const { pages, table } = this.#store;
    pages.tick();
    const count = Math.min(numBlocks, Math.floor(hashes.length / HASH_WORDS));
    if (count === 0) return;
    let ref = table.find(hashes, 0);
    let numAhead = 1;
    let warmFrom = NONE;
    let warmTo = NONE;
    for (let i = 0; i < count && ref !== NONE; ) {
      const page = pageOf(ref);
      const run = pages.matchRun(ref, hashes, i * HASH_WORDS, count - i);
      pages.touch(page);
      if (i === 0) this.#begin(ref, run, out);
      else if (!this.#overlap(ref, i, run, out)) return;
      i += run;
      if (i >= count) return;
      ref = pages.onward(page, hashes, i * HASH_WORDS);
      if (ref === NONE) ref = table.find(hashes, i * HASH_WORDS);
      const next = pageOf(ref);
      if (next > warmFrom && next <= warmTo) continue;
      // Ever more pages, since most prompts end soon; and few again where a chain goes on elsewhere than was guessed.
      numAhead =
        next === page + 1 ? Math.min(2 * numAhead, MAX_PAGES_AHEAD, Math.ceil((count - i) / PAGE_BLOCKS)) : 2;
      if (ref !== NONE) pages.warmBehind(next, numAhead);
      warmFrom = next;
      warmTo = next + numAhead;
    }
  }

  /** Notes what each worker has of the first `run` blocks: as {@link #overlap}, without anything to go on from. */
  #begin(ref: number, run: number, out: Overlaps): void {
    const { holders } = this.#store;
    holders.open(pageOf(ref));
    const slot = slotOf(ref);
    const { words, base, count } = holders;
    const { device, host, disk, confirmed, workers } = out;
    const end = base + count * HOLDER_WORDS;
    const all = lowBits(run) << slot;
    let numWorkers = 0;
    for (let at = base; at < end; at += HOLDER_WORDS) {
      const worker = words[at]!;
      const onDevice = words[at + HELD.device]!;
      if ((onDevice & all) === all) {
        confirmed[worker] = run;
        device[worker] = run;
        host[worker] = run;
        disk[worker] = run;
        workers[numWorkers++] = worker;
        continue;
      }
      const near = onDevice | words[at + HELD.predicted]! | words[at + HELD.inTransfer]!;
      const nearby = near | words[at + HELD.host]!;
      const lower = words[at + HELD.host]! | words[at + HELD.disk]!;
      const anywhere = leadingRun(near | lower, slot, run);
      if (anywhere === 0) continue;
      confirmed[worker] = leadingRun(onDevice | lower, slot, run);
      device[worker] = leadingRun(near, slot, run);
      host[worker] = leadingRun(nearby, slot, run);
      disk[worker] = anywhere;
      workers[numWorkers++] = worker;
    }
    out.numWorkers = numWorkers;
  }

  /** Adds `run` blocks to what each worker has that had all `i` before; false when nobody has all of them. */
  #overlap(ref: number, i: number, run: number, out: Overlaps): boolean {
    const { holders } = this.#store;
    holders.open(pageOf(ref));
    const slot = slotOf(ref);
    const { words, base, count } = holders;
    const { device, host, disk, confirmed } = out;
    const end = base + count * HOLDER_WORDS;
    const all = lowBits(run) << slot;
    let goesOn = false;
    for (let at = base; at < end; at += HOLDER_WORDS) {
      const worker = words[at]!;
      if (disk[worker] !== i) continue;
      // Most workers have all of it, and by their own events: then they have it in every sense.
      const onDevice = words[at + HELD.device]!;
      if ((onDevice & all) === all && device[worker] === i && confirmed[worker] === i) {
        confirmed[worker] = device[worker] = host[worker] = disk[worker] = i + run;
        goesOn = true;
        continue;
      }
      const near = onDevice | words[at + HELD.predicted]! | words[at + HELD.inTransfer]!;
      const nearby = near | words[at + HELD.host]!;
      const lower = words[at + HELD.host]! | words[at + HELD.disk]!;
      const anywhere = leadingRun(near | lower, slot, run);
      if (anywhere === 0) continue;
      if (confirmed[worker] === i) confirmed[worker] = i + leadingRun(onDevice | lower, slot, run);
      if (device[worker] === i) device[worker] = i + leadingRun(near, slot, run);
      if (host[worker] === i) host[worker] = i + leadingRun(nearby, slot, run);
      disk[worker] = i + anywhere;
      if (anywhere === run) goesOn = true;
    }
    return goesOn;
  }

  stats(): PrefixIndexStats {
    const { budget, table, numEntries } = this.#store;
    return {
      numBlocks: table.size,
      numEntries,
      bytes: budget.usedBytes,
      peakBytes: budget.peakBytes,
      numPredictions: this.#predictions.size,
      numUnknownWorkerBatches: this.#numUnknownWorkerBatches,
      numGaps: this.#numGaps,
      numRepeatedBatches: this.#numRepeatedBatches,
      numVainRemovals: this.#numVainRemovals,
      numEvictedBlocks: this.#store.numEvictedBlocks,
      numEvictedEntries: this.#store.numEvictedEntries,
      numRefusedBlocks: this.#store.numRefused,
      numExpiredPredictions: this.#numExpiredPredictions,
      numDroppedPredictions: this.#numDroppedPredictions,
    };
  }

  /** Throws unless everything that is kept in two places agrees. Linear in the size of the index. */
  checkInvariants(): void {
    this.#store.checkInvariants();
    this.#predictions.checkInvariants();
    assert(this.#workers.size + this.#freeNumbers.length === this.#numNumbers, "a dense number is lost");
  }
}
