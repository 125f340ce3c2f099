/** Where a worker keeps KV, nearest first: cells of the engine, memory of its machine, its disk. */
export type KvTier = "device" | "host" | "disk";

/** A change of what one tier of a worker holds. Hashes are chained (see `BlockHasher`), `HASH_WORDS` words each. */
export type KvEvent =
  /**
   * The tier holds these blocks from now on. They follow each other in one chain: the first one's parent is `parent`, null when
   * it begins a prompt. A block that the tier held already is no error.
   */
  | {
      readonly kind: "stored";
      readonly tier: KvTier;
      readonly parent: Int32Array | null;
      readonly hashes: Int32Array;
    }
  /** The tier does not hold these blocks any more, in any order. One that it did not hold is no error. */
  | { readonly kind: "removed"; readonly tier: KvTier; readonly hashes: Int32Array }
  /** The tier holds nothing. */
  | { readonly kind: "cleared"; readonly tier: KvTier };

/**
 * What changed in a worker's caches, in order. Batches of one worker are numbered from 1; the first one after a subscription may
 * be a snapshot, which stands for everything before it.
 */
export interface KvEventBatch {
  readonly sequence: number;
  /** Forget what is known of this worker's caches first: the events that follow tell everything. */
  readonly isSnapshot: boolean;
  readonly events: readonly KvEvent[];
}
