import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hashTexts, KvListener } from "../../../test/support/kv-listener.ts";
import { makeSequence, tokenRange } from "../../../test/support/make.ts";
import type { Sequence } from "../sequence.ts";
import { BlockHasher, HASH_WORDS } from "../tokens/block-hash.ts";
import { BlockManager } from "./block-manager.ts";
import { KvEventLog, MAX_BATCH_BLOCKS } from "./kv-event-log.ts";
import type { KvEvent } from "./kv-events.ts";

/** A chain of `length` made-up hashes. */
function chain(name: number, length: number): Int32Array {
  return Int32Array.from({ length: length * HASH_WORDS }, (_, i) => name * 1_000_000 + i);
}

function block(hashes: Int32Array, index: number): Int32Array {
  return hashes.slice(index * HASH_WORDS, (index + 1) * HASH_WORDS);
}

describe("KvEventLog", () => {
  it("tells blocks that follow each other as one event, and removals in a row as one", () => {
    const log = new KvEventLog();
    const a = chain(1, 4);
    const b = chain(2, 2);
    log.stored("device", null, a.subarray(0, 2 * HASH_WORDS));
    log.storedBlock("device", a, HASH_WORDS, a, 2 * HASH_WORDS);
    log.stored("device", block(a, 0), b);
    log.stored("host", null, block(a, 0));
    log.removedBlock("host", a, 0);
    log.removed("host", b);
    log.cleared("disk");
    const expected: KvEvent[] = [
      { kind: "stored", tier: "device", parent: null, hashes: a.slice(0, 3 * HASH_WORDS) },
      { kind: "stored", tier: "device", parent: block(a, 0), hashes: b },
      { kind: "stored", tier: "host", parent: null, hashes: block(a, 0) },
      { kind: "removed", tier: "host", hashes: Int32Array.from([...block(a, 0), ...b]) },
      { kind: "cleared", tier: "disk" },
    ];
    expect(log.take()).toEqual([{ sequence: 1, isSnapshot: false, events: expected }]);
    expect(log.take()).toEqual([]);
  });

  it("begins a new event where a chain begins, and numbers the batches", () => {
    const log = new KvEventLog();
    log.stored("device", null, chain(1, 1));
    log.stored("device", null, chain(2, 1));
    expect(log.take()[0]!.events).toHaveLength(2);
    log.cleared("device");
    expect(log.take().map(({ sequence }) => sequence)).toEqual([2]);
  });

  it("cuts what is too long for a batch, and goes on below the block before the cut", () => {
    const log = new KvEventLog();
    const long = chain(1, MAX_BATCH_BLOCKS + 3);
    log.stored("device", null, long);
    log.checkInvariants();
    const batches = log.take();
    expect(batches.map(({ events }) => events.length)).toEqual([1, 1]);
    expect(batches[1]!.events[0]).toEqual({
      kind: "stored",
      tier: "device",
      parent: block(long, MAX_BATCH_BLOCKS - 1),
      hashes: long.slice(MAX_BATCH_BLOCKS * HASH_WORDS),
    });
  });

  it("replaces what has not been taken by a snapshot of every tier, in as many batches as it takes", () => {
    const log = new KvEventLog();
    const held = chain(1, MAX_BATCH_BLOCKS + 1);
    log.describeWith(() => log.stored("device", null, held));
    log.describeWith(() => log.stored("host", null, chain(2, 1)));
    log.removed("disk", chain(3, 1));
    log.snapshot();
    const batches = log.take();
    expect(batches.map(({ sequence, isSnapshot }) => [sequence, isSnapshot])).toEqual([
      [1, true],
      [2, false],
    ]);
    const listener = new KvListener();
    for (const batch of batches) listener.apply(batch);
    expect(listener.tiers.device).toEqual(new Set(hashTexts(held)));
    expect(listener.tiers.host.size).toBe(1);
  });

  it("says that nothing is held when a snapshot is asked for and nothing is", () => {
    const log = new KvEventLog();
    log.snapshot();
    expect(log.take()).toEqual([{ sequence: 1, isSnapshot: true, events: [] }]);
  });
});

const command = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("admit" as const),
      family: fc.nat(2),
      shared: fc.nat(24),
      own: fc.integer({ min: 1, max: 8 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("compute" as const),
      which: fc.nat(),
      numTokens: fc.integer({ min: 1, max: 12 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("append" as const), which: fc.nat() }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("free" as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("snapshot" as const) }) },
);

/** A block manager, and a listener that knows nothing but its events. */
class Bench {
  readonly log = new KvEventLog();
  readonly manager: BlockManager;
  readonly listener = new KvListener();
  readonly live = new Set<Sequence>();
  readonly #hasher: BlockHasher;

