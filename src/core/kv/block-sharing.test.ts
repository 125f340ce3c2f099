import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { makeSequence, type RequestOverrides, tokenRange } from "../../../test/support/make.ts";
import type { Sequence } from "../sequence.ts";
import { BlockHasher, HASH_WORDS } from "../tokens/block-hash.ts";
import { BlockManager } from "./block-manager.ts";
import { KvTiers } from "./tiers/kv-tiers.ts";

const SIZE = 4;
const MODEL = "m";

function makeManager(maxCachedBlocks: number, numBlocks = 64): BlockManager {
  return new BlockManager({
    numBlocks,
    blockSizeTokens: SIZE,
    numSlots: 64,
    modelId: MODEL,
    maxCachedBlocks,
  });
}

/** Runs a request to its end; returns how many of its tokens were cached. */
function serve(manager: BlockManager, request: RequestOverrides): number {
  const sequence = makeSequence(request);
  const numTokens = sequence.numPromptTokens;
  expect(manager.admit(sequence, numTokens, numTokens - 1)).toBe(true);
  const cached = sequence.numComputedTokens;
  sequence.numCachedTokens = cached;
  sequence.numComputedTokens = numTokens;
  manager.fileComputed(sequence);
  manager.free(sequence);
  manager.takeEffects();
  manager.checkInvariants([]);
  return cached;
}

/** `numBlocks` blocks and one more token, which is always computed. */
const prompt = (start: number, numBlocks = 2) => tokenRange(start, numBlocks * SIZE + 1);

describe("tenants in the prefix cache", () => {
  it("find what the same salt has computed, and nothing of another salt", () => {
    const manager = makeManager(64);
    expect(serve(manager, { prompt: prompt(0), cacheSalt: "a" })).toBe(0);
    expect(serve(manager, { prompt: prompt(0), cacheSalt: "b" })).toBe(0);
    expect(serve(manager, { prompt: prompt(0), cacheSalt: "a" })).toBe(2 * SIZE);
  });

  it("share public blocks, and nothing behind them", () => {
    const manager = makeManager(64);
    const ask = (cacheSalt: string) => {
      const tokens = Int32Array.from(prompt(0, 5));
      const knownBlockHashes = new Int32Array(2 * HASH_WORDS);
      const hasher = new BlockHasher({ blockSizeTokens: SIZE, modelId: MODEL, cacheSalt: "public" });
      hasher.hashBlocks(tokens, 0, 2, knownBlockHashes);
      return serve(manager, { prompt: tokens, cacheSalt, knownBlockHashes, publicBlocks: 2 });
    };
    expect(["a", "b", "a", "b"].map(ask)).toEqual([0, 2 * SIZE, 5 * SIZE, 5 * SIZE]);
  });

  it("with a share of it have no more than that share, and take nothing from others for what is beyond", () => {
    const request = fc.record({ cacheSalt: fc.constantFrom("a", "b", "c"), which: fc.nat(12) });
    fc.assert(
      fc.property(
        fc.array(request, { maxLength: 60 }),
        fc.constantFrom(0, 0.25, 0.5),
        (requests, cacheShare) => {
          const manager = makeManager(16);
          for (const { cacheSalt, which } of requests) {
            const before = manager.numCachedBlocks;
            const own = cacheSalt === "a" ? { cacheShare } : {};
            serve(manager, { prompt: prompt(100 * which, 3), cacheSalt, ...own });
            if (cacheSalt === "a" && cacheShare === 0) expect(manager.numCachedBlocks).toBe(before);
          }
          const sequences = Array.from({ length: 13 }, (_, which) =>
            makeSequence({ prompt: prompt(100 * which, 3), cacheSalt: "a" }),
          ).filter((sequence) => manager.admit(sequence, 3 * SIZE, 3 * SIZE));
          const numFound = sequences.reduce(
            (sum, { numComputedTokens }) => sum + numComputedTokens / SIZE,
            0,
          );
          expect(numFound).toBeLessThanOrEqual(Math.floor(cacheShare * 16));
          manager.checkInvariants(sequences);
        },
      ),
    );
  });

  it("with a share of it lose their own oldest first", () => {
    const manager = makeManager(16);
    const own = { cacheSalt: "a", cacheShare: 0.25 };
    serve(manager, { prompt: prompt(900, 6), cacheSalt: "b" });
    for (const start of [0, 100, 200]) serve(manager, { prompt: prompt(start), ...own });
    expect(serve(manager, { prompt: prompt(900, 6), cacheSalt: "b" })).toBe(6 * SIZE);
    expect([200, 100, 0].map((start) => serve(manager, { prompt: prompt(start), ...own }))).toEqual([
      8, 8, 0,
    ]);
  });
});

