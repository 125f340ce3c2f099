import { describe, expect, it } from "vitest";
import { keysOf, NaiveIndex } from "../../../../test/support/naive-index.ts";
import type { KvEvent } from "../../kv/kv-events.ts";
import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { type RandomStream, Rng } from "../../util/rng.ts";
import { Overlaps } from "./overlaps.ts";
import { MIN_INDEX_BYTES, PrefixIndex } from "./prefix-index.ts";

const SEED = 5;
/** Chunks that are half in use, and pages kept for the next blocks. */
const SLACK_BYTES = 160 * 1024;

/** Prompts by number: each goes on from a random earlier one at a random block, or begins anew. Hashes are random numbers. */
function promptTree(rng: RandomStream, count: number, maxBlocks: number, newShare: number): Int32Array[] {
  const prompts: Int32Array[] = [];
  for (let k = 0; k < count; k++) {
    const numBlocks = 1 + rng.nextBelow(maxBlocks);
    const base = k === 0 || rng.nextFloat() < newShare ? null : prompts[rng.nextBelow(k)]!;
    const shared = base === null ? 0 : rng.nextBelow(Math.min(base.length / HASH_WORDS, numBlocks));
    const hashes = new Int32Array(numBlocks * HASH_WORDS);
    if (base !== null) hashes.set(base.subarray(0, shared * HASH_WORDS));
    for (let word = shared * HASH_WORDS; word < hashes.length; word++) hashes[word] = rng.nextBelow(2 ** 32);
    prompts.push(hashes);
  }
  return prompts;
}

