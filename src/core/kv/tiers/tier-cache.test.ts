import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KvListener } from "../../../../test/support/kv-listener.ts";
import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { KvEventLog } from "../kv-event-log.ts";
import { EVICTION_NAMES, type EvictionName, evictionPolicy } from "./eviction.ts";
import { numBlocksOf, type Segment, segmentOf } from "./segment.ts";
import { TierCache } from "./tier-cache.ts";

/** Chains of two families that part after some blocks, as conversations with one system prompt do. */
function chain(branch: number, parting: number, numBlocks: number): Int32Array {
  return Int32Array.from({ length: numBlocks * HASH_WORDS }, (_, word) => {
    const block = Math.floor(word / HASH_WORDS);
    return (
      (block < parting ? 1 : 10 * (branch + 1) + parting) * 1000 + block * HASH_WORDS + (word % HASH_WORDS)
    );
  });
}

function makeCache(
  eviction: EvictionName,
  maxBytes: number,
  maxPendingBytes = maxBytes,
  kvEvents?: KvEventLog,
): TierCache {
  return new TierCache({
    kvEvents,
    tier: "host",
    maxBytes,
    maxPendingBytes,
    eviction: evictionPolicy(eviction),
    recomputeMs: (start, end) => (end - start) * (1 + (start + end) / 20),
    blockSizeTokens: 4,
  });
}

/** Puts a whole chain in, as segments of the given lengths, one byte per block. */
function put(cache: TierCache, hashes: Int32Array, firstId: number, lengths: readonly number[]): Segment[] {
  const segments: Segment[] = [];
  let at = 0;
  for (const length of lengths) {
    const segment = segmentOf(firstId + segments.length, hashes, at, at + length);
    if (cache.reserve(segment, length)) cache.written(segment, length);
    segments.push(segment);
    at += length;
  }
  return segments;
}

const removedIds = (cache: TierCache) => cache.takeDeletions().map(({ id }) => id);

interface NaiveSegment {
  readonly segment: Segment;
  readonly names: readonly string[];
  readonly parentName: string | null;
  isStored: boolean;
  numPins: number;
  numUses: number;
  lastUse: number;
  rank: number;
}

/** The obvious truth: a list that is searched from end to end. */
class NaiveTier {
  segments: NaiveSegment[] = [];
  deleted: number[] = [];
  numUses = 0;
  floor = 0;
  readonly eviction: EvictionName;
  readonly maxBytes: number;
  constructor(eviction: EvictionName, maxBytes: number) {
    this.eviction = eviction;
    this.maxBytes = maxBytes;
  }
  get bytes(): number {
    return this.segments.reduce((sum, { names }) => sum + names.length, 0);
  }
  holder(name: string | null): NaiveSegment | undefined {
    return this.segments.find(({ names }) => name !== null && names.includes(name));
  }
  children(of: NaiveSegment): NaiveSegment[] {
    return this.segments.filter(({ parentName }) => parentName !== null && of.names.includes(parentName));
  }
  isReachable(item: NaiveSegment): boolean {
    return item.isStored && (item.parentName === null || this.isReachable(this.holder(item.parentName)!));
  }
  rerank(item: NaiveSegment): void {
    const { firstBlock } = item.segment;
    const [start, end] = [firstBlock * 4, (firstBlock + item.names.length) * 4];
    const { lastUse, numUses } = item;
    const likelihood = 1;
    const recomputeMs = (end - start) * (1 + (start + end) / 20);
    const facts = { lastUse, numUses, bytes: item.names.length, recomputeMs, likelihood };
    item.rank = evictionPolicy(this.eviction).rank(facts, this.floor);
  }
  remove(item: NaiveSegment, hasBytes: boolean): void {
    for (const child of this.children(item)) this.remove(child, true);
    this.segments = this.segments.filter((other) => other !== item);
    if (item.isStored && hasBytes) this.deleted.push(item.segment.id);
    const parent = this.holder(item.parentName);
    if (parent !== undefined) this.rerank(parent);
  }
  /** Whether it has to stay, because of itself or of something below it. */
  stays(item: NaiveSegment): boolean {
    return !item.isStored || item.numPins > 0 || this.children(item).some((child) => this.stays(child));
  }
  /** Makes room if there can be enough of it, or leaves everything as it is. */
  makeRoom(): boolean {
    const staying = this.segments.filter((item) => this.stays(item));
    if (staying.reduce((sum, { names }) => sum + names.length, 0) > this.maxBytes) return false;
    while (this.bytes > this.maxBytes) {
      const [victim] = this.segments
        .filter((item) => item.isStored && item.numPins === 0 && this.children(item).length === 0)
        .sort((a, b) => a.rank - b.rank || a.lastUse - b.lastUse);
      this.floor = victim!.rank;
      this.remove(victim!, true);
    }
    return true;
  }
  touch(item: NaiveSegment | undefined): void {
    for (let at = item; at !== undefined; at = this.holder(at.parentName)) {
      at.lastUse = ++this.numUses;
      at.numUses++;
      this.rerank(at);
    }
  }
}

