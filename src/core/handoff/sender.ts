import type { WorkerId } from "../request.ts";
import type { SampledToken } from "../scheduler/step-plan.ts";
import type { Sequence } from "../sequence.ts";
import { assert } from "../util/assert.ts";
import type { HandoffFailure, HandoffMessage } from "./messages.ts";

/** How long each wait of a handoff may last. Every wait has exactly one such limit and one outcome. */
export interface HandoffTimeouts {
  /** Prefill side: from the reserve to the grant. Covers waiting for KV room on the decode worker. */
  readonly grantMs: number;
  /** Prefill side: from the commit to the ack. */
  readonly ackMs: number;
  /** Decode side: from the gateway's request to the reserve, which the prefill worker sends as soon as it is told. */
  readonly reserveMs: number;
  /** Decode side: between two frames, while the prefill worker computes the next chunk or waits for its turn. */
  readonly frameMs: number;
}

export const DEFAULT_HANDOFF_TIMEOUTS: HandoffTimeouts = {
  grantMs: 60_000,
  ackMs: 30_000,
  reserveMs: 60_000,
  frameMs: 120_000,
};

/**
 * When a prefill worker asks for room on the decode worker. `reserve-first`: before it computes, so that KV can leave chunk by chunk
 * and no work is lost for want of room. `compute-first`: with the first token, as Splitwise's simulator and DistServe do; the
 * prefill worker's memory is the buffer, and the whole prompt leaves at once.
 */
export type HandoffOrder = "reserve-first" | "compute-first";

/** What the sender wants done. */
export type SenderEffect =
  | { readonly kind: "send"; readonly message: HandoffMessage }
  /** Export positions [start, end) and send them; report with `onPushed`. */
  | { readonly kind: "push"; readonly start: number; readonly end: number }
  /** The decode worker has room: start computing. */
  | { readonly kind: "start" }
  /** Over, well or not: the sequence's KV may go. */
  | { readonly kind: "end"; readonly failure: HandoffFailure | null };

type SenderState = "computing" | "reserving" | "pushing" | "committing" | "ended";

/**
 * The prefill side of one handoff.
 *
 * ```
 *   reserving ──grant──▶ pushing ──all pushed──▶ committing ──ack──▶ ended
 *       │ compute-first: computing ──first token──▶ reserving ──grant──▶ pushing
 *       └────refuse, nack, abort, time-out, lost peer, cancel────────▶ ended with a failure
 * ```
 */
export class HandoffSender {
  readonly sequence: Sequence;
  readonly peer: WorkerId;
  readonly #timeouts: HandoffTimeouts;
  readonly #order: HandoffOrder;
  #state: SenderState = "reserving";
  #deadlineMs = Number.POSITIVE_INFINITY;
  /** Positions below this have been asked to be pushed, or are not needed. */
  #issuedEnd = 0;
  #pushesInFlight = 0;
  #firstToken: SampledToken | null = null;

  constructor(options: {
    sequence: Sequence;
    peer: WorkerId;
    timeouts: HandoffTimeouts;
    order?: HandoffOrder;
  }) {
    assert(options.sequence.stopsAfterPrefill, "the sequence would go on decoding here");
    this.sequence = options.sequence;
    this.peer = options.peer;
    this.#timeouts = options.timeouts;
    this.#order = options.order ?? "reserve-first";
  }

  /** When `onDeadline` is due; infinite while nothing is waited for. */
  get deadlineMs(): number {
    return this.#deadlineMs;
  }

