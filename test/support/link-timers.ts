import type { Timers } from "../../src/serve/transfer/timers.ts";

interface Armed {
  readonly dueMs: number;
  readonly callback: () => void;
}

/** A clock that moves when the test says so. */
export class ManualTimers implements Timers {
  #nowMs = 0;
  readonly #armed = new Set<Armed>();

  nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, callback: () => void): { cancel(): void } {
    const armed = { dueMs: this.#nowMs + delayMs, callback };
    this.#armed.add(armed);
    return { cancel: () => this.#armed.delete(armed) };
  }

  /** How many timers wait. */
  get size(): number {
    return this.#armed.size;
  }

  /** Moves on, firing what falls due on the way, each at its time. */
  advance(byMs: number): void {
    const untilMs = this.#nowMs + byMs;
    for (;;) {
      const due = [...this.#armed]
        .filter((armed) => armed.dueMs <= untilMs)
        .sort((a, b) => a.dueMs - b.dueMs)[0];
      if (due === undefined) break;
      this.#nowMs = Math.max(this.#nowMs, due.dueMs);
      this.#armed.delete(due);
      due.callback();
    }
    this.#nowMs = untilMs;
  }

  /** Moves on in one leap, as a process does that stood still: everything that is due fires late, at the new time. */
  leap(byMs: number): void {
    this.#nowMs += byMs;
    const due = [...this.#armed].filter((armed) => armed.dueMs <= this.#nowMs);
    for (const armed of due) this.#armed.delete(armed);
    for (const armed of due) armed.callback();
  }
}
