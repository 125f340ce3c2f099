import { EngineError } from "./engine.ts";

/** Calls that may wait behind the one that runs. A worker has one step and a few transfers in flight. */
export const MAX_WAITING_CALLS = 4096;

/**
 * Runs calls strictly one after the other, in the order in which they were made. A call that finds the queue idle starts
 * synchronously, so that an engine step costs no trip through the event loop before it begins.
 */
export class CallQueue {
  readonly #waiting: Array<() => void> = [];
  #isBusy = false;
  #isDraining = false;
  #isClosed = false;
  #notifyIdle: (() => void) | null = null;

  get isIdle(): boolean {
    return !this.#isBusy && this.#waiting.length === 0;
  }

  /** Runs `call` when all earlier ones have settled. Rejects with `EngineError` when closed or overfull. */
  run<T>(call: () => T | Promise<T>): Promise<T> {
    if (this.#isClosed) return Promise.reject(new EngineError("closed", "the engine has been closed"));
    if (this.isIdle) return this.#start(call);
    if (this.#waiting.length >= MAX_WAITING_CALLS) {
      const message = `${MAX_WAITING_CALLS} calls wait for the engine already: await earlier ones first`;
      return Promise.reject(new EngineError("bad_argument", message));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push(() => void this.#start(call).then(resolve, reject));
    });
  }

  /** Lets no further call in and resolves when the last one has settled. */
  close(): Promise<void> {
    this.#isClosed = true;
    if (this.isIdle) return Promise.resolve();
    return new Promise((resolve) => {
      this.#notifyIdle = resolve;
    });
  }

  #start<T>(call: () => T | Promise<T>): Promise<T> {
    this.#isBusy = true;
    let result: T | Promise<T>;
    try {
      result = call();
    } catch (error) {
      this.#finish();
      return Promise.reject(error);
    }
    if (!(result instanceof Promise)) {
      this.#finish();
      return Promise.resolve(result);
    }
    // This reaction comes before any of the caller's, who therefore finds the queue free.
    result.then(this.#finish, this.#finish);
    return result;
  }

  readonly #finish = (): void => {
    this.#isBusy = false;
    // A chain of calls that finish at once is a loop here, not a recursion as deep as the queue is long.
    if (this.#isDraining) return;
    this.#isDraining = true;
    while (!this.#isBusy) {
      const next = this.#waiting.shift();
      if (next === undefined) break;
      next();
    }
    this.#isDraining = false;
    if (this.isIdle) this.#notifyIdle?.();
  };
}
