import type { WorkerId } from "../request.ts";
import type { SampledToken } from "../scheduler/step-plan.ts";
import type { Sequence } from "../sequence.ts";
import { assert, assertNever } from "../util/assert.ts";
import type { HandoffFailure, HandoffMessage } from "./messages.ts";
import type { HandoffTimeouts } from "./sender.ts";

/** What the receiver wants done. */
export type ReceiverEffect =
  | { readonly kind: "send"; readonly message: HandoffMessage }
  /** Both the gateway and the prefill worker have announced the request: queue it for KV room. */
  | { readonly kind: "queue" }
  /** Write the payload to positions [start, end); report with `onInstalled`. */
  | { readonly kind: "install"; readonly start: number; readonly end: number; readonly payload: unknown }
  /** Everything is verified: the sequence may step, from this token on. */
  | { readonly kind: "activate"; readonly firstToken: SampledToken }
  /** Over without a result: what was reserved may go. */
  | { readonly kind: "end"; readonly failure: HandoffFailure };

type ReceiverState = "expected" | "queued" | "receiving" | "verifying" | "ended";

/**
 * The decode side of one handoff.
 *
 * ```
 *   expected ──reserve──▶ queued ──room──▶ receiving ──commit──▶ verifying ──installed──▶ ended (active)
 *       └────────bad frame, abort, time-out, lost peer, cancel────────▶ ended with a failure
 * ```
 *
 * Frames must come in order and without gaps: the link keeps order, so anything else is a fault. `numComputedTokens` of the
 * sequence follows what has been installed, never what has merely arrived.
 */
export class HandoffReceiver {
  readonly sequence: Sequence;
  readonly peer: WorkerId;
  readonly #timeouts: HandoffTimeouts;
  #state: ReceiverState = "expected";
  #deadlineMs: number;
  #arrivedEnd = 0;
  #installsInFlight = 0;
  #firstToken: SampledToken | null = null;

  constructor(options: { sequence: Sequence; peer: WorkerId; timeouts: HandoffTimeouts; nowMs: number }) {
    this.sequence = options.sequence;
    this.peer = options.peer;
    this.#timeouts = options.timeouts;
    this.#deadlineMs = options.nowMs + options.timeouts.reserveMs;
  }

  get deadlineMs(): number {
    return this.#deadlineMs;
  }

  get #id(): { requestId: string; epoch: number } {
    return { requestId: this.sequence.request.id, epoch: this.sequence.request.epoch };
  }

  get #numTokens(): number {
    return this.sequence.numKnownTokens;
  }

  /** A message of this handoff from the prefill worker. */
  receive(message: HandoffMessage, nowMs: number): ReceiverEffect[] {
    switch (message.kind) {
      case "reserve":
        return this.onReserve(message.numTokens);
      case "kv":
        return this.onKv(message.start, message.end, message.payload, nowMs);
      case "commit":
        return this.onCommit(message.numTokens, message.firstToken);
      case "abort":
        return this.fail(message.reason, false);
      case "grant":
      case "refuse":
      case "ack":
      case "nack":
      case "fetch":
      case "fetched":
      case "fetch-end":
        return this.fail("verification", true);
      default:
        return assertNever(message);
    }
  }

  onReserve(numTokens: number): ReceiverEffect[] {
    if (this.#state !== "expected") return [];
    if (numTokens !== this.#numTokens) return this.fail("verification", true);
    this.#state = "queued";
    // The prefill side bounds this wait: it asked, and aborts when the grant does not come.
    this.#deadlineMs = Number.POSITIVE_INFINITY;
    return [{ kind: "queue" }];
  }

  /** Room has been taken, and what lower tiers have has come up: the sequence's cached prefix needs no transfer. */
  onRoom(nowMs: number): ReceiverEffect[] {
    assert(this.#state === "queued", "room for a sequence that did not ask");
    this.#state = "receiving";
    this.#arrivedEnd = this.sequence.numComputedTokens;
    this.#deadlineMs = nowMs + this.#timeouts.frameMs;
    return [{ kind: "send", message: { ...this.#id, kind: "grant", cachedTokens: this.#arrivedEnd } }];
  }

  onKv(start: number, end: number, payload: unknown, nowMs: number): ReceiverEffect[] {
    if (this.#state === "ended") return [];
    const fits =
      this.#state === "receiving" && start === this.#arrivedEnd && end > start && end <= this.#numTokens;
    if (!fits) return this.#refuse();
    this.#arrivedEnd = end;
    this.#installsInFlight++;
    this.#deadlineMs = nowMs + this.#timeouts.frameMs;
    return [{ kind: "install", start, end, payload }];
  }

  /** The engine has taken a frame's KV, or rejected it. */
  onInstalled(end: number, ok: boolean): ReceiverEffect[] {
    this.#installsInFlight--;
    if (this.#state === "ended") return [];
    if (!ok) return this.#refuse();
    this.sequence.numComputedTokens = end;
    return this.#activateIfComplete();
  }

  onCommit(numTokens: number, firstToken: SampledToken): ReceiverEffect[] {
    if (this.#state === "ended") return [];
    const complete =
      this.#state === "receiving" && numTokens === this.#numTokens && this.#arrivedEnd === numTokens;
    if (!complete) return this.#refuse();
    this.#state = "verifying";
    this.#deadlineMs = Number.POSITIVE_INFINITY;
    this.#firstToken = firstToken;
    return this.#activateIfComplete();
  }

  fail(reason: HandoffFailure, tellPeer: boolean): ReceiverEffect[] {
    if (this.#state === "ended") return [];
    const effects: ReceiverEffect[] = [];
    if (tellPeer) effects.push({ kind: "send", message: { ...this.#id, kind: "abort", reason } });
    return [...effects, ...this.#end(reason)];
  }

  onDeadline(nowMs: number): ReceiverEffect[] {
    return nowMs < this.#deadlineMs ? [] : this.fail("timeout", true);
  }

  #refuse(): ReceiverEffect[] {
    const reason: HandoffFailure = "verification";
    return [{ kind: "send", message: { ...this.#id, kind: "nack", reason } }, ...this.#end(reason)];
  }

  #activateIfComplete(): ReceiverEffect[] {
    if (this.#state !== "verifying" || this.#installsInFlight > 0) return [];
    assert(this.#firstToken !== null, "committed without a first token");
    if (this.sequence.numComputedTokens !== this.#numTokens) return this.#refuse();
    this.#state = "ended";
    return [
      { kind: "send", message: { ...this.#id, kind: "ack" } },
      { kind: "activate", firstToken: this.#firstToken },
    ];
  }

  #end(failure: HandoffFailure): ReceiverEffect[] {
    this.#state = "ended";
    this.#deadlineMs = Number.POSITIVE_INFINITY;
    return [{ kind: "end", failure }];
  }

  checkInvariants(): void {
    assert(this.#installsInFlight >= 0, "more installs ended than began");
    assert(this.#arrivedEnd <= this.#numTokens, "received beyond the prompt");
    assert(
      this.#state !== "receiving" || this.sequence.numComputedTokens <= this.#arrivedEnd,
      "counted KV that has not arrived",
    );
  }
}
