import { assert } from "../util/assert.ts";
import { blake2s, blake2sCompress, blake2sInit } from "./blake2s.ts";

/** 32-bit words of a block hash: 128 bits. */
export const HASH_WORDS = 4;

/** Tokens per BLAKE2s message block: sixteen 32-bit words. */
const TOKENS_PER_COMPRESSION = 16;

/**
 * Chained identity of token blocks: the hash of a block stands for all tokens up to its end, the tenant and the model.
 *
 * ```
 *   root  = H(salt length, salt, model id)
 *   h[0]  = H(root, tokens of block 0)
 *   h[i]  = H(h[i-1], tokens of block i)
 * ```
 *
 * H is BLAKE2s with 128 bits of output and the parent folded into the initial state as a key would be, so a block of
 * sixteen tokens costs one compression. A cryptographic hash, because a client who could make two prompts collide would
 * be served another prompt's KV; the salt keeps tenants apart even for equal prompts.
 */
export class BlockHasher {
  readonly blockSizeTokens: number;
  readonly #root: Int32Array;
  readonly #state = new Int32Array(8);
  readonly #message = new Int32Array(TOKENS_PER_COMPRESSION);

  constructor(options: { blockSizeTokens: number; cacheSalt: string; modelId: string }) {
    assert(options.blockSizeTokens > 0, "block size must be positive");
    this.blockSizeTokens = options.blockSizeTokens;
    this.#root = blake2s(
      utf16Bytes(`${options.cacheSalt.length}:${options.cacheSalt}${options.modelId}`),
      16,
    );
  }

  /**
   * Hashes blocks [firstBlock, firstBlock + count) of `tokens` into `out`, four words per block starting at word
   * `firstBlock × 4`; the parent is read from `out`. Blocks must be full.
   */
  hashBlocks(tokens: Int32Array, firstBlock: number, count: number, out: Int32Array): void {
    for (let block = firstBlock; block < firstBlock + count; block++) {
      this.hashBlock(tokens, block * this.blockSizeTokens, block, out);
    }
  }

  /** Hashes one block, whose tokens stand at [start, start + blockSizeTokens) of `tokens`, into its place in `out`. */
  hashBlock(tokens: Int32Array, start: number, block: number, out: Int32Array): void {
    const at = block * HASH_WORDS;
    this.#absorb(tokens, start, block === 0 ? this.#root : out, at - HASH_WORDS);
    for (let word = 0; word < HASH_WORDS; word++) out[at + word] = this.#state[word]!;
  }

  #absorb(tokens: Int32Array, start: number, parent: Int32Array, parentAt: number): void {
    const state = this.#state;
    blake2sInit(state, 16);
    const at = parent === this.#root ? 0 : parentAt;
    for (let word = 0; word < HASH_WORDS; word++) state[word + 4] = state[word + 4]! ^ parent[at + word]!;
    const end = start + this.blockSizeTokens;
    for (let from = start; from < end; from += TOKENS_PER_COMPRESSION) {
      const to = Math.min(from + TOKENS_PER_COMPRESSION, end);
      if (to - from < TOKENS_PER_COMPRESSION) this.#message.fill(0);
      for (let i = from; i < to; i++) this.#message[i - from] = tokens[i]!;
      blake2sCompress(state, this.#message, (to - start) * 4, to === end);
    }
  }
}

/** Bytes of a string without an encoder, which core does not have: two per UTF-16 unit. */
function utf16Bytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length * 2);
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    bytes[2 * i] = unit & 0xff;
    bytes[2 * i + 1] = unit >>> 8;
  }
  return bytes;
}