describe("wishes for the prefix cache", () => {
  const wish = (keep: "none" | "default" | "long") => ({ retention: { keep, ttlMs: null } });

  it("let go first of what nobody comes back for, and last of what somebody will", () => {
    const manager = makeManager(6);
    serve(manager, { prompt: prompt(100), ...wish("long") });
    serve(manager, { prompt: prompt(200) });
    serve(manager, { prompt: prompt(300), ...wish("none") });
    serve(manager, { prompt: prompt(400) });
    serve(manager, { prompt: prompt(500) });
    // 300 went for 400, then 200 for 500, though 100 is older.
    const found = [100, 200, 300, 400, 500].map((start) => {
      const sequence = makeSequence({ prompt: prompt(start) });
      manager.admit(sequence, 8, 8);
      return [sequence, sequence.numComputedTokens] as const;
    });
    expect(found.map(([, cached]) => cached)).toEqual([8, 0, 0, 8, 8]);
  });

  it("keep no more than half of the cache after the rest", () => {
    const manager = makeManager(8);
    for (const start of [100, 200, 300]) serve(manager, { prompt: prompt(start), ...wish("long") });
    // The first has become like any other, so four more blocks push it out.
    for (const start of [400, 500]) serve(manager, { prompt: prompt(start) });
    expect(
      [200, 300, 100].map((start) => serve(manager, { prompt: prompt(start), ...wish("long") })),
    ).toEqual([8, 8, 0]);
  });

  it("leave to others what was found and not computed", () => {
    const manager = makeManager(4);
    serve(manager, { prompt: prompt(100), ...wish("long") });
    serve(manager, { prompt: prompt(100), ...wish("none") });
    for (const start of [200, 300]) serve(manager, { prompt: prompt(start, 1) });
    serve(manager, { prompt: prompt(400, 1) });
    expect(serve(manager, { prompt: prompt(100) })).toBe(8);
  });

  it("lose the end of a prefix before its beginning, also of what nobody comes back for", () => {
    const manager = makeManager(2);
    serve(manager, { prompt: prompt(100, 3), ...wish("none") });
    expect(serve(manager, { prompt: prompt(100, 3) })).toBe(8);
    const own = { cacheSalt: "a", cacheShare: 0.25 };
    const sharing = makeManager(8);
    serve(sharing, { prompt: prompt(100, 3), ...own, ...wish("none") });
    expect(serve(sharing, { prompt: prompt(100, 3), ...own })).toBe(8);
  });

  it.each([
    ["none", false, 0],
    ["none", true, 1],
    ["default", false, 1],
    ["long", false, 1],
  ] as const)(
    "%s copies to lower tiers, when preempted: %s, this often: %d",
    (keep, comesBack, numCopies) => {
      const tiers = new KvTiers({
        tiers: [{ tier: "host", maxBytes: 1000 }],
        eviction: "lru",
        blockSizeTokens: SIZE,
        bytesPerToken: 1,
      });
      const manager = new BlockManager({
        numBlocks: 8,
        blockSizeTokens: SIZE,
        numSlots: 8,
        modelId: MODEL,
        tiers,
      });
      const sequence = makeSequence({ prompt: prompt(100), ...wish(keep) });
      expect(manager.admit(sequence, sequence.numPromptTokens, 0)).toBe(true);
      sequence.numComputedTokens = sequence.numPromptTokens;
      manager.fileComputed(sequence);
      manager.free(sequence, comesBack);
      expect(manager.takeEffects().filter(({ kind }) => kind === "offload")).toHaveLength(numCopies);
    },
  );

  it("hold whatever is asked and shared", () => {
    const request = fc.record({
      start: fc.constantFrom(0, 100, 200, 300),
      numBlocks: fc.integer({ min: 1, max: 5 }),
      keep: fc.constantFrom("none", "default", "long"),
      cacheSalt: fc.constantFrom("a", "b"),
      cacheShare: fc.constantFrom(0, 0.3, 1),
      isOver: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(request, { maxLength: 50 }), (requests) => {
        const manager = makeManager(10, 24);
        const running: Sequence[] = [];
        for (const { start, numBlocks, keep, isOver, ...rest } of requests) {
          const sequence = makeSequence({ prompt: prompt(start, numBlocks), ...rest, ...wish(keep) });
          const numTokens = sequence.numPromptTokens;
          if (manager.admit(sequence, numTokens, numTokens - 1)) {
            sequence.numCachedTokens = sequence.numComputedTokens;
            sequence.numComputedTokens = numTokens;
            manager.fileComputed(sequence);
            running.push(sequence);
          }
          if (isOver || running.length > 3)
            manager.free(running.splice(start % Math.max(1, running.length), 1)[0] ?? sequence);
          manager.checkInvariants(running);
        }
      }),
    );
  });
});
