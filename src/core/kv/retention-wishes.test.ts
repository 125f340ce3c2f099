import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { makeSequence, type RequestOverrides, tokenRange } from "../../../test/support/make.ts";
import type { Sequence } from "../sequence.ts";
import { BlockManager } from "./block-manager.ts";

const SIZE = 4;

/** Two full blocks, or more, and one token. */
const prompt = (start: number, numBlocks = 2) => tokenRange(start, numBlocks * SIZE + 1);

function makeManager(numBlocks: number): BlockManager {
  return new BlockManager({ numBlocks, blockSizeTokens: SIZE, numSlots: 16, modelId: "m" });
}

/** Admits and computes a request; it still runs. */
function begin(manager: BlockManager, request: RequestOverrides): Sequence {
  const sequence = makeSequence(request);
  const numTokens = sequence.numPromptTokens;
  expect(manager.admit(sequence, numTokens, numTokens - 1)).toBe(true);
  sequence.numCachedTokens = sequence.numComputedTokens;
  sequence.numComputedTokens = numTokens;
  manager.fileComputed(sequence);
  return sequence;
}

/** Runs a request alone; returns how many of its tokens were cached. */
function serve(manager: BlockManager, request: RequestOverrides): number {
  const sequence = begin(manager, request);
  const { numCachedTokens } = sequence;
  manager.free(sequence);
  manager.checkInvariants([]);
  return numCachedTokens;
}

const ttl = (ttlMs: number) => ({ retention: { keep: "default" as const, ttlMs } });

describe("a time to live", () => {
  it("keeps blocks after all others until it is over, and then they go first", () => {
    const manager = makeManager(12);
    manager.advance(0);
    serve(manager, { prompt: prompt(100), ...ttl(1000) });
    for (const start of [200, 300, 400, 500, 600]) serve(manager, { prompt: prompt(start) });
    manager.advance(999);
    for (const start of [700, 800]) serve(manager, { prompt: prompt(start) });
    expect(manager.find(begin(manager, { prompt: prompt(100) }).blockHashes!, 2)).toHaveLength(2);
    const other = makeManager(12);
    serve(other, { prompt: prompt(100), ...ttl(1000) });
    for (const start of [200, 300, 400, 500]) serve(other, { prompt: prompt(start) });
    other.advance(1000);
    serve(other, { prompt: prompt(600) });
    serve(other, { prompt: prompt(700) });
    expect(serve(other, { prompt: prompt(100) })).toBe(0);
    expect(serve(other, { prompt: prompt(400) })).toBe(8);
  });

  it("is renewed by every turn of a conversation", () => {
    const manager = makeManager(16);
    manager.advance(0);
    serve(manager, { prompt: prompt(100, 2), ...ttl(1000) });
    manager.advance(900);
    serve(manager, { prompt: prompt(100, 3), ...ttl(1000) });
    manager.advance(1800);
    for (const start of [200, 300, 400, 500, 600, 700]) serve(manager, { prompt: prompt(start) });
    expect(serve(manager, { prompt: prompt(100, 3) })).toBe(12);
  });

  it("keeps a tenant's blocks within its share: the beginning of what was first", () => {
    const manager = makeManager(16);
    for (const start of [100, 200, 300])
      serve(manager, { prompt: prompt(start), cacheSalt: "a", ...ttl(1e6) });
    serve(manager, { prompt: prompt(400), cacheSalt: "b", ...ttl(1e6) });
    expect(manager.leases.heldBy("a")).toBe(4);
    expect(manager.leases.heldBy("b")).toBe(2);
    for (let start = 1000; start < 1800; start += 100) serve(manager, { prompt: prompt(start) });
    expect(serve(manager, { prompt: prompt(300), cacheSalt: "a" })).toBe(0);
    expect(serve(manager, { prompt: prompt(100), cacheSalt: "a" })).toBe(8);
    expect(serve(manager, { prompt: prompt(400), cacheSalt: "b" })).toBe(8);
  });
});

