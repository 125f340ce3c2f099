import type { ServedPart } from "../../core/kv/tiers/tier-effects.ts";
import type { TwinWorker } from "./twin-worker.ts";

/** Positions that leave together, and when. */
export interface ServedPiece {
  readonly start: number;
  end: number;
  readonly atMs: number;
}

/**
 * When a worker's answer to another one leaves it, in order: what is in its engine as one piece for each gap that lower tiers fill, exported
 * first of all if that takes time, and each piece of a lower tier when it has been read. `hold` takes the engine for so many
 * milliseconds, and says when that is over.
 */
export function servedPieces(
  { spec, tiers }: TwinWorker,
  parts: readonly ServedPart[],
  nowMs: number,
  hold: (ms: number) => number,
): ServedPiece[] {
  const { handoff, kvBytesPerToken } = spec.perf;
  const pieces: ServedPiece[] = [];
  let isDevice = false;
  for (const part of parts) {
    const { start, end } = part;
    const last = pieces.at(-1);
    // One piece, however many slots it lies in.
    if (part.kind === "device" && isDevice) last!.end = end;
    else pieces.push({ start, end, atMs: nowMs });
    isDevice = part.kind === "device";
  }
  const tierAt = new Map(parts.map((part) => [part.start, part.kind === "tier" ? part.piece.tier : null]));
  let atMs = nowMs;
  return pieces.map(({ start, end }) => {
    const tier = tierAt.get(start)!;
    let readyMs = nowMs;
    if (tier !== null) readyMs = tiers!.read(tier, (end - start) * kvBytesPerToken, nowMs);
    else if (handoff !== undefined) readyMs = hold(handoff.exportMs(end - start));
    atMs = Math.max(atMs, readyMs);
    return { start, end, atMs };
  });
}
