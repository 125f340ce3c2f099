import type { Sequence } from "../sequence.ts";
import { HASH_WORDS } from "../tokens/block-hash.ts";
import { assert } from "../util/assert.ts";
import type { BlockLeases } from "./block-leases.ts";

/** Part of a worker's prefix cache that may be kept for the wishes of one tenant; beyond it they are like any other's. */
export const MAX_TENANT_KEPT_SHARE = 0.25;
/** Prompts at a time whose further requests are waited for, and how long. For a further one the oldest goes. */
const MAX_FAN_OUTS = 256;
const FAN_OUT_WAIT_MS = 60_000;

/** A prompt that more requests are to begin with. */
interface FanOut {
  readonly lastHash: Int32Array;
  readonly numBlocks: number;
  readonly untilMs: number;
  numMissing: number;
  readonly leases: number[];
}

/** For how long what a sequence leaves is to be kept after others: blocks of its chain, until a time. */
export interface KeptUntil {
  readonly numBlocks: number;
  readonly untilMs: number;
}

/**
 * Does what requests wish for their KV with `ttlMs` and `expectedFanOut`, as far as it is their tenant's due: blocks of a request with
 * a time to live are kept after others until then; those of a prompt that N requests are to share until N have come, or it takes too long.
 */
export class RetentionWishes {
  readonly #leases: BlockLeases;
  readonly #maxHeld: number;
  readonly #fanOuts = new Set<FanOut>();

  constructor(leases: BlockLeases, maxCachedBlocks: number) {
    this.#leases = leases;
    this.#maxHeld = Math.floor(maxCachedBlocks * MAX_TENANT_KEPT_SHARE);
  }

  /** A sequence has been admitted for the first time, or again: one of those that some prompt's fan-out waits for, or the first. */
  admitted(sequence: Sequence, blockSizeTokens: number): void {
    if (sequence.numPreemptions > 0 || sequence.blockHashes === null) return;
    const { expectedFanOut = 1 } = sequence.request;
    const full = Math.floor(sequence.numPromptTokens / blockSizeTokens);
    const numBlocks = Math.min(full, sequence.numBlockHashes);
    if (this.#fanOuts.size === 0 && expectedFanOut === 1) return;
    let isKnown = false;
    for (const fanOut of this.#fanOuts) {
      if (fanOut.untilMs <= this.#leases.nowMs) this.#close(fanOut);
      else if (!isWithin(fanOut, sequence.blockHashes, numBlocks)) continue;
      else {
        isKnown ||= fanOut.numBlocks === numBlocks;
        if (--fanOut.numMissing === 0) this.#close(fanOut);
      }
    }
    if (expectedFanOut === 1 || isKnown || numBlocks === 0) return;
    for (const oldest of this.#fanOuts) {
      if (this.#fanOuts.size < MAX_FAN_OUTS) break;
      this.#close(oldest);
    }
    const lastHash = sequence.blockHashes.slice((numBlocks - 1) * HASH_WORDS, numBlocks * HASH_WORDS);
    const untilMs = this.#leases.nowMs + FAN_OUT_WAIT_MS;
    this.#fanOuts.add({ lastHash, numBlocks, untilMs, numMissing: expectedFanOut - 1, leases: [] });
  }

  /**
   * A sequence has released its blocks, which it still lists. Returns what of it is to be kept elsewhere as well, if anything is.
   */
  released(sequence: Sequence): KeptUntil | null {
    const { request, blockHashes } = sequence;
    const { retention, cacheSalt: owner } = request;
    if (retention?.keep === "none" || blockHashes === null) return null;
    if (this.#fanOuts.size === 0 && retention?.ttlMs == null) return null;
    const blocks = sequence.blocks.slice(0, sequence.numFiledBlocks);
    const { nowMs } = this.#leases;
    const maxHeld = this.#maxHeld;
    let kept: KeptUntil | null = null;
    for (const fanOut of this.#fanOuts) {
      const { numBlocks, untilMs } = fanOut;
      if (untilMs <= nowMs || !isWithin(fanOut, blockHashes, blocks.length)) continue;
      const lease = this.#leases.take(blocks.slice(0, numBlocks), { owner, untilMs, maxHeld });
      if (lease !== 0) fanOut.leases.push(lease);
      kept = { numBlocks, untilMs };
    }
    if (retention?.ttlMs == null) return kept;
    kept = { numBlocks: blocks.length, untilMs: nowMs + retention.ttlMs };
    this.#leases.take(blocks, { owner, untilMs: kept.untilMs, maxHeld });
    return kept;
  }

  #close(fanOut: FanOut): void {
    this.#fanOuts.delete(fanOut);
    for (const lease of fanOut.leases) this.#leases.end(lease);
  }

  checkInvariants(): void {
    assert(this.#fanOuts.size <= MAX_FAN_OUTS, "too many fan-outs are waited for");
    for (const { numMissing } of this.#fanOuts) assert(numMissing > 0, "a fan-out waits for nobody");
  }
}

/** Whether a chain begins with the prompt of a fan-out. */
function isWithin({ lastHash, numBlocks }: FanOut, chain: Int32Array, numChainBlocks: number): boolean {
  if (numBlocks > numChainBlocks) return false;
  const at = (numBlocks - 1) * HASH_WORDS;
  for (let i = 0; i < HASH_WORDS; i++) if (chain[at + i] !== lastHash[i]) return false;
  return true;
}
