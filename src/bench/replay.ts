import type { WorkloadRequest, WorkloadSource } from "../twin/workload/workload.ts";
import type { BenchClock } from "./clock.ts";

/** Arrivals that are due at once before input and output get a turn. */
const ARRIVALS_PER_TURN = 16;

/** How a replay reaches the server. */
export interface ReplayTarget {
  readonly clock: BenchClock;
  readonly signal: AbortSignal;
  /** Whether the run is over for requests that arrive at this time from its start. */
  isOver(offsetMs: number): boolean;
  /** Sends a request that is due; resolves when it has ended, well or not. Null: it was dropped. */
  send(request: WorkloadRequest, scheduledMs: number): Promise<void> | null;
}

/**
 * Sends the requests of a workload at their times, and tells it when they end, which makes the next ones of closed-loop sessions
 * known. Resolves when nothing is left to send.
 */
export async function replay(source: WorkloadSource, startMs: number, target: ReplayTarget): Promise<void> {
  const { clock, signal } = target;
  let numRunning = 0;
  let numInTurn = 0;
  let wake = new AbortController();
  let failure: unknown = null;
  /** Bad data that a source comes upon when it hears of an end is thrown from the loop, where somebody waits. */
  const finish = (request: WorkloadRequest): void => {
    try {
      source.ended(request, clock.nowMs() - startMs);
    } catch (error) {
      failure = error;
    }
    wake.abort();
  };
  const end = (request: WorkloadRequest): void => {
    numRunning--;
    finish(request);
  };
  const interrupt = (): void => wake.abort();
  signal.addEventListener("abort", interrupt);
  try {
    while (!signal.aborted) {
      if (failure !== null) throw failure;
      wake = new AbortController();
      const offsetMs = source.nextArrivalMs;
      if (offsetMs === Number.POSITIVE_INFINITY && numRunning === 0) return;
      if (target.isOver(offsetMs === Number.POSITIVE_INFINITY ? clock.nowMs() - startMs : offsetMs)) return;
      if (clock.nowMs() < startMs + offsetMs) {
        numInTurn = 0;
        // An end may make an earlier arrival known.
        await clock.sleepUntil(startMs + offsetMs, wake.signal);
        continue;
      }
      if (++numInTurn % ARRIVALS_PER_TURN === 0) {
        await clock.yieldToIo();
        continue;
      }
      const request = source.take();
      const sent = target.send(request, startMs + request.arrivalMs);
      if (sent === null) finish(request);
      else {
        numRunning++;
        void sent.then(() => end(request));
      }
    }
  } finally {
    signal.removeEventListener("abort", interrupt);
  }
}
