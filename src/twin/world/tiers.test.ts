import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TierStore, tierEndpoint } from "./tiers.ts";

describe("TierStore", () => {
  it("names the endpoint through which a worker reaches it", () => {
    expect(tierEndpoint("decode-3", "disk")).toBe("decode-3/disk");
  });

  it("takes room up to its capacity and not a byte more", () => {
    const store = new TierStore("node-0/host", "host", 100);
    expect(store.reserve(60)).toBe(true);
    expect(store.reserve(41)).toBe(false);
    expect(store.usedBytes).toBe(60);
    expect(store.reserve(40)).toBe(true);
    expect(store.freeBytes).toBe(0);
    store.release(100);
    expect([store.usedBytes, store.freeBytes, store.peakBytes]).toEqual([0, 100, 100]);
  });

  it("stops a program that gives back what it never took", () => {
    const store = new TierStore("remote", "remote", 100);
    store.reserve(10);
    expect(() => store.release(11)).toThrow(/remote gives back more/);
    expect(() => store.reserve(0.5)).toThrow(/whole bytes/);
    expect(() => store.release(-1)).toThrow(/whole bytes/);
    expect(() => new TierStore("x", "disk", 0)).toThrow(/no capacity/);
  });

  it("always holds the sum of what was taken and not given back", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 60 })), (sizes) => {
        const store = new TierStore("node-0/disk", "disk", 100);
        const held: number[] = [];
        for (const size of sizes) {
          const used = held.reduce((sum, bytes) => sum + bytes, 0);
          expect(store.usedBytes).toBe(used);
          if (store.reserve(size)) held.push(size);
          else {
            expect(used + size).toBeGreaterThan(100);
            store.release(held.shift()!);
          }
        }
      }),
    );
  });
});
