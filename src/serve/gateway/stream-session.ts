import type { ServerResponse } from "node:http";
import { ServingError } from "../../protocol/errors.ts";
import type { Placement } from "../fleet/fleet.ts";
import type { GatewayMetrics } from "../telemetry/metrics.ts";
import type { Flushable, FlushQueue } from "./flush-queue.ts";
import { DONE_EVENT, errorEvent, PING_EVENT, type StreamFraming } from "./framing.ts";
import type { Generation, GenerationObserver } from "./generation.ts";
import type { GatewayLimits } from "./options.ts";

export interface StreamOptions {
  readonly response: ServerResponse;
  /** Takes the response over and sends status 200 with the headers. */
  readonly sendHeaders: (placement: Placement | null) => void;
  readonly framing: StreamFraming;
  readonly includeUsage: boolean;
  /** Whether each event with output tells the usage so far. */
  readonly continuousUsage: boolean;
  readonly metrics: GatewayMetrics;
  readonly flushQueue: FlushQueue;
  readonly limits: GatewayLimits;
  /** Hears of an error that was sent in the stream, or of a client that was cut off for not reading. */
  readonly onTrouble: (trouble: ServingError) => void;
}

/**
 * A server-sent event stream of one generation.
 *
 * It is opened when the request is placed, when output comes, or when placement takes too long; an error before that
 * becomes an ordinary answer with a status. Once open it ends in one of three ways: finish reasons and `[DONE]`, an
 * error event, or a cut connection when the client does not read.
 */
export class StreamSession implements GenerationObserver, Flushable {
  /** Settles when the stream is open; rejects with the error that came before. */
  readonly opened: Promise<void>;
  #generation: Generation | undefined;
  readonly #options: StreamOptions;
  readonly #response: ServerResponse;
  readonly #isFinishSent: boolean[] = [];
  #resolveOpened: () => void = () => {};
  #rejectOpened: (error: ServingError) => void = () => {};
  #placement: Placement | null = null;
  #state: "waiting" | "open" | "closed" = "waiting";
  #isDone = false;
  #error: ServingError | null = null;
  #isQueued = false;
  /** Opens the stream when placement is late, then pings. */
  #timer: NodeJS.Timeout | undefined;
  /** Runs while output waits for a client that does not read. */
  #stallTimer: NodeJS.Timeout | undefined;

  constructor(options: StreamOptions) {
    this.#options = options;
    this.#response = options.response;
    this.opened = new Promise((resolve, reject) => {
      this.#resolveOpened = resolve;
      this.#rejectOpened = reject;
    });
    // When the fleet refuses at once nobody waits for the opening, and the connection may still close first.
    this.opened.catch(() => {});
  }

