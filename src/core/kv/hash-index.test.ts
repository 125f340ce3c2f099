import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { HASH_WORDS } from "../tokens/block-hash.ts";
import { HashIndex } from "./hash-index.ts";

/** Hashes that collide in their first word, so that probing and deleting are put to work. */
function hashOf(key: number): Int32Array {
  return Int32Array.of(key % 3, key, 0, key >> 1);
}

describe("HashIndex", () => {
  it("agrees with a map under any sequence of insertions and removals", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.array(fc.record({ insert: fc.boolean(), key: fc.nat(15) }), { maxLength: 120 }),
        (numBlocks, commands) => {
          const index = new HashIndex(numBlocks);
          const blockOf = new Map<number, number>();
          for (const { insert, key } of commands) {
            const block = blockOf.get(key);
            if (insert && block === undefined && blockOf.size < numBlocks) {
              const taken = new Set(blockOf.values());
              const free = Array.from({ length: numBlocks }, (_, i) => i).find((i) => !taken.has(i))!;
              index.insert(free, hashOf(key), 0);
              blockOf.set(key, free);
            } else if (!insert && block !== undefined) {
              index.remove(block);
              blockOf.delete(key);
            }
            for (let probe = 0; probe <= 15; probe++) {
              expect(index.find(hashOf(probe), 0)).toBe(blockOf.get(probe) ?? -1);
            }
            expect(index.size).toBe(blockOf.size);
          }
        },
      ),
    );
  });

  it("reads hashes at an offset", () => {
    const index = new HashIndex(4);
    const hashes = Int32Array.of(1, 1, 1, 1, 2, 2, 2, 2);
    index.insert(3, hashes, HASH_WORDS);
    expect(index.find(hashes, HASH_WORDS)).toBe(3);
    expect(index.find(hashes, 0)).toBe(-1);
  });

  it("refuses to file one hash twice", () => {
    const index = new HashIndex(4);
    index.insert(0, hashOf(5), 0);
    expect(() => index.insert(1, hashOf(5), 0)).toThrow("filed twice");
  });
});
