import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { HASH_WORDS } from "../../core/tokens/block-hash.ts";
import { promptBlockHashes, uniqueBlockHashes } from "./block-identity.ts";
import type { PromptBlocks } from "./workload.ts";

function hashesOf(blocks: PromptBlocks, inputTokens: number, blockTokens: number): string[] {
  const out = new Int32Array(4096 * HASH_WORDS);
  const count = promptBlockHashes(blocks, inputTokens, blockTokens, out);
  return Array.from({ length: count }, (_, block) =>
    out.subarray(block * HASH_WORDS, (block + 1) * HASH_WORDS).join(),
  );
}

/** What a block must stand for: the ids up to the one with its last token, and how far into that one it reaches. */
function naiveNames(blocks: PromptBlocks, inputTokens: number, blockTokens: number): string[] {
  const tokens: string[] = [];
  for (let at = 0; at < inputTokens && at < blocks.ids.length * blocks.blockTokens; at++) {
    const index = Math.floor(at / blocks.blockTokens);
    tokens.push(`${blocks.scope}|${blocks.ids.slice(0, index + 1).join()}|${at % blocks.blockTokens}`);
  }
  const names: string[] = [];
  for (let end = blockTokens; end <= tokens.length; end += blockTokens) names.push(tokens[end - 1]!);
  return names;
}

const ids = fc.array(fc.nat({ max: 3 }), { maxLength: 6 });
const sizes = fc.constantFrom([16, 16], [16, 64], [64, 16], [64, 48], [48, 64], [4, 1], [3, 5]);

describe("block hashes of a prompt", () => {
  it("are equal just where a naive reading of the ids says that the prefixes are", () => {
    fc.assert(
      fc.property(sizes, ids, ids, fc.nat(400), fc.nat(400), ([trace, block], one, other, m, n) => {
        const a = { blockTokens: trace!, scope: "", ids: one };
        const b = { blockTokens: trace!, scope: "", ids: other };
        const hashes = [...hashesOf(a, m, block!), ...hashesOf(b, n, block!)];
        const names = [...naiveNames(a, m, block!), ...naiveNames(b, n, block!)];
        expect(hashes.length).toBe(names.length);
        for (let i = 0; i < names.length; i++)
          for (let j = 0; j < i; j++) expect(hashes[i] === hashes[j]).toBe(names[i] === names[j]);
      }),
    );
  });

  it("expand 512 to 16 and merge 16 to 64 into full blocks only", () => {
    expect(hashesOf({ blockTokens: 512, scope: "", ids: [7, 8] }, 700, 16)).toHaveLength(43);
    expect(hashesOf({ blockTokens: 16, scope: "", ids: [1, 2, 3, 4, 5, 6, 7] }, 112, 64)).toHaveLength(1);
    expect(hashesOf({ blockTokens: 64, scope: "", ids: [1] }, 120, 16)).toHaveLength(4);
  });

  it("differ between scopes, block sizes and ids that differ above 32 bits", () => {
    const id = 2 ** 40 + 5;
    const all = [
      hashesOf({ blockTokens: 16, scope: "", ids: [5] }, 16, 16),
      hashesOf({ blockTokens: 16, scope: "a", ids: [5] }, 16, 16),
      hashesOf({ blockTokens: 16, scope: "", ids: [id] }, 16, 16),
      hashesOf({ blockTokens: 16, scope: "", ids: [id + 2 ** 32] }, 16, 16),
      hashesOf({ blockTokens: 16, scope: "", ids: [-5] }, 16, 16),
      hashesOf({ blockTokens: 16, scope: "", ids: [5] }, 16, 8).slice(1),
    ];
    expect(new Set(all.flat()).size).toBe(6);
  });

  it("are the same in every run", () => {
    const out = new Int32Array(HASH_WORDS);
    promptBlockHashes({ blockTokens: 16, scope: "s", ids: [1] }, 16, 16, out);
    expect(out).toEqual(Int32Array.of(1562491615, -1435454698, -1012116197, -876680891));
  });

  it("fill tables evenly by their low bits, for ids in sequence, and never collide in any two words", () => {
    const numIds = 1 << 17;
    const out = new Int32Array(HASH_WORDS);
    const buckets = new Int32Array(1 << 10);
    const pairs = [new Set<bigint>(), new Set<bigint>()];
    for (let id = 0; id < numIds; id++) {
      promptBlockHashes({ blockTokens: 16, scope: "", ids: [id] }, 16, 16, out);
      buckets[out[0]! & 1023]!++;
      pairs.forEach((seen, half) => {
        seen.add((BigInt(out[2 * half]!) << 32n) | BigInt(out[2 * half + 1]! >>> 0));
      });
    }
    const mean = numIds / buckets.length;
    const chiSquare = buckets.reduce((sum, count) => sum + (count - mean) ** 2 / mean, 0);
    // 1023 degrees of freedom: mean 1023, deviation 45.
    expect(chiSquare).toBeLessThan(1023 + 6 * 45);
    expect(pairs.map((seen) => seen.size)).toEqual([numIds, numIds]);
  });

  it("of unnamed blocks are found in no other prompt", () => {
    const out = new Int32Array(64 * HASH_WORDS);
    const seen = new Set<string>();
    for (let request = 0; request < 100; request++) {
      uniqueBlockHashes(request, 2, 64, out);
      for (let block = 2; block < 64; block++)
        seen.add(out.subarray(block * HASH_WORDS, (block + 1) * HASH_WORDS).join());
    }
    expect(seen.size).toBe(100 * 62);
    expect(out.subarray(0, 2 * HASH_WORDS).every((word) => word === 0)).toBe(true);
  });
});
