import type { RequestId } from "../request.ts";
import type { SampledToken } from "../scheduler/step-plan.ts";
import type { Sequence } from "../sequence.ts";

/** Names one attempt at one handoff. Messages of another epoch are dropped and counted. */
export interface HandoffId {
  readonly requestId: RequestId;
  readonly epoch: number;
}

/** The attempt that a sequence belongs to. */
export function idOf({ request }: Sequence): HandoffId {
  return { requestId: request.id, epoch: request.epoch };
}

/** Why a handoff did not happen. Each is a label of the metric `twofold_worker_handoffs_total`. */
export type HandoffFailure =
  /** The decode worker has no room and a bounded line of others waiting for it. */
  | "no_space"
  /** A frame or the whole did not verify: checksum, positions, or the engine refused the bytes. */
  | "verification"
  /** A wait ran out. */
  | "timeout"
  /** The other worker is gone. */
  | "peer_lost"
  /** The client or the gateway gave up. */
  | "cancelled"
  /** The request is not known, or no longer. */
  | "unknown_request";

/** Outcome of a worker's handoffs so far, by `ok` or reason of failure. */
export type HandoffCounts = Readonly<Partial<Record<"ok" | HandoffFailure, number>>>;

/**
 * What the two sides of a handoff say to each other. One request's conversation, prefill worker on the left:
 *
 * ```
 *   reserve ─────────▶        numTokens: how many positions will come
 *           ◀───────── grant  cachedTokens: leading positions that are not needed
 *   kv, kv, kv … ────▶        each while the next chunk computes
 *   commit ──────────▶        the first output token; every position has been sent
 *           ◀───────── ack    everything verified: the prefill side may free, the decode side steps
 * ```
 *
 * `refuse` answers a reserve, `nack` a commit or a bad frame; either side may `abort` at any time.
 * `kv.payload` is opaque to the core: bytes in the server, a size in the twin.
 */
export type HandoffMessage =
  | (HandoffId & { readonly kind: "reserve"; readonly numTokens: number })
  | (HandoffId & { readonly kind: "grant"; readonly cachedTokens: number })
  | (HandoffId & { readonly kind: "refuse"; readonly reason: HandoffFailure })
  | (HandoffId & {
      readonly kind: "kv";
      readonly start: number;
      readonly end: number;
      readonly payload: unknown;
    })
  | (HandoffId & { readonly kind: "commit"; readonly numTokens: number; readonly firstToken: SampledToken })
  | (HandoffId & { readonly kind: "ack" })
  | (HandoffId & { readonly kind: "nack"; readonly reason: HandoffFailure })
  | (HandoffId & { readonly kind: "abort"; readonly reason: HandoffFailure })
  | FetchMessage;

/**
 * What a worker that prefills says to one that may have a part of the prompt in its caches, and the answer. It is no part of a handoff,
 * and may be under way beside one of the same request.
 *
 * ```
 *   fetch ─────────▶           hashes of the blocks from `firstBlock` on
 *         ◀───────── fetched   positions [start, end), in order and without gaps, as far as it has them
 *         ◀───────── fetch-end there is no more
 * ```
 */
export type FetchMessage =
  | (HandoffId & { readonly kind: "fetch"; readonly firstBlock: number; readonly hashes: Int32Array })
  | (HandoffId & {
      readonly kind: "fetched";
      readonly start: number;
      readonly end: number;
      readonly payload: unknown;
    })
  | (HandoffId & { readonly kind: "fetch-end" });

/** The answer to a message of a handoff that is not known, or no longer. */
export function unknownRequest(kind: "refuse" | "abort", { requestId, epoch }: HandoffId): HandoffMessage {
  return { kind, requestId, epoch, reason: "unknown_request" };
}

export function isFetchMessage(message: HandoffMessage): message is FetchMessage {
  return message.kind === "fetch" || message.kind === "fetched" || message.kind === "fetch-end";
}
