import { EngineError } from "./engine.ts";

/** Lets a bounded number of calls run at a time; a bounded number of others wait in order of arrival. */
export class ConcurrencyLimit {
  readonly #maxRunning: number;
  readonly #maxWaiting: number;
  readonly #waiting: Array<() => void> = [];
  readonly #running = new Set<Promise<unknown>>();

  constructor(limits: { readonly maxRunning: number; readonly maxWaiting: number }) {
    this.#maxRunning = limits.maxRunning;
    this.#maxWaiting = limits.maxWaiting;
  }

  /** Rejects with `EngineError` `bad_argument` when too many wait already. */
  run<T>(call: () => Promise<T>): Promise<T> {
    if (this.#running.size < this.#maxRunning) return this.#start(call);
    if (this.#waiting.length >= this.#maxWaiting) {
      const message = `${this.#maxWaiting} calls wait already: await earlier ones first`;
      return Promise.reject(new EngineError("bad_argument", message));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push(() => void this.#start(call).then(resolve, reject));
    });
  }

  /** Resolves when nothing runs or waits. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running);
  }

  #start<T>(call: () => Promise<T>): Promise<T> {
    const result = call();
    const finish = () => {
      this.#running.delete(result);
      this.#waiting.shift()?.();
    };
    this.#running.add(result);
    result.then(finish, finish);
    return result;
  }
}
