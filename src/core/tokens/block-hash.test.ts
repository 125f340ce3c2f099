import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { blake2s } from "./blake2s.ts";
import { BlockHasher, HASH_WORDS } from "./block-hash.ts";

function hashAll(
  tokens: Int32Array,
  options: { blockSizeTokens: number; cacheSalt: string; modelId: string },
): string[] {
  const numBlocks = Math.floor(tokens.length / options.blockSizeTokens);
  const out = new Int32Array(numBlocks * HASH_WORDS);
  new BlockHasher(options).hashBlocks(tokens, 0, numBlocks, out);
  return Array.from({ length: numBlocks }, (_, i) => out.slice(i * HASH_WORDS, (i + 1) * HASH_WORDS).join());
}

const BASE = { blockSizeTokens: 16, cacheSalt: "tenant", modelId: "model" };

describe("BLAKE2s", () => {
  it("agrees with OpenSSL on any input", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const digest = Buffer.from(blake2s(bytes, 32).buffer).toString("hex");
        expect(digest).toBe(createHash("blake2s256").update(bytes).digest("hex"));
      }),
    );
  });
});

describe("BlockHasher", () => {
  it("gives equal hashes to equal prefixes and different ones from the first difference on", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(60_000), { minLength: 80, maxLength: 200 }),
        fc.constantFrom(4, 16, 20, 64),
        fc.nat(),
        (tokens, blockSizeTokens, where) => {
          const options = { ...BASE, blockSizeTokens };
          const changed = Int32Array.from(tokens);
          const at = where % changed.length;
          changed[at] = changed[at]! + 1;
          const a = hashAll(Int32Array.from(tokens), options);
          const b = hashAll(changed, options);
          const firstDifferent = Math.floor(at / blockSizeTokens);
          a.forEach((hash, i) => {
            expect(hash === b[i]).toBe(i < firstDifferent);
          });
          expect(new Set(a).size).toBe(a.length);
        },
      ),
    );
  });

  it("separates tenants, models and block sizes", () => {
    const tokens = Int32Array.from({ length: 64 }, (_, i) => i);
    const all = [
      BASE,
      { ...BASE, cacheSalt: "other" },
      { ...BASE, modelId: "other" },
      { ...BASE, cacheSalt: "tenantm", modelId: "odel" },
      { ...BASE, blockSizeTokens: 32 },
    ].flatMap((options) => hashAll(tokens, options));
    expect(new Set(all).size).toBe(all.length);
  });

  it("shares public blocks and nothing behind them", () => {
    const tokens = Int32Array.from({ length: 160 }, (_, i) => i);
    const publicHasher = new BlockHasher({ ...BASE, cacheSalt: "public" });
    const chains = ["a", "b"].map((cacheSalt) => {
      const out = new Int32Array(10 * HASH_WORDS);
      publicHasher.hashBlocks(tokens, 0, 3, out);
      new BlockHasher({ ...BASE, cacheSalt }).hashBlocks(tokens, 3, 7, out, 3);
      return Array.from({ length: 10 }, (_, i) => out.slice(i * HASH_WORDS, (i + 1) * HASH_WORDS).join());
    });
    expect(chains[0]?.slice(0, 3)).toEqual(chains[1]?.slice(0, 3));
    const own = [...chains[0]!.slice(3), ...chains[1]!.slice(3)];
    // Neither another tenant's nor what the whole would be under any one salt.
    for (const cacheSalt of ["a", "b", "public"]) own.push(...hashAll(tokens, { ...BASE, cacheSalt }));
    expect(new Set([...own, ...chains[0]!.slice(0, 3)]).size).toBe(7 + 7 + 3 * 10);
  });

  it("continues a chain from any block", () => {
    const tokens = Int32Array.from({ length: 160 }, (_, i) => i * 7);
    const whole = new Int32Array(10 * HASH_WORDS);
    new BlockHasher(BASE).hashBlocks(tokens, 0, 10, whole);
    const pieces = new Int32Array(10 * HASH_WORDS);
    const hasher = new BlockHasher(BASE);
    hasher.hashBlocks(tokens, 0, 3, pieces);
    hasher.hashBlocks(tokens, 3, 6, pieces);
    hasher.hashBlocks(tokens, 9, 1, pieces);
    expect(pieces).toEqual(whole);
  });
});
