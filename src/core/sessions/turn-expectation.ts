import type { Request } from "../request.ts";

/** What is said of a turn's KV when the turn is over: a chain of blocks, and when somebody will want it again. */
export interface TurnExpectation {
  /** Hash of the last full block of the turn's prompt, `HASH_WORDS` words. */
  readonly lastHash: Int32Array;
  /** Full blocks of the prompt. */
  readonly numBlocks: number;
  /** From now on, in milliseconds: the next turn is not likely to come earlier, and not later. */
  readonly earlyMs: number;
  readonly lateMs: number;
  /** Of coming back at all, in [0, 1]. */
  readonly probability: number;
  /** Whose KV it is, as the request said. */
  readonly owner: ChainOwner;
}

export type ChainOwner = Pick<Request, "cacheSalt" | "cacheShare" | "publicBlocks">;

export function ownerOf({ cacheSalt, cacheShare, publicBlocks }: Request): ChainOwner {
  return {
    cacheSalt,
    ...(cacheShare === undefined ? {} : { cacheShare }),
    ...(publicBlocks === undefined ? {} : { publicBlocks }),
  };
}
