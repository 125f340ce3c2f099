import { monotonicClock } from "../bench/clock.ts";
import type { RunProgress } from "../twin/record/recorder.ts";
import type { RunTask } from "../twin/run/messages.ts";
import type { CliIo } from "./io.ts";

/** Time between two updates. */
const INTERVAL_MS = 200;

const BAR_WIDTH = 24;

/** A progress bar on a terminal, one line that is written over; nothing at all elsewhere. */
export class SimulateProgress {
  readonly #io: CliIo;
  readonly #tasks: readonly RunTask[];
  #numDone = 0;
  #shownAtMs = Number.NEGATIVE_INFINITY;
  #isShown = false;

  constructor(io: CliIo, tasks: readonly RunTask[]) {
    this.#io = io;
    this.#tasks = tasks;
  }

  /** A run goes on. */
  show(index: number, state: RunProgress): void {
    const nowMs = monotonicClock.nowMs();
    if (nowMs - this.#shownAtMs < INTERVAL_MS) return;
    this.#shownAtMs = nowMs;
    const { fleet, seed } = this.#tasks[index]!;
    const virtual = `${(state.virtualMs / 1000).toFixed(0)} s virtual`;
    this.#write(`${fleet}, seed ${seed}: ${state.numEnded} of ${state.numArrived} requests over, ${virtual}`);
  }

  /** A run is over. */
  done(index: number): void {
    this.#numDone++;
    const { fleet, seed } = this.#tasks[index]!;
    this.#write(`${fleet}, seed ${seed}: done`);
  }

  clear(): void {
    if (this.#isShown) this.#io.stderr.write("\r\x1b[K");
    this.#isShown = false;
  }

  #write(text: string): void {
    if (this.#io.stderr.isTTY !== true) return;
    const filled = Math.round((this.#numDone / this.#tasks.length) * BAR_WIDTH);
    const bar = "#".repeat(filled).padEnd(BAR_WIDTH, "-");
    const line = `[${bar}] ${this.#numDone}/${this.#tasks.length} runs  ${text}`;
    this.#io.stderr.write(`\r\x1b[K${line.slice(0, (this.#io.stderr.columns ?? 120) - 1)}`);
    this.#isShown = true;
  }
}