  get #id(): { requestId: string; epoch: number } {
    return { requestId: this.sequence.request.id, epoch: this.sequence.request.epoch };
  }

  /** Positions to hand over: every known token before the first one drawn here. */
  get #numTokens(): number {
    return this.sequence.request.promptTokens.length + this.sequence.request.resumedTokens.length;
  }

  start(nowMs: number): SenderEffect[] {
    if (this.#order === "compute-first") {
      this.#state = "computing";
      return [{ kind: "start" }];
    }
    return this.#reserve(nowMs);
  }

  #reserve(nowMs: number): SenderEffect[] {
    this.#state = "reserving";
    this.#deadlineMs = nowMs + this.#timeouts.grantMs;
    return [{ kind: "send", message: { ...this.#id, kind: "reserve", numTokens: this.#numTokens } }];
  }

  /** A message of this handoff from the decode worker. */
  receive(message: HandoffMessage, nowMs: number): SenderEffect[] {
    if (message.kind === "grant") return this.onGrant(message.cachedTokens, nowMs);
    if (message.kind === "ack") return this.onAck();
    if (message.kind === "refuse" || message.kind === "nack" || message.kind === "abort") {
      return this.fail(message.reason, false);
    }
    return this.fail("verification", true);
  }

  onGrant(cachedTokens: number, nowMs: number): SenderEffect[] {
    if (this.#state !== "reserving") return [];
    if (!(cachedTokens >= 0 && cachedTokens <= this.#numTokens)) return this.fail("verification", true);
    this.#state = "pushing";
    this.#issuedEnd = cachedTokens;
    // Computing takes as long as it takes; the decode side watches over the pauses between frames.
    this.#deadlineMs = Number.POSITIVE_INFINITY;
    return this.#firstToken === null ? [{ kind: "start" }] : this.#pushComputed(nowMs);
  }

  /** A step has advanced the sequence. `firstToken` is set with the step that completes the prompt. */
  onComputed(firstToken: SampledToken | null, nowMs: number): SenderEffect[] {
    if (this.#state !== "pushing" && this.#state !== "computing") return [];
    if (firstToken !== null) this.#firstToken = firstToken;
    if (this.#state === "pushing") return this.#pushComputed(nowMs);
    return firstToken === null ? [] : this.#reserve(nowMs);
  }

  #pushComputed(nowMs: number): SenderEffect[] {
    const effects: SenderEffect[] = [];
    // After a preemption positions are computed again; what has been pushed already is not pushed twice.
    const end = Math.min(this.sequence.numComputedTokens, this.#numTokens);
    if (end > this.#issuedEnd) {
      effects.push({ kind: "push", start: this.#issuedEnd, end });
      this.#issuedEnd = end;
      this.#pushesInFlight++;
    }
    effects.push(...this.#commitIfComplete(nowMs));
    return effects;
  }

  /** A push has been handed to the link, or has failed. */
  onPushed(ok: boolean, nowMs: number): SenderEffect[] {
    this.#pushesInFlight--;
    if (this.#state !== "pushing") return [];
    return ok ? this.#commitIfComplete(nowMs) : this.fail("peer_lost", false);
  }

  onAck(): SenderEffect[] {
    if (this.#state !== "committing") return [];
    return this.#end(null);
  }

  /** The other side refused, did not verify, or gave up; or we do (`tellPeer`). */
  fail(reason: HandoffFailure, tellPeer: boolean): SenderEffect[] {
    if (this.#state === "ended") return [];
    const effects: SenderEffect[] = [];
    if (tellPeer) effects.push({ kind: "send", message: { ...this.#id, kind: "abort", reason } });
    return [...effects, ...this.#end(reason)];
  }

  onDeadline(nowMs: number): SenderEffect[] {
    if (nowMs < this.#deadlineMs) return [];
    // A decode worker that is there and does not grant is full: links notice those that are gone.
    return this.fail(this.#state === "reserving" ? "no_space" : "timeout", true);
  }

  #commitIfComplete(nowMs: number): SenderEffect[] {
    if (this.#firstToken === null || this.#pushesInFlight > 0) return [];
    this.#state = "committing";
    this.#deadlineMs = nowMs + this.#timeouts.ackMs;
    const numTokens = this.#numTokens;
    return [
      { kind: "send", message: { ...this.#id, kind: "commit", numTokens, firstToken: this.#firstToken } },
    ];
  }

  #end(failure: HandoffFailure | null): SenderEffect[] {
    this.#state = "ended";
    this.#deadlineMs = Number.POSITIVE_INFINITY;
    return [{ kind: "end", failure }];
  }

  checkInvariants(): void {
    assert(this.#pushesInFlight >= 0, "more pushes ended than began");
    assert(this.#issuedEnd <= this.#numTokens, "pushed beyond the prompt");
    if (this.#state === "committing") {
      assert(this.#issuedEnd === this.#numTokens && this.#pushesInFlight === 0, "committed too early");
    }
  }
}
