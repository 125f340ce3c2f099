import type { ServerResponse } from "node:http";
import { encodeEvent } from "../../protocol/event-codec.ts";
import type { WorkerEvent } from "../../protocol/worker-rpc.ts";

/**
 * Writes events to one subscriber as lines of JSON. What one step yields goes out in one write as soon as the
 * worker has dealt with it, so that a step costs one system call however many events it makes. A subscriber that reads more slowly than
 * events come is cut when more than `maxBufferedBytes` wait for it: it would have to be told what it missed, and
 * connecting anew says exactly that. Reports may take half of that room: one that
 * finds no place is left out, and a batch of KV events that is missing shows in the numbers of the others.
 */
export class EventFeed {
  readonly #response: ServerResponse;
  readonly #maxBufferedBytes: number;
  #lines = "";
  #isFlushDue = false;
  #isOpen = true;

  constructor(response: ServerResponse, maxBufferedBytes: number) {
    this.#response = response;
    this.#maxBufferedBytes = maxBufferedBytes;
  }

  get #numBuffered(): number {
    return this.#lines.length + this.#response.writableLength;
  }

  push(event: WorkerEvent): void {
    if (!this.#isOpen) return;
    const isReport = event.kind === "kv" || event.kind === "steps" || event.kind === "transfer";
    if (isReport && this.#numBuffered > this.#maxBufferedBytes / 2) return;
    this.#lines += `${encodeEvent(event)}\n`;
    // Lines are ASCII but for error messages, so characters are close enough to bytes for a bound.
    if (this.#numBuffered > this.#maxBufferedBytes) {
      this.stop();
      this.#response.destroy();
      return;
    }
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    // A microtask: the next step may begin, and hold the thread, before the event loop gets its turn.
    queueMicrotask(() => {
      this.#isFlushDue = false;
      const lines = this.#lines;
      this.#lines = "";
      if (this.#isOpen) this.#response.write(lines);
    });
  }

  /** Writes nothing more. */
  stop(): void {
    this.#isOpen = false;
    this.#lines = "";
  }
}
