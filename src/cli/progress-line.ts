import { monotonicClock } from "../bench/clock.ts";
import type { CliIo } from "./io.ts";

/** Time between two updates. */
const INTERVAL_MS = 200;

/** Columns of a terminal that does not say. */
const DEFAULT_COLUMNS = 120;

/** One line on a terminal that is written over; nothing at all elsewhere. */
export class ProgressLine {
  readonly #io: CliIo;
  #shownAtMs = Number.NEGATIVE_INFINITY;
  #isShown = false;

  constructor(io: CliIo) {
    this.#io = io;
  }

  /** Shows what `text` gives, unless something was shown a moment ago; `isNow`: in any case. */
  show(text: () => string, isNow = false): void {
    if (this.#io.stderr.isTTY !== true) return;
    const nowMs = monotonicClock.nowMs();
    if (!isNow && nowMs - this.#shownAtMs < INTERVAL_MS) return;
    this.#shownAtMs = nowMs;
    this.#isShown = true;
    const width = (this.#io.stderr.columns ?? DEFAULT_COLUMNS) - 1;
    this.#io.stderr.write(`\r\x1b[K${text().slice(0, width)}`);
  }

  clear(): void {
    if (this.#isShown) this.#io.stderr.write("\r\x1b[K");
    this.#isShown = false;
  }
}
