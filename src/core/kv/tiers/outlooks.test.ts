import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { EVICTION_NAMES, type EvictionName, evictionPolicy } from "./eviction.ts";
import { likelihoodAt } from "./outlooks.ts";
import { segmentOf } from "./segment.ts";
import { TierCache } from "./tier-cache.ts";

const MAX_BYTES = 40;
/** A quarter of the tier. */
const SHARE = 10;

function makeCache(eviction: EvictionName): TierCache {
  return new TierCache({
    tier: "host",
    maxBytes: MAX_BYTES,
    maxPendingBytes: MAX_BYTES,
    eviction: evictionPolicy(eviction),
    recomputeMs: (start, end) => end - start,
    blockSizeTokens: 4,
  });
}

/** A conversation's chain; the first two blocks are all conversations'. */
function chainOf(conversation: number, numBlocks: number): Int32Array {
  return Int32Array.from({ length: numBlocks * HASH_WORDS }, (_, word) =>
    word < 2 * HASH_WORDS ? word + 1 : 1000 * (conversation + 1) + word,
  );
}

let numSegments = 0;

/** Puts blocks that are missing in, as one segment per `step` blocks and a byte per block. */
function put(cache: TierCache, chain: Int32Array, step = 2): void {
  const numBlocks = chain.length / HASH_WORDS;
  for (let from = cache.countHeld(chain, numBlocks); from < numBlocks; from += step) {
    const segment = segmentOf(++numSegments, chain, from, Math.min(from + step, numBlocks));
    const bytes = Math.min(step, numBlocks - from);
    if (!cache.reserve(segment, bytes)) return;
    cache.written(segment, bytes);
  }
}

const held = (cache: TierCache, chain: Int32Array) => cache.countHeld(chain, chain.length / HASH_WORDS);

/** Fills the tier with other conversations, each longer than the rest of it. */
function fill(cache: TierCache, from: number, count: number): void {
  for (let i = from; i < from + count; i++) put(cache, chainOf(i, 12));
}