  /** @throws ServingError when the fleet does not take the generation; nothing has been sent then */
  start(generation: Generation): void {
    this.#generation = generation;
    generation.start();
    if (this.#state === "waiting" && this.#error === null)
      this.#timer = setTimeout(() => this.#queue(), this.#options.limits.placementWaitMs);
  }

  /** The connection is gone: frees timers. The generation is the caller's to cancel. */
  close(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#stallTimer);
    if (this.#state === "waiting")
      this.#rejectOpened(new ServingError("client_closed_request", "The client closed the connection."));
    this.#state = "closed";
  }

  onPlaced(placement: Placement): void {
    this.#placement = placement;
    this.#queue();
  }

  onOutput(): void {
    this.#queue();
  }

  onDone(): void {
    this.#isDone = true;
    this.#queue();
  }

  onFailed(error: ServingError): void {
    this.#error = error;
    this.#queue();
  }

  flush(): void {
    this.#isQueued = false;
    try {
      this.#advance();
    } catch (cause) {
      this.#break(cause);
    }
  }

  #advance(): void {
    if (this.#state === "closed") return;
    if (this.#state === "waiting" && !this.#open()) return;
    if (this.#error !== null || this.#isDone) this.#finish();
    else if (this.#response.writableNeedDrain) this.#holdBack();
    else this.#write(this.#pendingEvents());
  }

  #queue(): void {
    if (this.#isQueued || this.#state === "closed") return;
    this.#isQueued = true;
    this.#options.flushQueue.add(this);
  }

  /** Returns whether there is a stream to write to. */
  #open(): boolean {
    clearTimeout(this.#timer);
    const hasOutput = this.#generation?.choices.some((choice) => choice.hasPending) ?? false;
    if (this.#error !== null && !hasOutput) {
      this.#state = "closed";
      this.#rejectOpened(this.#error);
      return false;
    }
    this.#state = "open";
    this.#options.sendHeaders(this.#placement);
    this.#response.on("drain", () => this.#onDrain());
    this.#timer = setTimeout(() => this.#ping(), this.#options.limits.pingIntervalMs);
    this.#resolveOpened();
    return true;
  }

  #pendingEvents(): string {
    const { framing, continuousUsage } = this.#options;
    const usage = continuousUsage ? this.#generation!.usage() : null;
    let events = "";
    for (const choice of this.#generation!.choices) {
      if (choice.hasPending) events += framing.delta(choice, usage);
      if (choice.finishReason !== null && this.#isFinishSent[choice.index] !== true) {
        this.#isFinishSent[choice.index] = true;
        events += framing.finish(choice.index, choice.finishReason);
      }
    }
    return events;
  }

  #write(events: string): void {
    if (events === "") return;
    this.#timer!.refresh();
    this.#response.write(events);
  }

  /** Ends the stream. What is pending is bounded, so it may all go into the socket's buffer at once. */
  #finish(): void {
    const { framing, includeUsage, metrics, limits } = this.#options;
    clearTimeout(this.#timer);
    clearTimeout(this.#stallTimer);
    this.#state = "closed";
    let events = this.#pendingEvents();
    if (this.#error !== null) {
      metrics.streamErrors.inc({ code: this.#error.code });
      this.#options.onTrouble(this.#error);
      events += errorEvent(this.#error);
    } else {
      if (includeUsage) events += framing.usage(this.#generation!.usage());
      events += DONE_EVENT;
    }
    this.#response.end(events);
    this.#stallTimer = setTimeout(() => this.#cut("stopped reading"), limits.slowReaderMs);
  }

  #ping(): void {
    if (!this.#response.writableNeedDrain) {
      this.#options.metrics.totals.pings++;
      this.#response.write(PING_EVENT);
    }
    this.#timer!.refresh();
  }

  /** The client reads more slowly than tokens come: they are kept and will go out as one delta. */
  #holdBack(): void {
    const { limits, metrics } = this.#options;
    if (this.#stallTimer === undefined) {
      metrics.slowReaders.inc({ action: "coalesced" });
      this.#stallTimer = setTimeout(() => this.#cut("stopped reading"), limits.slowReaderMs);
    }
    let numChars = 0;
    for (const choice of this.#generation!.choices) numChars += choice.pendingChars;
    if (numChars > limits.pendingStreamChars) this.#cut("reads too slowly");
  }

  #onDrain(): void {
    clearTimeout(this.#stallTimer);
    this.#stallTimer = undefined;
    if (this.#state === "open") this.#queue();
  }

  /** A fault of our own in one stream ends that stream, and no other. */
  #break(cause: unknown): void {
    const error = new ServingError("internal_error", "Writing the stream failed.", { cause });
    this.#generation?.cancel();
    this.#options.onTrouble(error);
    const isOpen = this.#state !== "waiting";
    if (!isOpen) this.#rejectOpened(error);
    this.close();
    if (isOpen || this.#response.headersSent) this.#response.destroy();
  }

  /** No error event can reach a client that does not read; the broken connection tells it. */
  #cut(what: string): void {
    this.#options.metrics.slowReaders.inc({ action: "cut" });
    this.#generation?.cancel();
    this.#options.onTrouble(
      new ServingError("client_closed_request", `The client ${what}; the stream was cut.`),
    );
    this.close();
    this.#response.destroy();
  }
}
