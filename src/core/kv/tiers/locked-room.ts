import { assert } from "../../util/assert.ts";
import { numBlocksOf } from "./segment.ts";
import type { TierEntry } from "./segment-forest.ts";

/**
 * What of a tier can't be evicted now: segments that are being written or read, and all before them. Evicting everything else is what room
 * can be made at most, so that nothing is given up for a segment that won't fit anyway.
 */
export class LockedRoom {
  #bytes = 0;
  #numBlocks = 0;

  get bytes(): number {
    return this.#bytes;
  }

  get numBlocks(): number {
    return this.#numBlocks;
  }

  /** The segment has to stay, for one reason more. */
  lock(entry: TierEntry): void {
    for (let at: TierEntry | null = entry; at !== null; at = at.parent) {
      if (at.numLocks++ > 0) return;
      this.#count(at, 1);
    }
  }

  /** One reason has gone. */
  unlock(entry: TierEntry): void {
    for (let at: TierEntry | null = entry; at !== null; at = at.parent) {
      if (--at.numLocks > 0) return;
      this.#count(at, -1);
    }
  }

  /** A locked segment takes so many bytes more. */
  grew(bytes: number): void {
    this.#bytes += bytes;
  }

  /** `entries` are gone: the first one, and everything below it. */
  removed(entries: readonly TierEntry[]): void {
    const [root] = entries;
    for (const entry of entries) if (entry.numLocks > 0) this.#count(entry, -1);
    if (root!.numLocks > 0 && root!.parent !== null) this.unlock(root!.parent);
  }

  #count(entry: TierEntry, sign: 1 | -1): void {
    this.#bytes += sign * entry.bytes;
    this.#numBlocks += sign * numBlocksOf(entry.segment);
  }

  /** Throws unless the sums are those of the given entries, which are all that there are. */
  checkInvariants(entries: Iterable<TierEntry>): void {
    let bytes = 0;
    let numBlocks = 0;
    for (const entry of entries) {
      let numLocks = entry.numPins + (entry.isStored ? 0 : 1);
      for (const child of entry.children) if (child.numLocks > 0) numLocks++;
      assert(numLocks === entry.numLocks, "a segment is locked for other reasons than there are");
      if (numLocks === 0) continue;
      bytes += entry.bytes;
      numBlocks += numBlocksOf(entry.segment);
    }
    assert(bytes === this.#bytes && numBlocks === this.#numBlocks, "the count of what has to stay is off");
  }
}
