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
 * A prompt may begin with public blocks, which tenants share: those are hashed with a salt that is nobody's, and the first block
 * behind them, number p, has a parent that brings the tenant in:
 *
 * ```
 *   h[p]  = H(H(h[p-1], root), tokens of block p)
 * ```
 *
 * so everything from there on is as much the tenant's own as without them. H is BLAKE2s with 128 bits of output and the parent folded into the initial state as a key would be, so a block of
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
   *
   * @param publicBlocks how many leading blocks are public: they are in `out` already
   */
  hashBlocks(tokens: Int32Array, firstBlock: number, count: number, out: Int32Array, publicBlocks = 0): void {
    for (let block = firstBlock; block < firstBlock + count; block++) {
      this.hashBlock(tokens, block * this.blockSizeTokens, block, out, publicBlocks);
    }
  }

  /** Hashes one block, whose tokens stand at [start, start + blockSizeTokens) of `tokens`, into its place in `out`. */
  hashBlock(tokens: Int32Array, start: number, block: number, out: Int32Array, publicBlocks = 0): void {
    const at = block * HASH_WORDS;
    if (block > 0 && block === publicBlocks)
      this.#absorb(tokens, start, this.#ownParent(out, at - HASH_WORDS), 0);
    else this.#absorb(tokens, start, block === 0 ? this.#root : out, block === 0 ? 0 : at - HASH_WORDS);
    for (let word = 0; word < HASH_WORDS; word++) out[at + word] = this.#state[word]!;
  }

  /** What stands for a public block and the tenant as the parent of the tenant's first own block. */
  #ownParent(hashes: Int32Array, at: number): Int32Array {
    const parent = new Int32Array(2 * HASH_WORDS);
    parent.set(hashes.subarray(at, at + HASH_WORDS));
    parent.set(this.#root, HASH_WORDS);
    return blake2s(new Uint8Array(parent.buffer), 16);
  }

  #absorb(tokens: Int32Array, start: number, parent: Int32Array, parentAt: number): void {
    const state = this.#state;
    blake2sInit(state, 16);
    for (let word = 0; word < HASH_WORDS; word++)
      state[word + 4] = state[word + 4]! ^ parent[parentAt + word]!;
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
