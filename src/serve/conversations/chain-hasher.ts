import { setImmediate as nextTurn } from "node:timers/promises";
import { BlockHasher, HASH_WORDS } from "../../core/tokens/block-hash.ts";
import type { BlockIdentity } from "../fleet/fleet.ts";
import type { PublicPrefixes } from "./public-prefixes.ts";

/** Blocks hashed in one turn of the event loop: about a millisecond. */
const BLOCKS_PER_TURN = 1024;
/** Hashers kept, one per tenant; making another costs a microsecond. */
const MAX_KEPT_HASHERS = 1024;

/** The hashes of a prompt's full blocks, `HASH_WORDS` words each, and how many of them all tenants share. */
export interface BlockChain {
  readonly hashes: Int32Array;
  readonly publicBlocks: number;
}

/**
 * Computes the chain of block hashes of prompts, the same that workers would compute, so that placement can ask where a prompt's
 * beginning is cached and no worker has to hash it again.
 */
export class ChainHasher {
  readonly #hashers = new Map<string, BlockHasher>();
  readonly #identity: BlockIdentity;

  readonly #publicPrefixes: PublicPrefixes | null;

  constructor(identity: BlockIdentity, publicPrefixes: PublicPrefixes | null = null) {
    this.#identity = identity;
    this.#publicPrefixes = publicPrefixes;
  }

  get blockSizeTokens(): number {
    return this.#identity.blockSizeTokens;
  }

  /** Full blocks of so many tokens. */
  blocksOf(numTokens: number): number {
    return Math.floor(numTokens / this.#identity.blockSizeTokens);
  }

  /**
   * The chain of a prompt.
   *
   * @param known the hashes of its first `numBlocks` blocks, at the beginning of an array for all, which is filled in
   */
  async chain(
    cacheSalt: string,
    tokens: Int32Array,
    known?: { readonly numBlocks: number; readonly hashes: Int32Array },
  ): Promise<BlockChain> {
    const numBlocks = this.blocksOf(tokens.length);
    const publicBlocks = this.#publicPrefixes?.numBlocks(tokens, this.blockSizeTokens) ?? 0;
    const hashes = known?.hashes ?? new Int32Array(numBlocks * HASH_WORDS);
    for (let block = known?.numBlocks ?? 0; block < numBlocks; ) {
      const isPublic = block < publicBlocks;
      const end = Math.min(block + BLOCKS_PER_TURN, isPublic ? publicBlocks : numBlocks);
      const hasher = this.#hasherFor(isPublic ? this.#publicPrefixes!.salt : cacheSalt);
      hasher.hashBlocks(tokens, block, end - block, hashes, isPublic ? 0 : publicBlocks);
      block = end;
      if (block < numBlocks) await nextTurn();
    }
    return { hashes, publicBlocks };
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
export function chainHasherOf(
  fleet: { readonly blockIdentity: BlockIdentity | null },
  publicPrefixes: PublicPrefixes | null,
): () => ChainHasher | null {
  let hasher: ChainHasher | null = null;
  return () => {
    if (fleet.blockIdentity !== null) hasher ??= new ChainHasher(fleet.blockIdentity, publicPrefixes);
    return hasher;
  };
}
