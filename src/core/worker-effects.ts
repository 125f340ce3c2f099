import type { HandoffFailure, HandoffId, HandoffMessage } from "./handoff/messages.ts";
import type { KvEventBatch } from "./kv/kv-events.ts";
import type { KvOp, KvRange } from "./kv/kv-ops.ts";
import type { PrefetchEffect } from "./kv/tiers/host-raiser.ts";
import type { OffloadOp } from "./kv/tiers/kv-tiers.ts";
import type { TierEffect } from "./kv/tiers/tier-effects.ts";
import type { FinishReason, RequestId, WorkerId } from "./request.ts";
import type { PrefixFetch } from "./router/placement.ts";
import type { SampledToken, StepPlan } from "./scheduler/step-plan.ts";

/** What a worker does with a request. */
export type WorkerTask =
  /** Prefill and decode here. */
  | { readonly kind: "local"; readonly fetch?: PrefixFetch | undefined }
  /** Prefill here, hand the KV to `peer`, emit the first token. */
  | { readonly kind: "prefill"; readonly peer: WorkerId; readonly fetch?: PrefixFetch | undefined }
  /** Receive the KV from `peer`, emit from the second token on. */
  | { readonly kind: "decode"; readonly peer: WorkerId };

/** Something a request's owner is told. */
export type RequestEvent =
  | {
      readonly kind: "token";
      readonly requestId: RequestId;
      readonly epoch: number;
      /** Counts output tokens of the request from 0, over all workers and attempts. */
      readonly index: number;
      readonly sampled: SampledToken;
    }
  /** Output tokens from `index` on, drawn in consecutive steps of one plan. */
  | {
      readonly kind: "run";
      readonly requestId: RequestId;
      readonly epoch: number;
      readonly index: number;
      readonly tokens: readonly SampledToken[];
    }
  | {
      readonly kind: "cached";
      readonly requestId: RequestId;
      readonly epoch: number;
      readonly numTokens: number;
    }
  | {
      readonly kind: "finish";
      readonly requestId: RequestId;
      readonly epoch: number;
      readonly reason: FinishReason;
      /** Output tokens over the request's life. */
      readonly numOutputTokens: number;
    }
  | {
      readonly kind: "failed";
      readonly requestId: RequestId;
      readonly epoch: number;
      readonly reason: HandoffFailure;
    };

/**
 * What a worker loop wants done, in order. Effects that touch the engine (`kv-ops`, `execute`, `push-kv`, `install-kv`, `offload`)
 * must reach its queue in the order in which they appear: that order is what makes it safe to reuse a block.
 */
export type WorkerEffect =
  | { readonly kind: "kv-ops"; readonly ops: readonly KvOp[] }
  /** Run the plan; report with `stepDone`. */
  | { readonly kind: "execute"; readonly plan: StepPlan }
  /** Nobody wants the step in flight any more: cut it short if that is possible. */
  | { readonly kind: "abort-step" }
  /** Export the range and send it; report with `kvPushed`. */
  | { readonly kind: "push-kv"; readonly peer: WorkerId; readonly id: HandoffId; readonly range: KvRange }
  /** Write the payload; report with `kvInstalled`. */
  | {
      readonly kind: "install-kv";
      readonly id: HandoffId;
      readonly range: KvRange;
      readonly payload: unknown;
    }
  /** Export the range and write it to the tiers; report each with `tierReport`. */
  | OffloadOp
  /** `read-tier`, `delete-tier` and `serve-kv`, beside effects that are named here as well. */
  | TierEffect
  | PrefetchEffect
  | { readonly kind: "send"; readonly peer: WorkerId; readonly message: HandoffMessage }
  | { readonly kind: "emit"; readonly events: readonly RequestEvent[] }
  /** The caches have changed; only from a worker whose `BlockManager` reports. */
  | { readonly kind: "kv-events"; readonly batch: KvEventBatch };

/** What a loop gives that wants nothing. */
export const NO_EFFECTS: readonly WorkerEffect[] = [];
