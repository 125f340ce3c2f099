import { assert } from "../../core/util/assert.ts";

/** Where KV is kept outside the accelerators: memory of the node, its disks, a store that all share. */
export type TierKind = "host" | "disk" | "remote";

export const TIER_KINDS: readonly TierKind[] = ["host", "disk", "remote"];

/** Name of the network endpoint through which a worker reaches a tier. */
export function tierEndpoint(worker: string, kind: TierKind): string {
  return `${worker}/${kind}`;
}

/**
 * One store of KV: the memory or the disks of a node, which its workers share, or the one remote store. Counts bytes; what is
 * kept, moved or evicted is decided elsewhere, and the time it takes is the network's.
 */
export class TierStore {
  readonly name: string;
  readonly kind: TierKind;
  readonly capacityBytes: number;
  #usedBytes = 0;
  #peakBytes = 0;

  /** `capacityBytes` is positive. */
  constructor(name: string, kind: TierKind, capacityBytes: number) {
    assert(capacityBytes > 0, `tier ${name} has no capacity`);
    this.name = name;
    this.kind = kind;
    this.capacityBytes = capacityBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get freeBytes(): number {
    return this.capacityBytes - this.#usedBytes;
  }

  /** The most that was ever in use. */
  get peakBytes(): number {
    return this.#peakBytes;
  }

  /** Takes room, before the bytes are moved; false, and nothing taken, when there is not enough. */
  reserve(bytes: number): boolean {
    assert(Number.isSafeInteger(bytes) && bytes >= 0, "a tier is filled by whole bytes");
    if (bytes > this.freeBytes) return false;
    this.#usedBytes += bytes;
    this.#peakBytes = Math.max(this.#peakBytes, this.#usedBytes);
    return true;
  }

  release(bytes: number): void {
    assert(Number.isSafeInteger(bytes) && bytes >= 0, "a tier is emptied by whole bytes");
    assert(bytes <= this.#usedBytes, `tier ${this.name} gives back more than it holds`);
    this.#usedBytes -= bytes;
  }
}
