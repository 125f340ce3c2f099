import type { LowerTier, Segment } from "../../core/kv/tiers/segment.ts";

/**
 * What a read gives: the bytes, which are not to be changed, or `bad` when they are gone or not what they should be, or `busy` when they
 * could not be read now, which says nothing about them.
 */
export type ReadOutcome = Uint8Array | "bad" | "busy";

/** Where the bytes of a lower tier are. Calls never reject: what goes wrong is an outcome. */
export interface TierStore {
  readonly tier: LowerTier;
  /** Keeps exported KV. Resolves with the bytes that it takes, or null when it could not be kept. */
  write(segment: Segment, payload: Uint8Array): Promise<number | null>;
  /** What `write` was given. */
  read(segment: Segment): Promise<ReadOutcome>;
  /** Takes effect after the writes that were asked for before. */
  delete(segment: Segment): void;
  /** Resolves when what was asked for has been done. */
  close(): Promise<void>;
}
