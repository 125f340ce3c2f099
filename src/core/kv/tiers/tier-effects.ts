import type { FetchMessage, HandoffId } from "../../handoff/messages.ts";
import type { WorkerId } from "../../request.ts";
import type { KvOp, KvRange } from "../kv-ops.ts";
import type { LowerTier, Segment, TierPiece } from "./segment.ts";

/** Part of an answer to another worker: positions [start, end), in cells of the engine or in a lower tier. */
export type ServedPart =
  | ({ readonly kind: "device" } & KvRange)
  | { readonly kind: "tier"; readonly piece: TierPiece; readonly start: number; readonly end: number };

/** What the lower tiers want done, in order. */
export type TierEffect =
  /** Read a piece of a tier, for positions [start, end); report with its number. */
  | { readonly kind: "read-tier"; readonly read: number; readonly piece: TierPiece; readonly range: KvRange }
  | {
      readonly kind: "install-kv";
      readonly id: HandoffId;
      readonly range: KvRange;
      readonly payload: unknown;
    }
  | { readonly kind: "send"; readonly peer: WorkerId; readonly message: FetchMessage }
  /**
   * Send the parts, in order, to `peer` as `fetched`, then `fetch-end`. What lies in cells of the engine is exported before any later
   * operation on them; what lies in a tier stays until its turn. Report `answered` with the number, unless there are no parts.
   */
  | {
      readonly kind: "serve-kv";
      readonly peer: WorkerId;
      readonly id: HandoffId;
      readonly answer: number;
      readonly parts: readonly ServedPart[];
    }
  | { readonly kind: "kv-ops"; readonly ops: readonly KvOp[] }
  /** Nobody will read this from the tier any more. */
  | { readonly kind: "delete-tier"; readonly tier: LowerTier; readonly segment: Segment };

/** What became of an effect on a lower tier. */
export type TierReport =
  /** A segment has been written, in so many bytes; null: it has not. */
  | {
      readonly kind: "written";
      readonly tier: LowerTier;
      readonly segment: Segment;
      readonly bytes: number | null;
    }
  /**
   * A read has ended that took `ms`, waits for other reads left out. `payload` is null when there are no bytes: they are gone or damaged, or
   * `wasBusy` says that the store could not read them now.
   */
  | {
      readonly kind: "read";
      readonly read: number;
      readonly payload: unknown;
      readonly ms: number;
      readonly wasBusy?: boolean;
    }
  /** An answer to another worker is with the link, as far as it got; `bad` is the piece that was gone or damaged, if one was. */
  | { readonly kind: "answered"; readonly answer: number; readonly bad: TierPiece | null }
  /** The store of a tier has failed for good. */
  | { readonly kind: "off"; readonly tier: LowerTier };
