import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { placementQuery } from "../../../../test/support/placement.ts";
import { chainOf } from "../../../../test/support/placement-fleet.ts";
import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { AssumedCache } from "./assumed-cache.ts";
import { FleetCaches } from "./fleet-caches.ts";

function ask(requestId: string, ...blocks: number[]) {
  return placementQuery({
    requestId,
    numPromptTokens: 16 * blocks.length + 1,
    promptBlockHashes: chainOf(...blocks),
  });
}

describe("FleetCaches", () => {
  it("predicts while a prompt is under way, then assumes, and believes the worker as soon as it says something", () => {
    const caches = new FleetCaches({ maxBytes: 1 << 20 });
    const number = caches.add("w", 1000);
    const query = ask("a", 1, 2, 3);
    caches.look(query);
    expect(caches.cachedTokens(number)).toBe(0);
    caches.placed(query, "w", "w");
    caches.look(query);
    expect(caches.cachedTokens(number)).toBe(48);
    expect(caches.confirmedTokens(number)).toBe(0);
    caches.prefilled("a");
    caches.over("a");
    caches.look(ask("b", 1, 2, 9));
    expect(caches.cachedTokens(number)).toBe(32);
    const stored = { kind: "stored", tier: "host", parent: null, hashes: chainOf(1) } as const;
    caches.apply("w", { sequence: 1, isSnapshot: false, events: [stored] });
    caches.look(ask("c", 1, 2, 9));
    expect(caches.cachedTokens(number)).toBe(16);
    expect(caches.lowerTokens(number)).toEqual({ host: 16, disk: 0 });
    expect(caches.deviceTokens(number)).toBe(0);
    caches.checkInvariants(() => false);
  });

  it("assumes nothing of a decode worker whose request ended before its prompt was computed", () => {
    const caches = new FleetCaches({ maxBytes: 1 << 20 });
    const number = caches.add("d", 1000);
    caches.add("p", 1000);
    const query = ask("a", 1, 2, 3);
    for (const [isPrefilled, numTokens] of [
      [false, 0],
      [true, 48],
    ] as const) {
      caches.look(query);
      caches.placed(query, "p", "d");
      if (isPrefilled) caches.prefilled("a");
      caches.over("a");
      caches.look(query);
      expect(caches.cachedTokens(number)).toBe(numTokens);
    }
  });

  it("forgets a prediction with its request, and everything of a worker that has gone", () => {
    const caches = new FleetCaches({ maxBytes: 1 << 20 });
    const first = caches.add("p", 1000);
    const second = caches.add("d", 1000);
    const query = ask("a", 1, 2, 3);
    caches.look(query);
    caches.placed(query, "p", "d");
    caches.look(query);
    expect([caches.cachedTokens(first), caches.cachedTokens(second)]).toEqual([48, 48]);
    caches.remove("d");
    caches.over("a");
    caches.look(query);
    expect(caches.cachedTokens(first)).toBe(0);
    expect(caches.cachedTokens(-1)).toBe(0);
    caches.checkInvariants(() => false);
  });
});

describe("AssumedCache", () => {
  it("holds what was stored last, and its events say so", () => {
    const prompts = fc.array(fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 9 }), {
      maxLength: 30,
    });
    fc.assert(
      fc.property(prompts, fc.integer({ min: 1, max: 12 }), (chains, capacity) => {
        const cache = new AssumedCache(capacity);
        const said = new Set<string>();
        const used: string[] = [];
        for (const chain of chains) {
          const hashes = chainOf(...chain);
          const names = namesOf(hashes).slice(0, capacity);
          for (const event of cache.store(hashes)) {
            if (event.kind === "cleared") throw new Error("nothing is cleared");
            for (const name of namesOf(event.hashes)) {
              if (event.kind === "stored") said.add(name);
              else said.delete(name);
            }
          }
          for (const name of names) {
            const at = used.indexOf(name);
            if (at !== -1) used.splice(at, 1);
            used.push(name);
          }
          expect([...said].sort()).toEqual(used.slice(-capacity).sort());
          expect(cache.size).toBe(said.size);
        }
      }),
    );
  });
});

function namesOf(hashes: Int32Array): string[] {
  return Array.from({ length: hashes.length / HASH_WORDS }, (_, block) =>
    hashes.subarray(block * HASH_WORDS, (block + 1) * HASH_WORDS).join(" "),
  );
}