describe("a fan-out", () => {
  const fanOut = (start: number, expectedFanOut: number) => ({ prompt: prompt(start), expectedFanOut });
  const fill = (manager: BlockManager, from: number) => {
    for (let start = from; start < from + 600; start += 100) serve(manager, { prompt: prompt(start) });
  };

  it("keeps a prompt until as many have come as were announced", () => {
    const manager = makeManager(12);
    manager.advance(0);
    serve(manager, fanOut(100, 3));
    fill(manager, 1000);
    // One goes on from the prompt, another one is the prompt.
    expect(serve(manager, { prompt: [...prompt(100), ...tokenRange(900, 4)] })).toBe(8);
    fill(manager, 2000);
    expect(serve(manager, fanOut(100, 3))).toBe(8);
    fill(manager, 3000);
    expect(serve(manager, { prompt: prompt(100) })).toBe(0);
  });

  it("keeps it no longer than for a while", () => {
    const manager = makeManager(12);
    manager.advance(0);
    serve(manager, fanOut(100, 9));
    manager.advance(59_999);
    fill(manager, 1000);
    expect(manager.leases.heldBy("")).toBe(2);
    manager.advance(60_000);
    expect(manager.leases.heldBy("")).toBe(0);
    fill(manager, 2000);
    expect(serve(manager, { prompt: prompt(100) })).toBe(0);
  });
});

describe("what became of leases", () => {
  const NONE = { leases: 0, blocks: 0, renewed: 0, ended: 0, expired: 0, lost: 0 };

  it("is counted: renewed, over, given back, and lost to others all the same", () => {
    const manager = makeManager(16);
    manager.advance(0);
    serve(manager, { prompt: prompt(100, 2), ...ttl(1000) });
    manager.advance(900);
    serve(manager, { prompt: prompt(100, 3), ...ttl(1000) });
    expect(manager.leases.stats).toEqual({
      turns: NONE,
      wishes: { ...NONE, leases: 2, blocks: 5, renewed: 2 },
    });
    manager.advance(1900);
    serve(manager, { prompt: prompt(200, 1), expectedFanOut: 2 });
    serve(manager, { prompt: prompt(200, 1) });
    expect(manager.leases.stats.wishes).toEqual({
      ...{ leases: 3, blocks: 6, renewed: 2, ended: 1, expired: 3, lost: 0 },
    });
    const [, block] = manager.find(begin(manager, { prompt: prompt(100, 3) }).blockHashes!, 2);
    manager.leases.take([block!], { owner: null, untilMs: 5000, maxHeld: 9 });
    expect(manager.leases.stats.turns).toEqual({ ...NONE, leases: 1, blocks: 1 });
  });

  it("counts what is needed for requests that have come", () => {
    const manager = makeManager(8);
    manager.advance(0);
    serve(manager, { prompt: prompt(100, 2), ...ttl(1000) });
    serve(manager, { prompt: prompt(200, 7) });
    expect(manager.leases.stats.wishes).toEqual({ ...NONE, leases: 1, blocks: 2, lost: 2 });
  });
});

describe("wishes", () => {
  it("keep the books whatever is asked, shared, kept and over", () => {
    const step = fc.record({
      start: fc.constantFrom(0, 100, 200, 300),
      numBlocks: fc.integer({ min: 1, max: 5 }),
      keep: fc.constantFrom("none" as const, "default" as const, "long" as const),
      ttlMs: fc.option(fc.integer({ min: 1, max: 100_000 })),
      expectedFanOut: fc.integer({ min: 1, max: 4 }),
      cacheSalt: fc.constantFrom("a", "b"),
      cacheShare: fc.constantFrom(0.3, 1),
      waitMs: fc.nat(40_000),
      comesBack: fc.boolean(),
      which: fc.nat(9),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const manager = makeManager(24);
        const running: Sequence[] = [];
        let nowMs = 0;
        for (const { start, numBlocks, keep, ttlMs, waitMs, comesBack, which, ...rest } of steps) {
          nowMs += waitMs;
          manager.advance(nowMs);
          const retention = { keep, ttlMs };
          const sequence = makeSequence({ prompt: prompt(start, numBlocks), ...rest, retention });
          if (manager.admit(sequence, sequence.numPromptTokens, sequence.numPromptTokens - 1)) {
            sequence.numCachedTokens = sequence.numComputedTokens;
            sequence.numComputedTokens = sequence.numPromptTokens;
            manager.fileComputed(sequence);
            running.push(sequence);
          }
          manager.checkInvariants(running);
          if (running.length > which % 4)
            manager.free(running.splice(which % running.length, 1)[0]!, comesBack);
          manager.checkInvariants(running);
          for (const owner of ["a", "b"]) expect(manager.leases.heldBy(owner)).toBeLessThanOrEqual(6);
        }
      }),
    );
  });
});
