import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { makeSequence } from "../../../test/support/make.ts";
import { BlockManager } from "../../core/kv/block-manager.ts";
import { HASH_WORDS } from "../../core/tokens/block-hash.ts";
import { ChainHasher, chainHasherOf } from "./chain-hasher.ts";

const IDENTITY = { modelId: "model", blockSizeTokens: 4 };

/** The chain as a worker computes it. */
function workerChain(prompt: Int32Array, cacheSalt: string): Int32Array {
  const blocks = new BlockManager({ ...IDENTITY, numBlocks: 1024, numSlots: 2 });
  const sequence = makeSequence({ prompt, cacheSalt });
  expect(blocks.admit(sequence, prompt.length, prompt.length)).toBe(true);
  return sequence.blockHashes?.slice(0, sequence.numBlockHashes * HASH_WORDS) ?? new Int32Array(0);
}

describe("the gateway's chain of block hashes", () => {
  it("is the worker's, whatever part of it was known before", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(50_000), { minLength: 1, maxLength: 300 }),
        fc.string(),
        fc.double({ min: 0, max: 1, noNaN: true }),
        async (prompt, salt, knownShare) => {
          const tokens = Int32Array.from(prompt);
          const hasher = new ChainHasher(IDENTITY);
          const chain = await hasher.chain(salt, tokens);
          expect(chain).toEqual({ hashes: workerChain(tokens, salt), publicBlocks: 0 });
          const numKnown = Math.floor(knownShare * hasher.blocksOf(tokens.length));
          const hashes = chain.hashes.slice().fill(0, numKnown * HASH_WORDS);
          const known = { numBlocks: numKnown, hashes };
          expect(await hasher.chain(salt, tokens, known)).toEqual(chain);
        },
      ),
    );
  });

  it("of a long prompt lets other work run in between", async () => {
    const tokens = new Int32Array(40_000);
    let numTurns = 0;
    let isDone = false;
    const count = () => {
      numTurns++;
      if (!isDone) setImmediate(count);
    };
    setImmediate(count);
    await new ChainHasher(IDENTITY).chain("salt", tokens);
    isDone = true;
    expect(numTurns).toBeGreaterThanOrEqual(8);
  });

  it("is not computed before a worker has said what goes into it", () => {
    const fleet: { blockIdentity: typeof IDENTITY | null } = { blockIdentity: null };
    const hasherOf = chainHasherOf(fleet, null);
    expect(hasherOf()).toBeNull();
    fleet.blockIdentity = IDENTITY;
    expect(hasherOf()).toBe(hasherOf());
    expect(hasherOf()?.blocksOf(11)).toBe(2);
  });
});
