import type { Socket } from "node:net";
import type { HandoffMessage } from "../../core/handoff/messages.ts";
import type { WorkerId } from "../../core/request.ts";
import { carriesKv, FrameEncoder, type LinkFrame } from "../../protocol/kv-frame.ts";
import { FrameDecoder } from "../../protocol/kv-frame-decoder.ts";
import type { HandshakeSession } from "./handshake.ts";
import { SilenceWatch } from "./silence-watch.ts";
import type { Timers } from "./timers.ts";

/** Limits of one link. */
export interface KvLinkLimits {
  /** `send` resolves while no more than this waits for the kernel, so that a sender runs one frame ahead. */
  readonly highWaterBytes: number;
  /** `send` is refused rather than letting more than this wait for the kernel. Holds two frames of the largest size. */
  readonly maxQueuedBytes: number;
  /** `send` is refused rather than letting more calls than this wait. */
  readonly maxQueuedMessages: number;
  /** How often a link that has nothing else to send gives a sign of life. */
  readonly pingIntervalMs: number;
  /** A peer that has not sent a byte for longer than this is lost. */
  readonly silenceLimitMs: number;
  /** How long `close` waits for queued bytes to leave. */
  readonly closeGraceMs: number;
}

export const KV_LINK_LIMITS: KvLinkLimits = {
  highWaterBytes: 1024 * 1024,
  maxQueuedBytes: 128 * 1024 * 1024,
  maxQueuedMessages: 4096,
  pingIntervalMs: 1000,
  silenceLimitMs: 5000,
  closeGraceMs: 1000,
};

export type KvLinkErrorCode =
  /** There is no link to this worker, or it broke. */
  | "peer_lost"
  /** The peer does not take what it is sent fast enough. */
  | "queue_full"
  /** The address cannot be reached. */
  | "unreachable"
  /** The other side, or this one, does not want the link; the message says why. */
  | "refused"
  | "timeout"
  /** The mesh has been closed. */
  | "closed";

/** An expected failure of a link. */
export class KvLinkError extends Error {
  override name = "KvLinkError";
  readonly code: KvLinkErrorCode;

  constructor(code: KvLinkErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

export interface KvLinkOptions {
  readonly socket: Socket;
  readonly session: HandshakeSession;
  readonly limits: KvLinkLimits;
  readonly timers: Timers;
  /** `ms`: from the arrival of the message's first byte to that of its last. */
  readonly onMessage: (message: HandoffMessage, ms: number) => void;
  /** Called once, unless this side closed the link itself. */
  readonly onLost: (reason: string) => void;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: KvLinkError) => void;
}

/**
 * One authenticated connection to another worker, after its handshake. Messages arrive in the order of the `send`
 * calls, each once, or the link is lost.
 *
 * Each side gives a sign of life at an interval by itself instead of answering the other's ping: an answer would wait
 * behind whatever is queued on its side, a frame of 64 MiB for instance, while any byte of that frame is a sign of
 * life as well.
 */
export class KvLink {
  readonly peer: WorkerId;
  readonly linkId: string;
  readonly #options: KvLinkOptions;
  readonly #socket: Socket;
  readonly #encoder: FrameEncoder;
  readonly #decoder: FrameDecoder;
  readonly #watch: SilenceWatch;
  #waiters: Waiter[] = [];
  /** When the first bytes of the frame that is arriving came. */
  #frameSinceMs = 0;
  #isClosed = false;

