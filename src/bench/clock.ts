import { performance } from "node:perf_hooks";

/** Time as the load generator sees it; a test has its own. */
export interface BenchClock {
  /** Monotonic milliseconds since an arbitrary moment. */
  nowMs(): number;
  /** Resolves when `nowMs()` has reached the given time, at once if it has, or early when the signal aborts. */
  sleepUntil(timeMs: number, signal: AbortSignal): Promise<void>;
  /** Lets pending input and output have its turn. */
  yieldToIo(): Promise<void>;
}

/** Longest delay of a timer in Node; longer sleeps are taken in parts. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** The monotonic clock of this machine. */
export const monotonicClock: BenchClock = {
  nowMs: () => performance.now(),
  async sleepUntil(timeMs, signal) {
    while (!signal.aborted) {
      const remainingMs = timeMs - performance.now();
      if (remainingMs <= 0) return;
      await sleep(Math.min(remainingMs, MAX_TIMER_MS), signal);
    }
  },
  yieldToIo: () => new Promise((resolve) => setImmediate(resolve)),
};

function sleep(durationMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      resolve();
    };
    const timer = setTimeout(finish, durationMs);
    signal.addEventListener("abort", finish);
  });
}
