import type { Sequence } from "../sequence.ts";
import { BlockHasher, HASH_WORDS } from "../tokens/block-hash.ts";
import { assert } from "../util/assert.ts";

/** Hashers are kept for this many tenants; a further one is made anew, which costs a microsecond. */
const MAX_KEPT_HASHERS = 256;

/** Computes the hash chains of sequences, as far as they did not come with the request. */
export class HashChains {
  readonly #blockSizeTokens: number;
  readonly #modelId: string;
  readonly #hashers = new Map<string, BlockHasher>();
  /** Tokens of one block that are not all in the prompt. */
  readonly #blockTokens: Int32Array;

  constructor(options: { readonly blockSizeTokens: number; readonly modelId: string }) {
    this.#blockSizeTokens = options.blockSizeTokens;
    this.#modelId = options.modelId;
    this.#blockTokens = new Int32Array(options.blockSizeTokens);
  }

  /** The sequence's hash chain, at least `numBlocks` long. Those blocks are full of known tokens. */
  upTo(sequence: Sequence, numBlocks: number): Int32Array {
    if (sequence.blockHashes === null) {
      const known = sequence.request.knownBlockHashes;
      sequence.blockHashes = known ?? new Int32Array(numBlocks * HASH_WORDS);
      sequence.numBlockHashes = known === undefined ? 0 : known.length / HASH_WORDS;
    }
    if (sequence.numBlockHashes < numBlocks) this.#extend(sequence, numBlocks);
    return sequence.blockHashes;
  }

  #extend(sequence: Sequence, numBlocks: number): void {
    let hashes = sequence.blockHashes!;
    if (hashes.length < numBlocks * HASH_WORDS) {
      const longest = Math.floor(sequence.maxKnownTokens / this.#blockSizeTokens);
      hashes = new Int32Array(
        Math.min(longest, Math.max(numBlocks, 2 * sequence.numBlockHashes)) * HASH_WORDS,
      );
      // Never in place: the chain may be the request's, which others use.
      hashes.set(sequence.blockHashes!.subarray(0, sequence.numBlockHashes * HASH_WORDS));
      sequence.blockHashes = hashes;
    }
    const { cacheSalt, publicBlocks = 0 } = sequence.request;
    assert(sequence.numBlockHashes >= publicBlocks, "public blocks come without their hashes");
    const hasher = this.#hasherFor(cacheSalt);
    const blockSizeTokens = this.#blockSizeTokens;
    for (let block = sequence.numBlockHashes; block < numBlocks; block++) {
      const start = block * blockSizeTokens;
      if (start + blockSizeTokens <= sequence.numPromptTokens) {
        hasher.hashBlock(sequence.request.promptTokens, start, block, hashes, publicBlocks);
      } else {
        for (let i = 0; i < blockSizeTokens; i++) this.#blockTokens[i] = sequence.tokenAt(start + i);
        hasher.hashBlock(this.#blockTokens, 0, block, hashes, publicBlocks);
      }
    }
    sequence.numBlockHashes = numBlocks;
  }

  #hasherFor(cacheSalt: string): BlockHasher {
    let hasher = this.#hashers.get(cacheSalt);
    if (hasher === undefined) {
      if (this.#hashers.size >= MAX_KEPT_HASHERS) this.#hashers.clear();
      hasher = new BlockHasher({
        blockSizeTokens: this.#blockSizeTokens,
        cacheSalt,
        modelId: this.#modelId,
      });
      this.#hashers.set(cacheSalt, hasher);
    }
    return hasher;
  }
}
