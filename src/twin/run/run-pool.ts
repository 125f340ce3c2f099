import { Worker } from "node:worker_threads";
import type { RunProgress } from "../record/recorder.ts";
import type { RunOutcome, RunTask, ScenarioText, ThreadReply, ThreadRequest } from "./messages.ts";

/** Most threads at once. */
export const MAX_JOBS = 256;

/** A run that failed. `isBug`: not for anything that the user asked for; the message is then a stack. */
export class RunError extends Error {
  override name = "RunError";
  readonly code = "run_failed";
  readonly isBug: boolean;

  constructor(message: string, isBug: boolean) {
    super(message);
    this.isBug = isBug;
  }
}

export interface PoolOptions {
  readonly scenario: ScenarioText;
  readonly tasks: readonly RunTask[];
  /** Threads at once. */
  readonly jobs: number;
  /** Stops all threads; what is done stays. */
  readonly signal: AbortSignal;
  readonly onProgress?: (index: number, progress: RunProgress) => void;
  readonly onDone?: (index: number) => void;
  /** The file that threads run, by default the compiled `thread-main`. */
  readonly entry?: URL;
}

/**
 * Runs tasks in threads. Outcomes stand in the order of the tasks, however they finished; null for those that the signal
 * prevented. Rejects with {@link RunError} at the first failure, when all threads have ended.
 */
export async function runTasks(options: PoolOptions): Promise<(RunOutcome | null)[]> {
  const { tasks, signal } = options;
  const outcomes: (RunOutcome | null)[] = tasks.map(() => null);
  const queue = tasks.map((task, index): ThreadRequest => ({ index, task }));
  const stop = new AbortController();
  const abort = (): void => stop.abort();
  signal.addEventListener("abort", abort);
  if (signal.aborted) abort();
  try {
    const numThreads = Math.min(Math.max(options.jobs, 1), MAX_JOBS, tasks.length);
    const threads = Array.from({ length: numThreads }, async () => {
      try {
        await runThread(options, queue, outcomes, stop.signal);
      } catch (error) {
        stop.abort();
        throw error;
      }
    });
    const settled = await Promise.allSettled(threads);
    const failed = settled.find((thread) => thread.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    return outcomes;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** One thread that takes tasks until there are none. */
async function runThread(
  options: PoolOptions,
  queue: ThreadRequest[],
  outcomes: (RunOutcome | null)[],
  signal: AbortSignal,
): Promise<void> {
  if (signal.aborted || queue.length === 0) return;
  const entry = options.entry ?? new URL("./thread-main.js", import.meta.url);
  const thread = new Worker(entry, { workerData: options.scenario });
  try {
    await new Promise<void>((resolve, reject) => {
      const next = (): void => {
        const request = queue.shift();
        if (request === undefined || signal.aborted) resolve();
        else thread.postMessage(request);
      };
      signal.addEventListener("abort", () => resolve(), { once: true });
      thread.on("error", reject);
      thread.on("exit", (code) => reject(new RunError(`a thread ended with code ${code}`, true)));
      thread.on("message", (reply: ThreadReply) => {
        if (reply.kind === "progress") options.onProgress?.(reply.index, reply.progress);
        else if (reply.kind === "failed") reject(new RunError(reply.message, reply.isBug));
        else {
          outcomes[reply.index] = reply.outcome;
          options.onDone?.(reply.index);
          next();
        }
      });
      next();
    });
  } finally {
    thread.removeAllListeners();
    await thread.terminate();
  }
}
