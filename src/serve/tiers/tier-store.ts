import type { LowerTier, Segment } from "../../core/kv/tiers/segment.ts";

/** Where the bytes of a lower tier are. Calls never reject: what goes wrong is an outcome. */
export interface TierStore {
  readonly tier: LowerTier;
  /** Keeps exported KV. Resolves with the bytes that it takes, or null when it could not be kept. */
  write(segment: Segment, payload: Uint8Array): Promise<number | null>;
  /** What `write` was given, or null when it is gone or not what it should be. The bytes are not to be changed. */
  read(segment: Segment): Promise<Uint8Array | null>;
  /** Takes effect after the writes that were asked for before. */
  delete(segment: Segment): void;
  /** Resolves when what was asked for has been done. */
  close(): Promise<void>;
}