function namesOf(hashes: Int32Array): string[] {
  return Array.from({ length: hashes.length / HASH_WORDS }, (_, i) =>
    hashes.subarray(i * HASH_WORDS, (i + 1) * HASH_WORDS).join(),
  );
}

const operation = fc.record({
  kind: fc.constantFrom(
    ...["offload", "offload", "offload", "written", "written", "written", "written", "written"],
    ...["failed", "read", "readEnd", "readEnd", "discard"],
  ),
  branch: fc.nat(4),
  parting: fc.nat(4),
  length: fc.integer({ min: 1, max: 9 }),
  cut: fc.integer({ min: 1, max: 4 }),
  pick: fc.nat(1000),
});

describe("TierCache", () => {
  it("agrees with a naive tier through any mixture of writes, reads, failures and evictions", () => {
    let numEvictions = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(...EVICTION_NAMES),
        fc.integer({ min: 3, max: 25 }),
        fc.array(operation, { minLength: 20, maxLength: 70 }),
        (eviction, maxBytes, operations) => {
          const kvEvents = new KvEventLog();
          const listener = new KvListener();
          const cache = makeCache(eviction, maxBytes, maxBytes, kvEvents);
          const naive = new NaiveTier(eviction, maxBytes);
          const pending: Segment[] = [];
          const reading: Segment[] = [];
          const deleted: number[] = [];
          let nextId = 1;
          for (const { kind, branch, parting, length, cut, pick } of operations) {
            const hashes = chain(branch, parting, length);
            if (kind === "offload") {
              const held = cache.countHeld(hashes, length);
              expect(held).toBe(namesOf(hashes).filter((name) => naive.holder(name) !== undefined).length);
              for (let at = held; at < length; at += cut) {
                const segment = segmentOf(nextId++, hashes, at, Math.min(at + cut, length));
                const names = namesOf(segment.hashes);
                const parentName = segment.parent?.join() ?? null;
                const isLinked = parentName === null || naive.holder(parentName) !== undefined;
                const pendingBytes = pending.reduce((sum, other) => {
                  const isKept = naive.segments.some((item) => item.segment === other);
                  return sum + (isKept ? numBlocksOf(other) : 0);
                }, 0);
                let expected =
                  isLinked && names.length <= maxBytes && pendingBytes + names.length <= maxBytes;
                if (expected) {
                  const item = { segment, names, parentName, isStored: false, numPins: 0, numUses: 1 };
                  naive.segments.push({ ...item, lastUse: ++naive.numUses, rank: 0 });
                  expected = naive.makeRoom();
                  if (!expected)
                    naive.remove(naive.segments.find((other) => other.segment === segment)!, false);
                }
                expect(cache.reserve(segment, names.length)).toBe(expected);
                if (expected) pending.push(segment);
              }
            } else if ((kind === "written" || kind === "failed") && pending.length > 0) {
              const [segment] = pending.splice(pick % pending.length, 1) as [Segment];
              const item = naive.segments.find((other) => other.segment === segment);
              if (kind === "written") {
                cache.written(segment, numBlocksOf(segment));
                if (item === undefined) naive.deleted.push(segment.id);
                else {
                  item.isStored = true;
                  naive.rerank(item);
                }
              } else {
                cache.notWritten(segment);
                if (item !== undefined) naive.remove(item, false);
              }
            } else if (kind === "read") {
              const to = length;
              const pieces = cache.match(hashes, Math.min(pick % 3, to), to);
              const names = namesOf(hashes);
              let expected = Math.min(pick % 3, to);
              const from = expected;
              while (expected < to && naive.holder(names[expected]!)?.isStored) expected++;
              expect(pieces.reduce((sum, { numBlocks }) => sum + numBlocks, 0)).toBe(expected - from);
              for (const { segment } of pieces) {
                cache.pin(segment);
                reading.push(segment);
                const item = naive.segments.find((other) => other.segment === segment)!;
                item.numPins++;
                naive.touch(item);
              }
            } else if ((kind === "readEnd" || kind === "discard") && reading.length > 0) {
              const [segment] = reading.splice(pick % reading.length, 1) as [Segment];
              const item = naive.segments.find((other) => other.segment === segment);
              cache.unpin(segment);
              if (item !== undefined) {
                item.numPins--;
                naive.rerank(item);
              }
              if (kind === "discard") {
                cache.discard(segment);
                if (item !== undefined) naive.remove(item, true);
              }
            }
            cache.checkInvariants();
            expect(cache.stats.bytes).toBe(naive.bytes);
            expect(cache.stats.bytes).toBeLessThanOrEqual(maxBytes);
            for (const batch of kvEvents.take()) listener.apply(batch);
            const stored = naive.segments
              .filter((item) => naive.isReachable(item))
              .flatMap(({ names }) => names);
            expect(listener.tiers.host).toEqual(new Set(stored));
            deleted.push(...removedIds(cache));
            expect(deleted.toSorted((a, b) => a - b)).toEqual(naive.deleted.toSorted((a, b) => a - b));
          }
          // A listener that comes now learns the same from a snapshot.
          const late = new KvListener();
          late.sequence = listener.sequence;
          kvEvents.snapshot();
          for (const batch of kvEvents.take()) late.apply(batch);
          expect(late.tiers.host).toEqual(listener.tiers.host);
          numEvictions += cache.stats.evictions;
        },
      ),
      { numRuns: 150 },
    );
    expect(numEvictions).toBeGreaterThan(100);
  });

  it("gives up the end of the chain that was not used for longest", () => {
    const cache = makeCache("lru", 8);
    put(cache, chain(0, 0, 4), 1, [2, 2]);
    put(cache, chain(1, 0, 4), 11, [2, 2]);
    cache.pin(cache.match(chain(0, 0, 4), 0, 4)[1]!.segment);
    put(cache, chain(2, 0, 2), 21, [2]);
    expect(removedIds(cache)).toEqual([12]);
  });

  it("keeps what is used often with lfu, and what is dear to compute with cost", () => {
    const often = chain(0, 0, 2);
    for (const eviction of ["lfu", "cost"] as const) {
      const cache = makeCache(eviction, 4);
      put(cache, often, 1, [2]);
      for (let i = 0; i < 3; i++) {
        const [piece] = cache.match(often, 0, 2);
        cache.pin(piece!.segment);
        cache.unpin(piece!.segment);
      }
      put(cache, chain(1, 0, 2), 2, [2]);
      put(cache, chain(2, 0, 2), 3, [2]);
      expect(removedIds(cache)).toEqual([2]);
    }
    const cache = makeCache("cost", 12);
    put(cache, chain(0, 0, 10), 1, [9, 1]);
    put(cache, chain(1, 0, 1), 11, [1]);
    put(cache, chain(2, 0, 1), 12, [1]);
    // A block at position 36 costs more than one at 0, whatever the order.
    put(cache, chain(3, 0, 1), 13, [1]);
    expect(removedIds(cache)).toEqual([11]);
  });

  it("drops what would exceed the bytes that wait to be written, and says so", () => {
    const cache = makeCache("lru", 100, 3);
    const [first, second, third] = [0, 1, 2].map((branch) =>
      segmentOf(branch + 1, chain(branch, 0, 2), 0, 2),
    );
    expect(cache.reserve(first!, 2)).toBe(true);
    expect(cache.reserve(second!, 2)).toBe(false);
    expect(cache.stats.dropped).toBe(2);
    cache.written(first!, 2);
    expect(cache.reserve(third!, 2)).toBe(true);
  });

  it("gives nothing up for a segment that would not fit whatever were evicted", () => {
    const cache = makeCache("lru", 8);
    put(cache, chain(0, 0, 4), 1, [2, 2]);
    put(cache, chain(1, 0, 2), 11, [2]);
    const end = cache.match(chain(0, 0, 4), 0, 4)[1]!.segment;
    cache.pin(end);
    // The read segment and the one before it stay: only two blocks could go.
    expect(cache.reserve(segmentOf(21, chain(2, 0, 5), 0, 5), 5)).toBe(false);
    expect(removedIds(cache)).toEqual([]);
    expect(cache.stats).toMatchObject({ bytes: 6, evictions: 0, dropped: 5 });
    cache.unpin(end);
    expect(cache.reserve(segmentOf(22, chain(2, 0, 5), 0, 5), 5)).toBe(true);
    expect(removedIds(cache)).toEqual([11, 2]);
    cache.checkInvariants();
  });

  it("has a limit of segments that wait to be written, whatever their size", () => {
    const cache = makeCache("lru", 1e6);
    const segments = Array.from({ length: 513 }, (_, i) => segmentOf(i + 1, chain(i, 0, 1), 0, 1));
    expect(segments.filter((segment) => cache.reserve(segment, 1))).toHaveLength(512);
    expect(cache.stats.dropped).toBe(1);
    cache.written(segments[0]!, 1);
    expect(cache.reserve(segments[512]!, 1)).toBe(true);
  });

  it("counts the bytes that a segment really took, and makes room for them", () => {
    const cache = makeCache("lru", 10);
    put(cache, chain(0, 0, 4), 1, [4]);
    const late = segmentOf(2, chain(1, 0, 4), 0, 4);
    cache.reserve(late, 4);
    cache.written(late, 9);
    expect(removedIds(cache)).toEqual([1]);
    expect(cache.stats.bytes).toBe(9);
  });

  it("takes over what a former process left, in the order in which that was used", () => {
    const cache = makeCache("lru", 6);
    const [a, b] = [chain(0, 0, 4), chain(1, 0, 4)];
    const found = [
      segmentOf(7, a, 2, 4),
      segmentOf(3, a, 0, 2),
      segmentOf(9, b, 2, 4),
      segmentOf(8, b, 0, 2),
      segmentOf(20, chain(2, 0, 4), 2, 4),
      segmentOf(21, a, 1, 3),
    ];
    const useless = cache.restore(
      found.map((segment) => ({ segment, bytes: 2 })),
      0,
    );
    expect(useless.map(({ id }) => id).toSorted()).toEqual([20, 21]);
    expect(removedIds(cache)).toEqual([7]);
    expect(cache.countHeld(a, 4)).toBe(2);
    expect(cache.countHeld(b, 4)).toBe(4);
    cache.checkInvariants();
  });

  it("holds nothing and takes nothing once it has been turned off", () => {
    const cache = makeCache("lru", 10);
    const [first, second] = put(cache, chain(0, 0, 4), 1, [2, 2]);
    cache.pin(first!);
    const pending = segmentOf(5, chain(1, 0, 2), 0, 2);
    cache.reserve(pending, 2);
    cache.turnOff();
    expect(removedIds(cache)).toEqual([first!.id, second!.id]);
    expect(cache.match(chain(0, 0, 4), 0, 4)).toEqual([]);
    expect(cache.reserve(segmentOf(6, chain(2, 0, 2), 0, 2), 2)).toBe(false);
    cache.unpin(first!);
    cache.notWritten(pending);
    cache.checkInvariants();
    expect(cache.stats).toMatchObject({ blocks: 0, bytes: 0 });
  });
});
