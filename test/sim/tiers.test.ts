import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EVICTION_NAMES } from "../../src/core/kv/tiers/eviction.ts";
import type { Request } from "../../src/core/request.ts";
import type { TurnExpectation } from "../../src/core/sessions/turn-expectation.ts";
import { BlockHasher, HASH_WORDS } from "../../src/core/tokens/block-hash.ts";
import type { RequestEvent } from "../../src/core/worker-effects.ts";
import { chooserFrom, interleaving, LoopFleet, requestMaker, workerOptions } from "../support/loop-fleet.ts";
import { makeRequest, tokenRange } from "../support/make.ts";
import { expectedOutput, NaiveWorker, type Outbox } from "../support/naive-worker.ts";

/** A pool, and tiers of a few dozen blocks of four tokens. */
const tieredOptions = fc
  .record({
    worker: workerOptions,
    numBlocks: fc.integer({ min: 20, max: 26 }),
    hostBytes: fc.integer({ min: 8, max: 200 }),
    diskBytes: fc.integer({ min: 8, max: 600 }),
    maxPendingBytes: fc.integer({ min: 8, max: 200 }),
    which: fc.nat(2),
    eviction: fc.constantFrom(...EVICTION_NAMES),
    faults: fc.array(fc.boolean(), { minLength: 1, maxLength: 30 }),
    faultless: fc.boolean(),
  })
  .map(({ worker, numBlocks, hostBytes, diskBytes, maxPendingBytes, which, eviction, faults, faultless }) => {
    let at = 0;
    const host = { tier: "host", maxBytes: hostBytes } as const;
    const disk = { tier: "disk", maxBytes: diskBytes } as const;
    return {
      ...worker,
      numBlocks,
      tiers: { tiers: which === 0 ? [host] : which === 1 ? [disk] : [host, disk], eviction, maxPendingBytes },
      failsNext: () => !faultless && faults[at++ % faults.length]!,
    };
  });

const NAIVE_BLOCK = 4;

/** The request with the hashes of its prompt's full blocks, as a gateway sends them. */
function hashed(request: Request): Request {
  const numBlocks = Math.floor(request.promptTokens.length / NAIVE_BLOCK);
  const hasher = new BlockHasher({ blockSizeTokens: NAIVE_BLOCK, cacheSalt: "", modelId: "naive" });
  const knownBlockHashes = new Int32Array(numBlocks * HASH_WORDS);
  for (let block = 0; block < numBlocks; block++)
    hasher.hashBlock(request.promptTokens, block * NAIVE_BLOCK, block, knownBlockHashes);
  return { ...request, knownBlockHashes };
}

/** What a dispatcher says when a turn with this prompt, or a shorter one, is over. */
function expectationOf(
  { knownBlockHashes: chain }: Request,
  depth: number,
  lateMs: number,
): TurnExpectation | null {
  const numBlocks = Math.min(depth, chain!.length / HASH_WORDS);
  if (numBlocks === 0) return null;
  const lastHash = chain!.slice((numBlocks - 1) * HASH_WORDS, numBlocks * HASH_WORDS);
  return { lastHash, numBlocks, earlyMs: 0, lateMs, probability: 1, owner: { cacheSalt: "" } };
}

