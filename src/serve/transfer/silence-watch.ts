import type { Timers } from "./timers.ts";

export interface SilenceWatchOptions {
  readonly timers: Timers;
  /** Silence that is longer than this ends the watch. */
  readonly limitMs: number;
  /** How often to look. */
  readonly checkIntervalMs: number;
  /** Called at every look that is not the last: the place for a ping. */
  readonly onCheck?: (silentMs: number) => void;
  readonly onSilent: (silentMs: number) => void;
}

/**
 * Notices that a peer has fallen silent: a partitioned TCP connection stays "open" for ever, and a stopped process
 * keeps its sockets.
 *
 * When this process itself stood still, what the peer sent meanwhile waits unread in the socket, so a look that comes
 * late by more than a whole interval says nothing about the peer, and the count starts again.
 */
export class SilenceWatch {
  readonly #options: SilenceWatchOptions;
  #lastHeardMs: number;
  #dueMs = 0;
  #timer: { cancel(): void } | null = null;

  constructor(options: SilenceWatchOptions) {
    this.#options = options;
    this.#lastHeardMs = options.timers.nowMs();
    this.#arm();
  }

  /** The peer has shown that it lives. */
  heard(): void {
    this.#lastHeardMs = this.#options.timers.nowMs();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #arm(): void {
    const { timers, checkIntervalMs } = this.#options;
    this.#dueMs = timers.nowMs() + checkIntervalMs;
    this.#timer = timers.after(checkIntervalMs, () => this.#look());
  }

  #look(): void {
    const { timers, limitMs, checkIntervalMs, onCheck, onSilent } = this.#options;
    const nowMs = timers.nowMs();
    if (nowMs - this.#dueMs > checkIntervalMs) this.#lastHeardMs = nowMs;
    const silentMs = nowMs - this.#lastHeardMs;
    if (silentMs > limitMs) {
      this.#timer = null;
      onSilent(silentMs);
      return;
    }
    // The next look is armed first, so that the callback may stop the watch.
    this.#arm();
    onCheck?.(silentMs);
  }
}
