import type { FetchMessage } from "../../handoff/messages.ts";
import type { WorkerId } from "../../request.ts";
import { HASH_WORDS } from "../../tokens/block-hash.ts";
import { assert } from "../../util/assert.ts";
import type { BlockManager } from "../block-manager.ts";
import type { KvTiers } from "./kv-tiers.ts";
import type { ReadFor, ReadTurns } from "./read-turns.ts";
import type { LowerTier, TierPiece } from "./segment.ts";
import type { ServedPart, TierEffect, TierReport } from "./tier-effects.ts";

/** Fetches of other workers that are answered at a time; further ones get nothing, and compute. */
export const MAX_ANSWERS = 16;
/**
 * KV from cells of the engine in all answers under way: it is exported at once, and in memory until its link has taken it. What is more is
 * left out, and computed there.
 */
export const MAX_EXPORTED_BYTES = 512 * 1024 * 1024;

/** An answer that is being sent. */
interface Answer {
  readonly pieces: readonly TierPiece[];
  readonly exportedBytes: number;
}

/**
 * Answers other workers that ask for the beginning of a prompt: with what the device, host memory and disk have of it together, each block
 * from the nearest tier that has it, up to the first block that none has. KV of a lower tier is not loaded into the device; it stays in its
 * tier until the answer is over.
 */
export class FetchAnswers {
  readonly #tiers: KvTiers;
  readonly #blocks: BlockManager;
  readonly #readTurns: ReadTurns;
  readonly #maxExportedBytes: number;
  readonly #answers = new Map<number, Answer>();
  #numAnswers = 0;
  #exportedBytes = 0;

  constructor(tiers: KvTiers, blocks: BlockManager, readTurns: ReadTurns, maxExportedBytes: number) {
    this.#tiers = tiers;
    this.#readTurns = readTurns;
    this.#blocks = blocks;
    this.#maxExportedBytes = maxExportedBytes;
  }

  /** What to do for a worker that asks. */
  answer(
    peer: WorkerId,
    { requestId, epoch, firstBlock, hashes }: Extract<FetchMessage, { kind: "fetch" }>,
  ): TierEffect {
    const id = { requestId, epoch };
    const parts = this.#answers.size >= MAX_ANSWERS ? [] : this.#partsOf(firstBlock, hashes);
    const answer = ++this.#numAnswers;
    if (parts.length === 0) return { kind: "serve-kv", peer, id, answer, parts };
    const pieces = parts.flatMap((part) => (part.kind === "tier" ? [part.piece] : []));
    for (const piece of pieces) {
      this.#tiers.pin(piece);
      this.#readTurns.begin(piece.tier, "demand");
    }
    const exportedBytes = parts.reduce((sum, part) => sum + this.#exportedBytesOf(part), 0);
    this.#exportedBytes += exportedBytes;
    this.#answers.set(answer, { pieces, exportedBytes });
    return { kind: "serve-kv", peer, id, answer, parts };
  }

  answered({ answer, bad }: Extract<TierReport, { kind: "answered" }>): void {
    const known = this.#answers.get(answer);
    assert(known !== undefined, "an answer ended twice");
    this.#answers.delete(answer);
    this.#exportedBytes -= known.exportedBytes;
    for (const piece of known.pieces) {
      this.#tiers.unpin(piece);
      this.#readTurns.end(piece.tier, "demand");
    }
    if (bad !== null) this.#tiers.discard(bad);
  }

  #exportedBytesOf({ kind, start, end }: ServedPart): number {
    return kind === "device" ? (end - start) * this.#tiers.bytesPerToken : 0;
  }

  /** What there is of the blocks with these hashes, which begin at block `firstBlock` of a chain, without a gap. */
  #partsOf(firstBlock: number, hashes: Int32Array): ServedPart[] {
    const parts: ServedPart[] = [];
    const { blockSizeTokens } = this.#blocks;
    const end = firstBlock + hashes.length / HASH_WORDS;
    let roomBytes = this.#maxExportedBytes - this.#exportedBytes;
    for (let at = firstBlock; at < end; ) {
      const startOfStep = at;
      const rest = hashes.subarray((at - firstBlock) * HASH_WORDS);
      for (const range of this.#blocks.locate(at, rest)) {
        const fitting = Math.floor(roomBytes / (blockSizeTokens * this.#tiers.bytesPerToken));
        const cut = Math.min(range.end, range.start + fitting * blockSizeTokens);
        const part = { kind: "device", ...range, end: cut } as const;
        if (cut > range.start) parts.push(part);
        if (cut < range.end) return parts;
        roomBytes -= this.#exportedBytesOf(part);
        at = range.end / blockSizeTokens;
      }
      if (at > startOfStep) continue;
      for (const piece of this.#tiers.find(hashes, at, end, firstBlock)) {
        const [from, to] = [at, at + piece.numBlocks].map((block) => block * blockSizeTokens);
        parts.push({ kind: "tier", piece, start: from!, end: to! });
        at += piece.numBlocks;
      }
      if (at === startOfStep) break;
    }
    return parts;
  }

  /** What is being read of lower tiers, all of an answer until it is over. */
  get reads(): ReadonlyArray<readonly [LowerTier, ReadFor]> {
    const pieces = [...this.#answers.values()].flatMap((answer) => answer.pieces);
    return pieces.map(({ tier }) => [tier, "demand"] as const);
  }

  checkInvariants(): void {
    assert(this.#answers.size <= MAX_ANSWERS, "too many fetches are answered at a time");
    let exportedBytes = 0;
    for (const answer of this.#answers.values()) exportedBytes += answer.exportedBytes;
    assert(exportedBytes === this.#exportedBytes, "the count of exported bytes is off");
    assert(exportedBytes <= this.#maxExportedBytes, "too much is exported for other workers");
  }
}