describe("worker loops with lower tiers", () => {
  it("give every request its exact output, whatever is brought up for turns that come or do not", () => {
    const moved = { host: 0, device: 0 };
    // A device and host memory that hold one of the prompts, and a disk that holds all.
    const options = fc.record({
      worker: workerOptions,
      hostBytes: fc.integer({ min: 40, max: 120 }),
      faults: fc.array(fc.nat(9), { minLength: 1, maxLength: 30 }),
    });
    const round = fc.record({
      make: requestMaker,
      isSplit: fc.boolean(),
      isCancelled: fc.nat(5),
      numSteps: fc.nat(120),
      expected: fc.array(fc.tuple(fc.nat(13), fc.integer({ min: 1, max: 12 }), fc.nat(50)), { maxLength: 3 }),
    });
    fc.assert(
      fc.property(
        options,
        fc.array(round, { minLength: 4, maxLength: 14 }),
        interleaving,
        ({ worker, hostBytes, faults }, rounds, numbers) => {
          let at = 0;
          const bounds = [
            { tier: "host", maxBytes: hostBytes },
            { tier: "disk", maxBytes: 5000 },
          ] as const;
          const tiers = { tiers: bounds, eviction: "lru" } as const;
          const failsNext = () => faults[at++ % faults.length] === 0;
          const fleet = new LoopFleet(
            ["p", "d"],
            { ...worker, numBlocks: 20, tiers, failsNext },
            chooserFrom(numbers),
          );
          const requests: Request[] = [];
          for (const [i, { make, isSplit, isCancelled, numSteps, expected }] of rounds.entries()) {
            const retention = { keep: "default", ttlMs: numSteps + 1 } as const;
            const wishes = i % 3 === 0 ? { retention } : i % 3 === 1 ? { expectedFanOut: 3 } : {};
            const request = hashed({ ...make(i), ...wishes });
            requests.push(request);
            if (isSplit) fleet.split(request, "p", "d");
            else fleet.local(request, "d");
            for (const [which, depth, lateMs] of expected) {
              const expectation = expectationOf(requests[which % requests.length]!, depth, lateMs);
              if (expectation === null) continue;
              for (const id of ["p", "d"])
                fleet.call(id, ({ loop }) => loop.expect(expectation, fleet.nowMs));
            }
            for (let step = 0; step < numSteps; step++) fleet.advance();
            fleet.nowMs += numSteps;
            if (isCancelled === 0) fleet.cancel(request);
          }
          fleet.finish();
          for (const request of requests) {
            const { tokens, end } = fleet.outcomes.get(request.id)!;
            expect(end).not.toBeNull();
            for (const [index, token] of tokens) expect(token).toBe(expectedOutput(request)[index]);
          }
          fleet.expectBaseline();
          for (const { prefetcher } of fleet.workers.values()) {
            const { bytes, pending, begun, stopped } = prefetcher.stats;
            expect(pending).toBe(0);
            for (const { started, used, wasted, gone } of Object.values(bytes)) {
              expect(used + wasted).toBe(started);
              expect(gone).toBeLessThanOrEqual(wasted);
              if (started > 0) expect(begun).toBeGreaterThan(0);
            }
            expect(stopped).toBeLessThanOrEqual(begun);
            moved.host += bytes.host.started;
            moved.device += bytes.device.started;
          }
        },
      ),
      // So many that KV surely comes up to both in some of them.
      { numRuns: 150 },
    );
    expect(moved.host).toBeGreaterThan(0);
    expect(moved.device).toBeGreaterThan(0);
  });

  it("give every request its exact output, whatever is evicted, lost or refused on the way", () => {
    let numOnboarded = 0;
    fc.assert(
      fc.property(
        tieredOptions,
        fc.array(fc.tuple(requestMaker, fc.nat(2), fc.nat(600), fc.nat(3)), { minLength: 1, maxLength: 14 }),
        interleaving,
        (options, shapes, numbers) => {
          const fleet = new LoopFleet(["p", "d"], options, chooserFrom(numbers));
          const requests = shapes.map(([make, place, cancelAt, source], i) => ({
            request: make(i),
            place,
            cancelAt,
            source,
          }));
          for (const { request, place, source } of requests) {
            // Any of them may be asked for what it has of the prompt, the decode worker of the same request too.
            const from = [undefined, "p", "d", "gone"][source];
            if (place === 0) fleet.local(request, "d", from);
            else fleet.split(request, "p", "d", from);
          }
          for (let turn = 0; turn < 600; turn++) {
            for (const { request, cancelAt } of requests) if (cancelAt === turn) fleet.cancel(request);
            if (!fleet.advance()) break;
          }
          fleet.finish();
          for (const { request } of requests) {
            const { tokens, end } = fleet.outcomes.get(request.id)!;
            const expected = expectedOutput(request);
            expect(end).not.toBeNull();
            // An engine that refuses KV fails a handoff, never a request whose KV came from a tier.
            for (const [index, token] of tokens) expect(token).toBe(expected[index]);
            if (end === "finished") expect(tokens.size).toBe(expected.length);
          }
          fleet.expectBaseline();
          for (const worker of fleet.workers.values()) {
            for (const [tier, stats] of worker.tiers.stats) {
              numOnboarded += stats.hits;
              // Nothing that a tier has forgotten is left in its store.
              const kept = [...worker.stores[tier].values()].reduce((sum, { length }) => sum + length, 0);
              expect(kept).toBe(stats.bytes);
              expect(stats.blocks * worker.blocks.blockSizeTokens).toBe(stats.bytes);
            }
          }
        },
      ),
      { numRuns: 240 },
    );
    expect(numOnboarded).toBeGreaterThan(0);
  });

  it("never fail a request that runs on one worker", () => {
    fc.assert(
      fc.property(
        tieredOptions,
        fc.array(requestMaker, { minLength: 1, maxLength: 14 }),
        interleaving,
        (options, makers, numbers) => {
          const fleet = new LoopFleet(["w"], options, chooserFrom(numbers));
          const requests = makers.map((make, i) => make(i));
          for (const request of requests) fleet.local(request, "w");
          fleet.finish();
          for (const request of requests) {
            expect(fleet.outcomes.get(request.id)!.end).toBe("finished");
            expect(fleet.textOf(request)).toEqual(expectedOutput(request));
          }
          fleet.expectBaseline();
        },
      ),
      { numRuns: 60 },
    );
  });

  it.each(["host", "disk"] as const)(
    "find a prefix in %s for the tenant that it belongs to, and for no other",
    (tier) => {
      const options = {
        numBlocks: 12,
        tiers: { tiers: [{ tier, maxBytes: 1000 }], eviction: "lru" } as const,
      };
      const fleet = new LoopFleet(["w"], options, () => 0);
      const run = (id: string, cacheSalt: string, start: number) => {
        const request = makeRequest({ id, cacheSalt, prompt: tokenRange(start, 40), maxOutputTokens: 2 });
        fleet.local(request, "w");
        fleet.finish();
        expect(fleet.textOf(request)).toEqual(expectedOutput(request));
        return fleet.workers.get("w")!.tiers.stats[0]![1].hits;
      };
      expect(run("first", "a", 1)).toBe(0);
      // Another prompt takes all blocks of the device, each time.
      expect(run("between", "a", 500)).toBe(0);
      expect(run("foreign", "b", 1)).toBe(0);
      const afterOwn = run("own", "a", 1);
      expect(afterOwn).toBeGreaterThanOrEqual(8);
      // The other tenant has computed its own copy by now.
      expect(run("foreign again", "b", 1)).toBeGreaterThanOrEqual(afterOwn + 8);
    },
  );

  it("take a prefix from another worker's cache, for the tenant that it belongs to, and for no other", () => {
    const fleet = new LoopFleet(["a", "b"], { numBlocks: 20 }, () => 0);
    const ask = (id: string, worker: string, cacheSalt: string, from?: string) => {
      const request = makeRequest({ id, cacheSalt, prompt: tokenRange(1, 40), maxOutputTokens: 2 });
      fleet.local(request, worker, from);
      fleet.finish();
      expect(fleet.textOf(request)).toEqual(expectedOutput(request));
      const { plans } = fleet.workers.get(worker)!;
      return plans.filter((plan) => plan.chunks.some(({ sequence }) => sequence.request.id === id))[0]!
        .numTokens;
    };
    ask("first", "a", "mine");
    // All but one block of 40 tokens comes over; the budget of a step is 16.
    expect(ask("fetched", "b", "mine", "a")).toBe(4);
    expect(ask("foreign", "b", "theirs", "a")).toBe(16);
    fleet.kill("a");
    expect(ask("lost", "b", "others", "a")).toBe(16);
    fleet.expectBaseline();
  });

  it.each(["host", "disk"] as const)(
    "take a prefix from another worker's %s, for the tenant that it belongs to, and leave its device alone",
    (tier) => {
      const options = {
        numBlocks: 12,
        tiers: { tiers: [{ tier, maxBytes: 1000 }], eviction: "lru" } as const,
      };
      const fleet = new LoopFleet(["a", "b"], options, () => 0);
      const ask = (id: string, worker: string, cacheSalt: string, start: number, from?: string): number => {
        const request = makeRequest({ id, cacheSalt, prompt: tokenRange(start, 40), maxOutputTokens: 2 });
        fleet.local(request, worker, from);
        fleet.finish();
        expect(fleet.textOf(request)).toEqual(expectedOutput(request));
        const { plans } = fleet.workers.get(worker)!;
        return plans.find((plan) => plan.chunks.some(({ sequence }) => sequence.request.id === id))!
          .numTokens;
      };
      ask("first", "a", "mine", 1);
      // Takes the device.
      ask("between", "a", "mine", 500);
      const holder = fleet.workers.get("a")!;
      const numPlans = holder.plans.length;
      const numCached = holder.blocks.numCachedBlocks;
      expect(ask("fetched", "b", "mine", 1, "a")).toBe(4);
      expect(ask("foreign", "b", "theirs", 1, "a")).toBe(16);
      expect([holder.plans.length, holder.blocks.numCachedBlocks]).toEqual([numPlans, numCached]);
      fleet.expectBaseline();
    },
  );

  it("keep what a store was too busy to read, and compute it this time", () => {
    const options = {
      numBlocks: 12,
      tiers: { tiers: [{ tier: "disk", maxBytes: 1000 }], eviction: "lru" } as const,
    };
    const fleet = new LoopFleet(["w"], options, () => 0);
    const { loop, tiers } = fleet.workers.get("w")!;
    const ask = (id: string, start: number): void => {
      const request = makeRequest({ id, prompt: tokenRange(start, 46), maxOutputTokens: 2 });
      fleet.local(request, "w");
      fleet.finish();
      expect(fleet.textOf(request)).toEqual(expectedOutput(request));
    };
    ask("first", 1);
    ask("between", 500);
    const { blocks } = tiers.stats[0]![1];
    const report = loop.tierReport.bind(loop);
    let numReads = 0;
    loop.tierReport = (outcome, nowMs) => {
      if (outcome.kind === "read") numReads++;
      report(outcome.kind === "read" ? { ...outcome, payload: null, wasBusy: true } : outcome, nowMs);
    };
    ask("busy", 1);
    expect(numReads).toBe(1);
    expect(tiers.stats[0]![1]).toMatchObject({ blocks, bad: 0 });
    loop.tierReport = report;
    ask("another", 500);
    ask("quiet", 1);
    expect(tiers.stats[0]![1].hits).toBeGreaterThanOrEqual(11);
    fleet.expectBaseline();
  });

  it("go on without what comes too late, and have nothing to wait for while an import is with the engine", () => {
    const host = { tier: "host", maxBytes: 1000 } as const;
    const emitted: RequestEvent[] = [];
    const outbox: Outbox = { send: () => {}, emit: (_, events) => emitted.push(...events) };
    const worker = new NaiveWorker("w", outbox, {
      numBlocks: 12,
      tiers: { tiers: [host], eviction: "lru" },
    });
    const runAll = (): void => {
      while (worker.runJob(0) || worker.io.length > 0) worker.io.shift()?.(0);
    };
    const submit = (id: string, start: number): Request => {
      const request = makeRequest({ id, prompt: tokenRange(start, 40), maxOutputTokens: 2 });
      worker.loop.submit(request, { kind: "local" }, 0);
      worker.settle();
      return request;
    };
    submit("first", 1);
    runAll();
    submit("between", 500);
    runAll();
    const request = submit("late", 1);
    // Its KV has been read, and the import is queued.
    while (worker.jobs.every(({ kind }) => kind !== "install-kv")) {
      if (worker.io.length > 0) worker.io.shift()!(0);
      else expect(worker.runJob(0)).toBe(true);
    }
    const deadlineMs = worker.loop.nextDeadlineMs;
    expect(Number.isFinite(deadlineMs)).toBe(true);
    worker.loop.tick(deadlineMs);
    worker.settle();
    expect(worker.loop.nextDeadlineMs).toBe(Number.POSITIVE_INFINITY);
    emitted.length = 0;
    runAll();
    const tokens = emitted.flatMap((event) => (event.kind === "token" ? [event.sampled.token] : []));
    expect(tokens).toEqual(expectedOutput(request));
    expect(worker.loop.numRequests).toBe(0);
    worker.check();
  });
});
