/** The clock and timers of the drivers, to be replaced in tests. */
export interface Timers {
  /** Milliseconds from an arbitrary origin; never goes back. */
  nowMs(): number;
  /** Calls `callback` once after `delayMs`. */
  after(delayMs: number, callback: () => void): { cancel(): void };
}

/** The machine's own clock. Its timers do not keep the process alive: what they watch over does. */
export const SYSTEM_TIMERS: Timers = {
  nowMs: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
};