  constructor(options: {
    numBlocks: number;
    numSlots: number;
    blockSizeTokens: number;
    maxCachedBlocks: number;
  }) {
    this.manager = new BlockManager({ ...options, modelId: "m", kvEvents: this.log });
    this.#hasher = new BlockHasher({ ...options, cacheSalt: "", modelId: "m" });
  }

  /** Admits a sequence; the listener must have known how much of it is found. */
  admit(sequence: Sequence): void {
    const reusableTokens = sequence.numKnownTokens - 1;
    const { blockSizeTokens } = this.manager;
    const admitted = this.manager.admit(sequence, sequence.numKnownTokens, reusableTokens);
    // What an admission costs is not what it finds, so the events of the admission itself do not matter.
    if (admitted) this.live.add(sequence);
    this.sync();
    if (!admitted) return;
    const numBlocks = Math.floor(reusableTokens / blockSizeTokens);
    const hashes = new Int32Array(numBlocks * HASH_WORDS);
    this.#hasher.hashBlocks(Int32Array.from(sequence.knownTokens()), 0, numBlocks, hashes);
    expect(this.listener.match("device", hashTexts(hashes)) * blockSizeTokens).toBe(
      sequence.numComputedTokens,
    );
  }

  compute(sequence: Sequence, numTokens: number): void {
    if (!this.manager.grow(sequence, sequence.numComputedTokens + numTokens)) return;
    sequence.numComputedTokens += numTokens;
    this.manager.fileComputed(sequence);
  }

  free(sequence: Sequence): void {
    this.manager.free(sequence);
    this.live.delete(sequence);
  }

  sync(): void {
    this.manager.checkInvariants(this.live);
    for (const batch of this.log.take()) this.listener.apply(batch);
  }

  /** The same from the beginning: what a snapshot says is what the events have said. */
  expectSameSnapshot(): void {
    const fresh = new KvListener();
    fresh.sequence = this.log.sequence;
    this.log.snapshot();
    for (const batch of this.log.take()) {
      fresh.apply(batch);
      this.listener.sequence = batch.sequence;
    }
    expect(fresh.tiers.device).toEqual(this.listener.tiers.device);
  }
}

describe("BlockManager with listeners", () => {
  it("reports what can't be reached any more because the middle of its chain went with a slot", () => {
    const bench = new Bench({ numBlocks: 30, numSlots: 2, blockSizeTokens: 4, maxCachedBlocks: 1000 });
    const long = makeSequence({ prompt: tokenRange(0, 13) });
    bench.admit(long);
    bench.compute(long, 13);
    bench.sync();
    expect(bench.listener.tiers.device.size).toBe(3);
    // Takes the first block over into its own slot, which is reclaimed for the next one.
    const short = makeSequence({ prompt: tokenRange(0, 5) });
    bench.admit(short);
    bench.free(short);
    bench.admit(makeSequence({ prompt: tokenRange(500, 4) }));
    expect(bench.listener.tiers.device.size).toBe(0);
    bench.free(long);
    bench.admit(makeSequence({ prompt: tokenRange(0, 13) }));
    bench.sync();
  });

  it("reports exactly the blocks that it can find, at every moment of any history", () => {
    fc.assert(
      fc.property(
        fc.record({
          numBlocks: fc.integer({ min: 8, max: 80 }),
          numSlots: fc.integer({ min: 2, max: 5 }),
          blockSizeTokens: fc.constantFrom(1, 2, 4),
          maxCachedBlocks: fc.constantFrom(0, 3, 1000),
        }),
        fc.array(command, { minLength: 10, maxLength: 120 }),
        (options, commands) => {
          const bench = new Bench(options);
          for (const c of commands) {
            const live = [...bench.live];
            const chosen = "which" in c && live.length > 0 ? live[c.which % live.length]! : null;
            if (c.kind === "admit") {
              const prompt = [...tokenRange(c.family * 1000, c.shared), ...tokenRange(c.own * 77, c.own)];
              bench.admit(makeSequence({ prompt }));
            } else if (c.kind === "snapshot") bench.expectSameSnapshot();
            else if (chosen !== null && c.kind === "compute")
              bench.compute(chosen, Math.min(c.numTokens, chosen.numUncomputedTokens));
            else if (chosen !== null && c.kind === "append") {
              if (chosen.numKnownTokens < chosen.maxKnownTokens) chosen.append(chosen.numKnownTokens % 3);
            } else if (chosen !== null) bench.free(chosen);
            bench.sync();
          }
          for (const sequence of [...bench.live]) bench.free(sequence);
          bench.sync();
          expect(bench.listener.tiers.device.size).toBeLessThanOrEqual(bench.manager.numCachedBlocks);
          for (let family = 0; family < 3; family++) {
            const sequence = makeSequence({ prompt: tokenRange(family * 1000, 25) });
            bench.admit(sequence);
            bench.free(sequence);
            bench.sync();
          }
          bench.expectSameSnapshot();
        },
      ),
      { numRuns: 120 },
    );
  });
});