describe("outlooks of a tier's segments", () => {
  it.each(EVICTION_NAMES)("keep a chain after all others until its time is over, with %s", (eviction) => {
    const cache = makeCache(eviction);
    const chain = chainOf(0, 8);
    put(cache, chain);
    cache.keep(chain, 8, "a", 1000);
    fill(cache, 1, 8);
    expect(held(cache, chain)).toBe(8);
    cache.advance(1000);
    fill(cache, 10, 8);
    expect(held(cache, chain)).toBe(2);
    cache.checkInvariants();
  });

  it("keep no more of one owner than its share", () => {
    const cache = makeCache("lru");
    const [first, second, other] = [chainOf(0, 8), chainOf(1, 8), chainOf(2, 8)];
    for (const [chain, owner] of [
      [first, "a"],
      [second, "a"],
      [other, "b"],
    ] as const) {
      put(cache, chain);
      cache.keep(chain, 8, owner, 1000);
    }
    fill(cache, 10, 8);
    // The shared beginning counts for whoever was last; what is left of the share is two blocks.
    expect([first, second, other].map((chain) => held(cache, chain))).toEqual([8, 4, 8]);
    cache.checkInvariants();
  });

  it("let a conversation go first that will hardly come back, then one that is overdue, and last one that is due", () => {
    const cache = makeCache("cost");
    const chains = [0, 1, 2, 3].map((conversation) => chainOf(conversation, 10));
    for (const chain of chains) put(cache, chain, 8);
    const [single, overdue, due, unknown] = chains as [Int32Array, Int32Array, Int32Array, Int32Array];
    cache.expect(single, { earlyMs: 100, lateMs: 1000, probability: 0.05 });
    cache.expect(overdue, { earlyMs: 10, lateMs: 40, probability: 0.9 });
    cache.expect(due, { earlyMs: 40, lateMs: 90, probability: 0.9 });
    cache.advance(50);
    const left: Int32Array[][] = [];
    for (let i = 10; i < 14; i++) {
      put(cache, chainOf(i, 10), 8);
      // Newcomers are as good as the unknown one; what was used more is theirs.
      left.push(chains.filter((chain) => held(cache, chain) === 10));
    }
    expect(left[0]).toEqual([overdue, due, unknown]);
    expect(left[1]).toEqual([due, unknown]);
    expect(left[2]).toContain(due);
    expect(left[2]).not.toContain(unknown);
  });

  it("say that a conversation is the likelier the sooner it is due, and unlikely when it is late", () => {
    const comesBack = { earlyMs: 100, lateMs: 300, probability: 0.8 };
    expect([0, 99, 100, 299].map((ms) => likelihoodAt(comesBack, ms))).toEqual([0.8, 0.8, 1.6, 1.6]);
    expect(likelihoodAt(comesBack, 300)).toBeCloseTo(0.08 / 0.28);
    expect(likelihoodAt(null, 5)).toBe(1);
    expect(likelihoodAt({ ...comesBack, probability: 1 }, 300)).toBeCloseTo(1);
  });

  it("keep their books through any mixture of writes, wishes, expectations and evictions", () => {
    const step = fc.record({
      kind: fc.constantFrom(
        "put" as const,
        "keep" as const,
        "expect" as const,
        "wait" as const,
        "discard" as const,
      ),
      conversation: fc.nat(5),
      numBlocks: fc.integer({ min: 1, max: 14 }),
      owner: fc.constantFrom("a", "b"),
      ms: fc.nat(300),
      probability: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(
        fc.constantFrom(...EVICTION_NAMES),
        fc.array(step, { maxLength: 80 }),
        (eviction, steps) => {
          const cache = makeCache(eviction);
          let nowMs = 0;
          for (const { kind, conversation, numBlocks, owner, ms, probability } of steps) {
            const chain = chainOf(conversation, numBlocks);
            if (kind === "wait") nowMs += ms;
            if (kind === "put") put(cache, chain, 1 + (ms % 4));
            else if (kind === "keep") cache.keep(chain, numBlocks, owner, nowMs + ms);
            else if (kind === "expect")
              cache.expect(chain, { earlyMs: nowMs, lateMs: nowMs + ms, probability });
            else if (kind === "wait") cache.advance(nowMs);
            else for (const { segment } of cache.match(chain, 0, numBlocks).slice(-1)) cache.discard(segment);
            cache.takeDeletions();
            cache.checkInvariants();
            for (const each of ["a", "b"]) expect(cache.keptBytesOf(each)).toBeLessThanOrEqual(SHARE);
          }
        },
      ),
    );
  });

  it("say where room takes nothing that is due: the first chain's end goes first", () => {
    const chain = fc.record({
      isExpected: fc.boolean(),
      earlyMs: fc.nat(100),
      widthMs: fc.integer({ min: 1, max: 100 }),
    });
    const counts = { spare: 0, due: 0 };
    fc.assert(
      fc.property(
        fc.array(chain, { minLength: 5, maxLength: 5 }),
        fc.nat(200),
        fc.integer({ min: 1, max: 20 }),
        (all, nowMs, bytes) => {
          const cache = makeCache("lru");
          // Two blocks that all share, and six of each: 32 of 40 bytes.
          for (const [i, { isExpected, earlyMs, widthMs }] of all.entries()) {
            put(cache, chainOf(i, 8));
            const comesBack = { earlyMs, lateMs: earlyMs + widthMs, probability: 1 };
            if (isExpected) cache.expect(chainOf(i, 8), comesBack);
          }
          cache.advance(nowMs);
          const { isExpected, earlyMs, widthMs } = all[0]!;
          const isDue = isExpected && earlyMs <= nowMs && nowMs < earlyMs + widthMs;
          counts[isDue ? "due" : "spare"]++;
          expect(cache.hasSpareRoom(bytes)).toBe(bytes <= 8 || !isDue);
          cache.checkInvariants();
        },
      ),
    );
    expect(counts.spare).toBeGreaterThan(0);
    expect(counts.due).toBeGreaterThan(0);
  });
});