/** A worker whose cache holds at most so many blocks, and drops the least recently used ends first. */
class LruWorker {
  /** Oldest first. */
  readonly #blocks = new Map<string, Int32Array>();
  readonly #capacity: number;
  sequence = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  serve(prompt: Int32Array): KvEvent[] {
    const keys = keysOf(prompt);
    for (let i = keys.length - 1; i >= 0; i--) {
      this.#blocks.delete(keys[i]!);
      this.#blocks.set(keys[i]!, prompt.subarray(i * HASH_WORDS, (i + 1) * HASH_WORDS));
    }
    const removed: number[] = [];
    for (const [key, hash] of this.#blocks) {
      if (this.#blocks.size <= this.#capacity) break;
      this.#blocks.delete(key);
      removed.push(...hash);
    }
    const events: KvEvent[] = [{ kind: "stored", tier: "device", parent: null, hashes: prompt }];
    return removed.length === 0
      ? events
      : [...events, { kind: "removed", tier: "device", hashes: Int32Array.from(removed) }];
  }
}

/** Feeds requests for random prompts to random workers. */
function churn(
  options: { rng: RandomStream; index: PrefixIndex; naive: NaiveIndex; prompts: readonly Int32Array[] },
  requests: { count: number; numWorkers: number; capacity: number; each?: (prompt: Int32Array) => void },
): void {
  const { rng, index, naive, prompts } = options;
  const workers = Array.from({ length: requests.numWorkers }, () => new LruWorker(requests.capacity));
  for (const [i] of workers.entries()) {
    naive.addWorker(`w${i}`);
    index.addWorker(`w${i}`);
  }
  for (let k = 0; k < requests.count; k++) {
    const i = rng.nextBelow(requests.numWorkers);
    // Popular prompts are near the one that moves through all of them, so that branches die.
    const center = (k / requests.count) * prompts.length;
    const prompt = prompts[Math.floor(Math.min(center + rng.nextBelow(60), prompts.length - 1))]!;
    const batch = {
      sequence: ++workers[i]!.sequence,
      isSnapshot: false,
      events: workers[i]!.serve(prompt),
    };
    expect(index.apply(`w${i}`, batch)).toBe(naive.apply(`w${i}`, batch));
    requests.each?.(prompt);
  }
}

describe("memory of PrefixIndex", () => {
  /** What a worker has of a prompt, as events: a run of blocks each. */
  function storedRuns(held: ReadonlySet<string>, prompt: Int32Array): KvEvent[] {
    const keys = keysOf(prompt);
    const events: KvEvent[] = [];
    for (let from = 0; from < keys.length; from++) {
      let to = from;
      while (to < keys.length && held.has(keys[to]!)) to++;
      if (to === from) continue;
      const parent = from === 0 ? null : prompt.subarray((from - 1) * HASH_WORDS, from * HASH_WORDS);
      const hashes = prompt.subarray(from * HASH_WORDS, to * HASH_WORDS);
      events.push({ kind: "stored", tier: "device", parent, hashes });
      from = to;
    }
    return events;
  }

  it.each([
    ["long prompts", 600, 300, 0.05],
    ["short branches", 12000, 6, 0.02],
  ])(
    "is within 1.5 of a fresh index's when most branches have died: %s",
    (_, numPrompts, maxBlocks, anew) => {
      const rng = new Rng(SEED).stream("churn");
      const index = new PrefixIndex({ maxBytes: 256 * 2 ** 20 });
      const naive = new NaiveIndex();
      const prompts = promptTree(rng, numPrompts, maxBlocks, anew);
      churn({ rng, index, naive, prompts }, { count: 2 * numPrompts, numWorkers: 4, capacity: 100_000 });
      for (const id of naive.workers) {
        // Cut where the worker's cache may have dropped the rest: mostly near the beginning.
        const removed: KvEvent[] = prompts.map((prompt) => {
          const cut = rng.nextBelow(1 + Math.floor(prompt.length / HASH_WORDS / 2));
          return { kind: "removed", tier: "device", hashes: prompt.slice(cut * HASH_WORDS) };
        });
        for (const event of removed) {
          const batch = { sequence: naive.nextSequence(id), isSnapshot: false, events: [event] };
          expect(index.apply(id, batch)).toBe(naive.apply(id, batch));
        }
      }
      index.checkInvariants();
      const fresh = new PrefixIndex({ maxBytes: 256 * 2 ** 20 });
      for (const id of naive.workers) {
        fresh.addWorker(id);
        const held = naive.held(id);
        const events = prompts.flatMap((prompt) => storedRuns(held, prompt));
        fresh.apply(id, { sequence: 1, isSnapshot: true, events });
      }
      const out = new Overlaps();
      const freshOut = new Overlaps();
      for (const prompt of prompts) {
        index.lookup(prompt, prompt.length / HASH_WORDS, out);
        fresh.lookup(prompt, prompt.length / HASH_WORDS, freshOut);
        expect(out.device).toEqual(freshOut.device);
      }
      expect(index.stats().numBlocks).toBe(fresh.stats().numBlocks);
      expect(index.stats().peakBytes).toBeGreaterThan(3 * fresh.stats().bytes);
      expect(index.stats().bytes).toBeLessThan(1.5 * fresh.stats().bytes + SLACK_BYTES);
    },
  );

  it("returns nearly everything when all workers have gone", () => {
    const rng = new Rng(SEED).stream("gone");
    const index = new PrefixIndex({ maxBytes: 256 * 2 ** 20 });
    const empty = index.stats().bytes;
    const prompts = promptTree(rng, 400, 300, 0.05);
    churn({ rng, index, naive: new NaiveIndex(), prompts }, { count: 600, numWorkers: 8, capacity: 100_000 });
    expect(index.stats().bytes).toBeGreaterThan(10 * empty);
    for (let i = 0; i < 8; i++) index.removeWorker(`w${i}`);
    index.checkInvariants();
    expect(index.stats()).toMatchObject({ numBlocks: 0, numEntries: 0 });
    expect(index.stats().bytes).toBeLessThan(empty + SLACK_BYTES);
  });

  it("never exceeds the ceiling, and what it says under pressure is true", () => {
    const rng = new Rng(SEED).stream("pressure");
    const maxBytes = MIN_INDEX_BYTES;
    const index = new PrefixIndex({ maxBytes });
    const naive = new NaiveIndex();
    const prompts = promptTree(rng, 600, 250, 0.2);
    const out = new Overlaps();
    let numSaid = 0;
    let numTrue = 0;
    const each = (prompt: Int32Array): void => {
      index.lookup(prompt, prompt.length / HASH_WORDS, out);
      for (const [i, id] of naive.workers.entries()) {
        const truth = naive.overlap(id, keysOf(prompt));
        expect(out.disk[i]).toBeLessThanOrEqual(truth.disk);
        expect(out.device[i]).toBeLessThanOrEqual(truth.device);
        numSaid += out.device[i]!;
        numTrue += truth.device;
      }
      expect(index.stats().bytes).toBeLessThanOrEqual(maxBytes);
    };
    churn({ rng, index, naive, prompts }, { count: 1200, numWorkers: 6, capacity: 20_000, each });
    index.checkInvariants();
    const { numEvictedBlocks, numRefusedBlocks, numBlocks, peakBytes } = index.stats();
    expect(numEvictedBlocks).toBeGreaterThan(numBlocks);
    expect(numRefusedBlocks).toBe(0);
    expect(peakBytes).toBeLessThanOrEqual(maxBytes);
    expect(numSaid / numTrue).toBeGreaterThan(0.5);
  });

  it("evicts the ends of prefixes that nobody asks for, and keeps those in use", () => {
    const rng = new Rng(SEED).stream("use");
    const index = new PrefixIndex({ maxBytes: MIN_INDEX_BYTES });
    index.addWorker("w");
    const out = new Overlaps();
    const prompts = promptTree(rng, 300, 400, 1);
    const hot = prompts[0]!;
    const overlap = (prompt: Int32Array): number => {
      index.lookup(prompt, prompt.length / HASH_WORDS, out);
      return out.device[0]!;
    };
    prompts.forEach((prompt, k) => {
      const events: KvEvent[] = [{ kind: "stored", tier: "device", parent: null, hashes: prompt }];
      index.apply("w", { sequence: k + 1, isSnapshot: false, events });
      expect(overlap(hot)).toBe(hot.length / HASH_WORDS);
    });
    expect(index.stats().numEvictedBlocks).toBeGreaterThan(10_000);
    let numPartly = 0;
    for (const prompt of prompts) {
      const known = overlap(prompt);
      if (known > 0 && known < prompt.length / HASH_WORDS) numPartly++;
      for (let i = known; i < prompt.length / HASH_WORDS; i++)
        expect(overlap(prompt.subarray(i * HASH_WORDS, (i + 1) * HASH_WORDS))).toBe(0);
    }
    expect(numPartly).toBeGreaterThan(0);
    const removed: KvEvent[] = prompts.map((hashes) => ({ kind: "removed", tier: "device", hashes }));
    index.apply("w", { sequence: 301, isSnapshot: false, events: removed });
    expect(index.stats().numBlocks).toBe(0);
    index.checkInvariants();
  });
});
