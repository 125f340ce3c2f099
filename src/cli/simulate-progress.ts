import type { RunProgress } from "../twin/record/recorder.ts";
import type { RunTask } from "../twin/run/messages.ts";
import type { CliIo } from "./io.ts";
import { ProgressLine } from "./progress-line.ts";

const BAR_WIDTH = 24;

/** A progress bar for runs of the twin. */
export class SimulateProgress {
  readonly #line: ProgressLine;
  readonly #tasks: readonly RunTask[];
  #numDone = 0;

  constructor(io: CliIo, tasks: readonly RunTask[]) {
    this.#line = new ProgressLine(io);
    this.#tasks = tasks;
  }

  /** A run goes on. */
  show(index: number, state: RunProgress): void {
    this.#line.show(() => {
      const virtual = `${(state.virtualMs / 1000).toFixed(0)} s virtual`;
      return this.#describe(index, `${state.numEnded} of ${state.numArrived} requests over, ${virtual}`);
    });
  }

  /** A run is over. */
  done(index: number): void {
    this.#numDone++;
    this.#line.show(() => this.#describe(index, "done"), true);
  }

  clear(): void {
    this.#line.clear();
  }

  #describe(index: number, state: string): string {
    const { fleet, seed } = this.#tasks[index]!;
    const filled = Math.round((this.#numDone / this.#tasks.length) * BAR_WIDTH);
    const bar = "#".repeat(filled).padEnd(BAR_WIDTH, "-");
    return `[${bar}] ${this.#numDone}/${this.#tasks.length} runs  ${fleet}, seed ${seed}: ${state}`;
  }
}
