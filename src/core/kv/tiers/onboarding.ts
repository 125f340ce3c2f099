import type { WorkerId } from "../../request.ts";
import type { Sequence } from "../../sequence.ts";
import type { KvRange } from "../kv-ops.ts";
import type { ReadFor } from "./read-turns.ts";
import type { TierPiece } from "./segment.ts";

/** What another worker is asked for, behind what there is here. */
export interface Remote {
  readonly peer: WorkerId;
  readonly fromBlock: number;
  readonly toBlock: number;
  isAsked: boolean;
  /** Nothing more will come. */
  isOver: boolean;
  arrivedEnd: number;
}

export interface Read {
  readonly number: number;
  /** Null: it came from another worker. */
  readonly piece: TierPiece | null;
  readonly range: KvRange;
  readonly onboarding: Onboarding;
  payload: unknown;
  isDone: boolean;
  readMs: number;
}

/** One sequence whose KV comes up from lower tiers. */
export interface Onboarding {
  readonly sequence: Sequence;
  readonly pieces: readonly TierPiece[];
  readonly remote: Remote | null;
  readonly deadlineMs: number;
  /** One that stands for a turn that may come is read for while nobody waits for the tier. */
  readonly whom: ReadFor;
  numStarted: number;
  /** In order of position: under way, or done and waiting for those before. */
  readonly reads: Read[];
  /** Handed to the engine, in order. */
  readonly installs: Read[];
  hasFailed: boolean;
}
