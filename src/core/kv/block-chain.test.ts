import { describe, expect, it } from "vitest";
import { makeSequence, tokenRange } from "../../../test/support/make.ts";
import { BlockHasher, HASH_WORDS } from "../tokens/block-hash.ts";
import { BlockManager } from "./block-manager.ts";

const SIZE = 4;

function compute(manager: BlockManager, sequence: ReturnType<typeof makeSequence>, numTokens: number): void {
  expect(manager.grow(sequence, sequence.numComputedTokens + numTokens)).toBe(true);
  sequence.numComputedTokens += numTokens;
  manager.fileComputed(sequence);
}

describe("the hash chain of a sequence", () => {
  it("may come with the request, and goes on over output that begins within a block", () => {
    const manager = new BlockManager({ numBlocks: 32, blockSizeTokens: SIZE, numSlots: 8, modelId: "m" });
    const prompt = tokenRange(0, 10);
    const chain = new Int32Array(2 * HASH_WORDS);
    new BlockHasher({ blockSizeTokens: SIZE, cacheSalt: "", modelId: "m" }).hashBlocks(
      Int32Array.from(prompt),
      0,
      2,
      chain,
    );
    const given = chain.slice();
    const first = makeSequence({ prompt, knownBlockHashes: given, maxOutputTokens: 100 });
    expect(manager.admit(first, 10, 9)).toBe(true);
    compute(manager, first, 10);
    for (const token of tokenRange(10, 90)) {
      first.append(token);
      compute(manager, first, 1);
    }
    expect(given).toEqual(chain);
    manager.free(first);

    const second = makeSequence({ prompt: tokenRange(0, 100) });
    expect(manager.admit(second, 100, 99)).toBe(true);
    expect(second.numComputedTokens).toBe(96);
  });

  it("is trusted: prompts with other chains share nothing, whatever their tokens", () => {
    const manager = new BlockManager({ numBlocks: 32, blockSizeTokens: SIZE, numSlots: 8, modelId: "m" });
    const chains = [Int32Array.of(1, 2, 3, 4, 5, 6, 7, 8), Int32Array.of(1, 2, 3, 4, 9, 9, 9, 9)];
    const cached = [...chains, chains[0]!].map((knownBlockHashes) => {
      const sequence = makeSequence({ prompt: Array(9).fill(0), knownBlockHashes });
      expect(manager.admit(sequence, 9, 8)).toBe(true);
      const { numComputedTokens } = sequence;
      compute(manager, sequence, 9 - numComputedTokens);
      manager.free(sequence);
      return numComputedTokens;
    });
    expect(cached).toEqual([0, 4, 8]);
  });
});
