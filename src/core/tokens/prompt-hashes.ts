import type { Request } from "../request.ts";
import { HASH_WORDS } from "./block-hash.ts";

/** Chained hashes of the full blocks of a prompt, where they are known. */
export function promptBlockHashesOf({ knownBlockHashes, numKnownPromptBlocks }: Request): Int32Array | null {
  if (knownBlockHashes === undefined) return null;
  if (numKnownPromptBlocks === undefined) return knownBlockHashes;
  return knownBlockHashes.subarray(0, numKnownPromptBlocks * HASH_WORDS);
}
