import { setImmediate as nextTurn } from "node:timers/promises";
import { BlockHasher, HASH_WORDS } from "../../core/tokens/block-hash.ts";
import type { BlockIdentity } from "../fleet/fleet.ts";

/** Blocks hashed in one turn of the event loop: about a millisecond. */
const BLOCKS_PER_TURN = 1024;
/** Hashers kept, one per tenant; making another costs a microsecond. */
const MAX_KEPT_HASHERS = 1024;

/**
 * Computes the chain of block hashes of prompts, the same that workers would compute, so that placement can ask where a prompt's
 * beginning is cached and no worker has to hash it again.
 */
export class ChainHasher {
  readonly #hashers = new Map<string, BlockHasher>();
  readonly #identity: BlockIdentity;

  constructor(identity: BlockIdentity) {
    this.#identity = identity;
  }

  get blockSizeTokens(): number {
    return this.#identity.blockSizeTokens;
  }

  /** Full blocks of so many tokens. */
  blocksOf(numTokens: number): number {
    return Math.floor(numTokens / this.#identity.blockSizeTokens);
  }

  /**
   * The hashes of all full blocks of `tokens`, `HASH_WORDS` words each.
   *
   * @param known hashes of the leading blocks, when somebody has them already; written into the result by the caller's function
   */
  async chain(
    cacheSalt: string,
    tokens: Int32Array,
    known?: { readonly numBlocks: number; copyTo(hashes: Int32Array): void },
  ): Promise<Int32Array> {
    const numBlocks = this.blocksOf(tokens.length);
    const hashes = new Int32Array(numBlocks * HASH_WORDS);
    known?.copyTo(hashes);
    const hasher = this.#hasherFor(cacheSalt);
    for (let block = known?.numBlocks ?? 0; block < numBlocks; ) {
      const count = Math.min(BLOCKS_PER_TURN, numBlocks - block);
      hasher.hashBlocks(tokens, block, count, hashes);
      block += count;
      if (block < numBlocks) await nextTurn();
    }
    return hashes;
  }

  #hasherFor(cacheSalt: string): BlockHasher {
    let hasher = this.#hashers.get(cacheSalt);
    if (hasher === undefined) {
      if (this.#hashers.size >= MAX_KEPT_HASHERS) this.#hashers.clear();
      hasher = new BlockHasher({ ...this.#identity, cacheSalt });
      this.#hashers.set(cacheSalt, hasher);
    }
    return hasher;
  }
}

/** The fleet's hasher, made when its first worker has said what goes into a hash, and null before. */
export function chainHasherOf(fleet: {
  readonly blockIdentity: BlockIdentity | null;
}): () => ChainHasher | null {
  let hasher: ChainHasher | null = null;
  return () => {
    if (fleet.blockIdentity !== null) hasher ??= new ChainHasher(fleet.blockIdentity);
    return hasher;
  };
}
