import type { RequestId } from "../request.ts";
import type { Sequence } from "../sequence.ts";
import { assert } from "../util/assert.ts";
import type { HandoffCounts, HandoffFailure, HandoffId } from "./messages.ts";
import type { HandoffReceiver } from "./receiver.ts";
import type { HandoffSender } from "./sender.ts";

/** A request with what it takes to hand it over: one side of a handoff, or none. */
export interface HandoffEntry {
  readonly sequence: Sequence;
  readonly sender: HandoffSender | null;
  readonly receiver: HandoffReceiver | null;
}

/** The handoffs of one worker that are under way, by request, and their earliest deadline. */
export class HandoffTable<Entry extends HandoffEntry> {
  readonly #byRequest = new Map<RequestId, Entry>();
  readonly #counts: Partial<Record<"ok" | HandoffFailure, number>> = {};
  /** The earliest deadline, unless one has moved since it was looked for. */
  #deadlineMs = Number.POSITIVE_INFINITY;
  #areDeadlinesKnown = true;

  get counts(): HandoffCounts {
    return this.#counts;
  }

  /** Infinite when nothing is waited for. */
  get nextDeadlineMs(): number {
    if (!this.#areDeadlinesKnown) {
      this.#areDeadlinesKnown = true;
      this.#deadlineMs = Number.POSITIVE_INFINITY;
      for (const { sender, receiver } of this.#byRequest.values()) {
        this.#deadlineMs = Math.min(this.#deadlineMs, (sender ?? receiver)!.deadlineMs);
      }
    }
    return this.#deadlineMs;
  }

  count(outcome: "ok" | HandoffFailure): void {
    this.#counts[outcome] = (this.#counts[outcome] ?? 0) + 1;
  }

  /** A handoff has been put in, or has got an input: its deadline may have moved. */
  deadlineMoved(): void {
    this.#areDeadlinesKnown = false;
  }

  add(entry: Entry): void {
    this.#byRequest.set(entry.sequence.request.id, entry);
    this.deadlineMoved();
  }

  /** The handoff of this request and attempt. */
  find(id: HandoffId): Entry | undefined {
    const entry = this.#byRequest.get(id.requestId);
    return entry?.sequence.request.epoch === id.epoch ? entry : undefined;
  }

  has(entry: Entry): boolean {
    return this.#byRequest.get(entry.sequence.request.id) === entry;
  }

  /** Takes an entry out, if it is in. */
  remove(entry: Entry): void {
    if (!this.has(entry)) return;
    this.#byRequest.delete(entry.sequence.request.id);
    this.deadlineMoved();
  }

  /** A copy: handling one may remove others. */
  all(): Entry[] {
    return [...this.#byRequest.values()];
  }

  /** `entries`: everything that the worker has to do with, by request. */
  checkInvariants(entries: ReadonlyMap<RequestId, Entry>): void {
    for (const [requestId, entry] of this.#byRequest) {
      const { sender, receiver } = entry;
      assert(entries.get(requestId) === entry, "a handoff belongs to no request");
      const { deadlineMs } = (sender ?? receiver)!;
      assert(!this.#areDeadlinesKnown || this.#deadlineMs <= deadlineMs, "a deadline is overlooked");
      sender?.checkInvariants();
      receiver?.checkInvariants();
    }
  }
}
