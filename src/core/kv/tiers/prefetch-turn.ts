import { GREEDY } from "../../request.ts";
import { Sequence } from "../../sequence.ts";
import type { TurnExpectation } from "../../sessions/turn-expectation.ts";
import { HASH_WORDS } from "../../tokens/block-hash.ts";
import type { MovedBlocks } from "./prefetch-counts.ts";
import type { TierPiece } from "./segment.ts";

/** A turn that is waited for. */
export interface Turn extends Pick<TurnExpectation, "lastHash" | "numBlocks" | "owner"> {
  readonly dueMs: number;
  readonly lateMs: number;
  nextLookMs: number;
  numLooks: number;
  isRunning: boolean;
  /** Whether it is known well enough when it comes. */
  readonly isSharp: boolean;
  readonly moved: MovedBlocks;
  /** Leases on cached blocks. */
  readonly leases: number[];
  /** The whole chain, when it was last looked up: the prompt, and what came of the output. */
  chain: Int32Array;
}

/** The KV of one turn, on its way up. */
export interface Job {
  readonly turn: Turn;
  /** What is still to be read for host memory. */
  pieces: TierPiece[];
  numMoving: number;
  /** Stands for whoever will come, while KV comes up to the device. */
  sequence: Sequence | null;
  firstBlock: number;
  /** Whether anything has had to come up. */
  hasBegun: boolean;
  /** Nobody waits for it any more: what is under way runs out. */
  isOver: boolean;
}

/** A sequence in place of the one that will come, for the first blocks of a turn's chain, whose tokens nobody here knows. */
export function standIn(
  { chain, owner }: Turn,
  id: string,
  numBlocks: number,
  blockSizeTokens: number,
): Sequence {
  const request = {
    ...owner,
    id,
    epoch: 0,
    // One more than there are blocks: a sequence always has something to compute.
    promptTokens: new Int32Array(numBlocks * blockSizeTokens + 1),
    knownBlockHashes: chain.subarray(0, numBlocks * HASH_WORDS),
    resumedTokens: new Int32Array(0),
    maxOutputTokens: 1,
    minOutputTokens: 0,
    ignoreEndOfGeneration: false,
    sampling: GREEDY,
    priority: 0,
  };
  return new Sequence(request, { order: 0 });
}
