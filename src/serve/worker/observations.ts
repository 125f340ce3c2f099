import type { HandoffId, HandoffMessage } from "../../core/handoff/messages.ts";
import type { WorkerId } from "../../core/request.ts";
import type { ObservedStep } from "../../core/router/placement.ts";
import { isDecoding } from "../../core/scheduler/policy.ts";
import type { StepPlan } from "../../core/scheduler/step-plan.ts";
import type { Subscribers } from "./subscribers.ts";

/** Handoffs whose ack is waited for; beyond, the oldest is not timed. */
const MAX_TIMED_HANDOFFS = 1024;

interface TimedHandoff {
  readonly peer: WorkerId;
  startMs: number;
  bytes: number;
}

/** Times a worker's steps and handoffs for those who take its reports. */
export class Observations {
  readonly #subscribers: Subscribers;
  readonly #nowMs: () => number;
  /** When the last call of the engine that was no step ended: a step behind it begins then. */
  #engineFreeAtMs = 0;
  readonly #handoffs = new Map<string, TimedHandoff>();

  constructor(subscribers: Subscribers, nowMs: () => number) {
    this.#subscribers = subscribers;
    this.#nowMs = nowMs;
  }

  /** A step is with the engine. Returns what to call when it has run. */
  stepBegins(plan: StepPlan): () => void {
    if (!this.#subscribers.takeReports) return () => {};
    const calledMs = this.#nowMs();
    const load = loadOf(plan);
    return () => {
      const ms = this.#nowMs() - Math.max(calledMs, this.#engineFreeAtMs);
      this.#subscribers.reportStep({ ...load, ms });
    };
  }

  /** The engine has done something else. */
  engineCalled(): void {
    this.#engineFreeAtMs = this.#nowMs();
  }

  /** KV of a handoff goes to the link. The last push before the ack is the one that is timed: the ack comes right after it. */
  pushed(peer: WorkerId, id: HandoffId, bytes: number, isFirstPiece: boolean): void {
    if (!this.#subscribers.takeReports) return;
    const key = keyOf(id);
    const earlier = isFirstPiece ? undefined : this.#handoffs.get(key);
    this.#handoffs.delete(key);
    this.#handoffs.set(key, {
      peer,
      startMs: earlier?.startMs ?? this.#nowMs(),
      bytes: (earlier?.bytes ?? 0) + bytes,
    });
    if (this.#handoffs.size <= MAX_TIMED_HANDOFFS) return;
    for (const oldest of this.#handoffs.keys()) {
      this.#handoffs.delete(oldest);
      return;
    }
  }

  /** A peer has said something: an ack ends a handoff, and so does anything that ends it badly. */
  received(peer: WorkerId, message: HandoffMessage): void {
    if (message.kind !== "ack" && message.kind !== "nack" && message.kind !== "abort") return;
    const key = keyOf(message);
    const handoff = this.#handoffs.get(key);
    if (handoff === undefined || handoff.peer !== peer) return;
    this.#handoffs.delete(key);
    if (message.kind !== "ack") return;
    const ms = this.#nowMs() - handoff.startMs;
    this.#subscribers.report({ kind: "transfer", to: peer, bytes: handoff.bytes, ms });
  }

  peerLost(peer: WorkerId): void {
    for (const [key, handoff] of this.#handoffs) if (handoff.peer === peer) this.#handoffs.delete(key);
  }
}

function keyOf({ requestId, epoch }: HandoffId): string {
  return `${requestId} ${epoch}`;
}

/** What a plan computes, as policies see it. */
function loadOf(plan: StepPlan): Omit<ObservedStep, "ms"> {
  let numPrefillTokens = 0;
  let prefillAttention = 0;
  let numDecodes = 0;
  let decodeContextTokens = 0;
  for (const { sequence, start, numTokens } of plan.chunks) {
    if (isDecoding(sequence)) {
      numDecodes++;
      decodeContextTokens += start + 1;
    } else {
      numPrefillTokens += numTokens;
      prefillAttention += numTokens * (start + numTokens / 2);
    }
  }
  return { numPrefillTokens, prefillAttention, numDecodes, decodeContextTokens };
}
