import type { KvRange } from "../../core/kv/kv-ops.ts";

/** KV in one frame, about: far below the link's limit, and small enough that a frame does not hold up others for long. */
const MAX_FRAME_KV_BYTES = 8 * 1024 * 1024;

/**
 * Cuts a range so that the KV of each piece fits a frame. Pieces are whole blocks counted from its start: who fetches a prefix takes
 * nothing less than a block.
 */
export function piecesOf(
  { slot, start, end }: KvRange,
  { bytesPerToken, blockSizeTokens }: { readonly bytesPerToken: number; readonly blockSizeTokens: number },
): KvRange[] {
  const numBlocks = Math.max(1, Math.floor(MAX_FRAME_KV_BYTES / (bytesPerToken * blockSizeTokens)));
  const size = numBlocks * blockSizeTokens;
  const pieces: KvRange[] = [];
  for (let at = start; at < end; at += size) pieces.push({ slot, start: at, end: Math.min(at + size, end) });
  return pieces;
}
