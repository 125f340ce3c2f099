import { Overlaps } from "../../src/core/router/index/overlaps.ts";
import { PrefixIndex, type PrefixIndexStats } from "../../src/core/router/index/prefix-index.ts";
import { HASH_WORDS } from "../../src/core/tokens/block-hash.ts";
import { quantile } from "../../src/core/util/quantiles.ts";
import type { KvEventStream, StreamedRequest } from "./kv-event-stream.ts";

/** Requests that are made, looked up and applied in turn: making them is not timed. */
const GROUP = 100;

export interface IndexRates {
  /** Per second of CPU time, garbage collection included. */
  readonly lookupsPerSecond: number;
  /** Blocks that some worker has from the prompt's beginning on: the longest overlap of each look-up. */
  readonly blocksWalkedPerSecond: number;
  /** Blocks of stored and removed events. */
  readonly eventsPerSecond: number;
  readonly wallBlocksWalkedPerSecond: number;
  readonly wallEventsPerSecond: number;
  readonly storedShare: number;
  readonly blocksPerLookup: number;
  readonly workersPerLookup: number;
  /** One look-up by the wall clock: whatever else the machine does is in it. */
  readonly lookupP50Us: number;
  readonly lookupP99Us: number;
}

class Timer {
  wallMs = 0;
  cpuMs = 0;

  time(work: () => void): void {
    const cpu = process.cpuUsage();
    const start = performance.now();
    work();
    this.wallMs += performance.now() - start;
    const { user, system } = process.cpuUsage(cpu);
    this.cpuMs += (user + system) / 1000;
  }
}

/** Runs a stream of requests through an index, and times it. */
export class IndexMeter {
  #index: PrefixIndex | null;
  readonly #out = new Overlaps();
  readonly #sequences: Int32Array;
  #lookups = new Timer();
  #applied = new Timer();
  #timesUs: number[] = [];
  #numWalked = 0;
  #numFound = 0;
  #numEvents = 0;
  #numStored = 0;

  constructor(options: { maxBytes: number; numWorkers: number }) {
    this.#index = new PrefixIndex(options);
    this.#sequences = new Int32Array(options.numWorkers);
    for (let i = 0; i < options.numWorkers; i++) this.#index.addWorker(`w${i}`);
  }

  stats(): PrefixIndexStats {
    return this.#index!.stats();
  }

  /** Nothing has been measured yet. */
  reset(): void {
    this.#lookups = new Timer();
    this.#applied = new Timer();
    this.#timesUs = [];
    this.#numWalked = this.#numFound = this.#numEvents = this.#numStored = 0;
  }

  /** CPU time of one worker's end. */
  removeWorkerMs(number: number): number {
    const timer = new Timer();
    timer.time(() => this.#index!.removeWorker(`w${number}`));
    return timer.cpuMs;
  }

  forgetIndex(): void {
    this.#index = null;
  }

  run(stream: KvEventStream, numRequests: number): void {
    for (let done = 0; done < numRequests; done += GROUP) {
      const group = Array.from({ length: Math.min(GROUP, numRequests - done) }, () => stream.next());
      this.#lookups.time(() => this.#lookUp(group));
      // Once more, untimed, for the size of the answers.
      for (const request of group) this.#count(request);
      const batches = group.map(({ worker, events }) => {
        this.#sequences[worker]!++;
        return { id: `w${worker}`, batch: { sequence: this.#sequences[worker]!, isSnapshot: false, events } };
      });
      this.#applied.time(() => {
        for (const { id, batch } of batches)
          if (this.#index!.apply(id, batch) !== "ok") throw new Error("a batch was not applied");
      });
    }
  }

  #lookUp(group: readonly StreamedRequest[]): void {
    let before = performance.now();
    for (const { hashes, numBlocks } of group) {
      this.#index!.lookup(hashes, numBlocks, this.#out);
      const after = performance.now();
      this.#timesUs.push((after - before) * 1000);
      before = after;
    }
  }

  #count({ hashes, numBlocks, events }: StreamedRequest): void {
    const out = this.#out;
    this.#index!.lookup(hashes, numBlocks, out);
    let longest = 0;
    for (let i = 0; i < out.numWorkers; i++) longest = Math.max(longest, out.disk[out.workers[i]!]!);
    this.#numWalked += longest;
    this.#numFound += out.numWorkers;
    for (const event of events) {
      const count = event.kind === "cleared" ? 0 : event.hashes.length / HASH_WORDS;
      this.#numEvents += count;
      if (event.kind === "stored") this.#numStored += count;
    }
  }

  rates(): IndexRates {
    const sorted = Float64Array.from(this.#timesUs).sort();
    return {
      lookupsPerSecond: (sorted.length * 1000) / this.#lookups.cpuMs,
      blocksWalkedPerSecond: (this.#numWalked * 1000) / this.#lookups.cpuMs,
      eventsPerSecond: (this.#numEvents * 1000) / this.#applied.cpuMs,
      wallBlocksWalkedPerSecond: (this.#numWalked * 1000) / this.#lookups.wallMs,
      wallEventsPerSecond: (this.#numEvents * 1000) / this.#applied.wallMs,
      storedShare: this.#numStored / this.#numEvents,
      blocksPerLookup: this.#numWalked / sorted.length,
      workersPerLookup: this.#numFound / sorted.length,
      lookupP50Us: quantile(sorted, 0.5),
      lookupP99Us: quantile(sorted, 0.99),
    };
  }
}