  constructor(options: KvLinkOptions) {
    const { socket, session, limits, timers } = options;
    this.#options = options;
    this.#socket = socket;
    this.peer = session.peer.workerId;
    this.linkId = session.linkId;
    this.#encoder = new FrameEncoder(session.sendKey);
    this.#decoder = new FrameDecoder(session.receiveKey);
    this.#watch = new SilenceWatch({
      timers,
      limitMs: limits.silenceLimitMs,
      checkIntervalMs: limits.pingIntervalMs,
      onCheck: () => this.#ping(),
      onSilent: (silentMs) => this.drop(`the peer has been silent for ${Math.round(silentMs)} ms`),
    });
    socket.on("error", (error) => this.drop(`the connection broke: ${error.message}`));
    socket.on("close", () => this.drop("the peer closed the connection"));
  }

  /** Begins to read; `rest` is what came together with the end of the handshake. */
  start(rest: Uint8Array): void {
    this.#socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    this.#receive(rest);
    if (!this.#isClosed) this.#socket.resume();
  }

  get isOpen(): boolean {
    return !this.#isClosed;
  }

  /**
   * Queues a message and resolves when the queue is below the high-water mark, at once if it is. A KV payload must not
   * change before that. Rejects with {@link KvLinkError} (`peer_lost`, `queue_full`), or with `FrameError` when the
   * message cannot be sent by anyone.
   */
  async send(message: HandoffMessage): Promise<void> {
    if (this.#isClosed) throw new KvLinkError("peer_lost", `the link to worker ${this.peer} is closed`);
    this.#checkRoom(message);
    this.#write(this.#encoder.encode(message));
    if (this.#socket.writableLength <= this.#options.limits.highWaterBytes) return;
    await new Promise<void>((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  /** Breaks the link now and reports it as lost. No effect on a closed link. */
  drop(reason: string): void {
    if (!this.#end(reason)) return;
    this.#socket.destroy();
    this.#options.onLost(reason);
  }

  /** Lets queued bytes leave, then closes. Nothing is received or reported any more. */
  async close(): Promise<void> {
    if (!this.#end("the link was closed")) return;
    const socket = this.#socket;
    await new Promise<void>((resolve) => {
      const timer = this.#options.timers.after(this.#options.limits.closeGraceMs, () => socket.destroy());
      socket.once("close", () => {
        timer.cancel();
        resolve();
      });
      socket.resume();
      socket.destroySoon();
    });
  }

  #checkRoom(message: HandoffMessage): void {
    const { maxQueuedBytes, maxQueuedMessages } = this.#options.limits;
    const queued = this.#socket.writableLength;
    const bytes =
      carriesKv(message) && message.payload instanceof Uint8Array ? message.payload.byteLength : 0;
    if (queued + bytes <= maxQueuedBytes && this.#waiters.length < maxQueuedMessages) return;
    throw new KvLinkError(
      "queue_full",
      `worker ${this.peer} is ${queued} bytes and ${this.#waiters.length} messages behind: wait for earlier sends`,
    );
  }

  #write(pieces: readonly Uint8Array[]): void {
    const socket = this.#socket;
    // Corked, so that the pieces go out in one writev without being joined.
    socket.cork();
    for (const [i, piece] of pieces.entries()) {
      if (i === pieces.length - 1) socket.write(piece, () => this.#onWritten());
      else socket.write(piece);
    }
    socket.uncork();
  }

  #onWritten(): void {
    if (this.#waiters.length === 0 || this.#socket.writableLength > this.#options.limits.highWaterBytes)
      return;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.resolve();
  }

  #ping(): void {
    if (this.#socket.writableLength === 0) this.#write(this.#encoder.encode({ kind: "ping" }));
  }

  #receive(chunk: Uint8Array): void {
    if (this.#isClosed) return;
    this.#watch.heard();
    const nowMs = this.#options.timers.nowMs();
    if (!this.#decoder.isWithinFrame) this.#frameSinceMs = nowMs;
    try {
      this.#decoder.push(chunk, (frame) => {
        this.#deliver(frame, nowMs - this.#frameSinceMs);
        // The next one begins in this chunk, if it does not begin later.
        this.#frameSinceMs = nowMs;
      });
    } catch (error) {
      this.drop(error instanceof Error ? error.message : String(error));
    }
  }

  #deliver(frame: LinkFrame, ms: number): void {
    // The receiver of an earlier frame of this chunk may have closed the link.
    if (frame.kind !== "ping" && !this.#isClosed) this.#options.onMessage(frame, ms);
  }

  /** Whether the link was open until now. */
  #end(reason: string): boolean {
    if (this.#isClosed) return false;
    this.#isClosed = true;
    this.#watch.stop();
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { reject } of waiters) reject(new KvLinkError("peer_lost", `worker ${this.peer}: ${reason}`));
    return true;
  }
}
