import type { Sequence } from "../../sequence.ts";
import { isDecoding, type StepBuilder } from "../policy.ts";

/** One half of a sequence's work that is in no step: its prompt, or its decodes. */
export interface Waiter {
  readonly sequence: Sequence;
  readonly isDecode: boolean;
  /** Steps that were chosen without it while it could have run. */
  numPasses: number;
}

/**
 * Who waits for a step and how often each has been passed over, as Splitwise's simulator keeps it: one line of prompts and decodes, by
 * passes and arrival. A place in the line is found when somebody joins it, and not again when others have been passed over since. A
 * request that prefills and decodes here stands in it twice from the beginning; its decodes are not passed over before its prompt has
 * been computed.
 */
export class PassLine {
  #line: Waiter[] = [];
  readonly #prompts = new WeakMap<Sequence, Waiter>();
  readonly #decodes = new WeakMap<Sequence, Waiter>();

  /** Takes in who has come, and lets go who has finished. `batch`: decodes of the step before, which do not wait. */
  follow(step: StepBuilder, batch: readonly Sequence[]): void {
    this.#line = this.#line.filter(({ sequence: { status }, isDecode }) =>
      isDecode ? status === "running" || status === "waiting" : status === "waiting",
    );
    const known = new Set(this.#line);
    const stands = (sequence: Sequence, isDecode: boolean) => {
      const waiter = (isDecode ? this.#decodes : this.#prompts).get(sequence);
      return waiter !== undefined && known.has(waiter);
    };
    const inBatch = new Set(batch);
    const newcomers = [...step.waiting].filter((sequence) => !stands(sequence, false));
    for (const sequence of step.running) {
      if (isDecoding(sequence) && !inBatch.has(sequence) && !stands(sequence, true)) newcomers.push(sequence);
    }
    for (const sequence of newcomers.sort((a, b) => a.readyOrder - b.readyOrder)) {
      const isPrompt = sequence.status === "waiting";
      if (isPrompt) this.#join(this.#prompts, sequence, false);
      if (!sequence.stopsAfterPrefill && !stands(sequence, true)) this.#join(this.#decodes, sequence, true);
    }
  }

  /** Those at the head of the line that have been passed over so often, up to the first that has not. */
  *starved(maxPasses: number): Iterable<Waiter> {
    for (const waiter of this.#line) {
      if (waiter.numPasses < maxPasses) return;
      yield waiter;
    }
  }

  /** A step has been chosen: `displaced` decodes wait again, the chosen leave the line, everybody else is passed over. */
  settle(displaced: readonly Sequence[], isChosen: (sequence: Sequence) => boolean): void {
    for (const sequence of displaced) this.#join(this.#decodes, sequence, true);
    this.#line = this.#line.filter(({ sequence, isDecode }) => {
      // A prompt in the step leaves its own decodes behind.
      return !isChosen(sequence) || (isDecode && !isDecoding(sequence));
    });
    for (const waiter of this.#line) {
      if (!waiter.isDecode || isDecoding(waiter.sequence)) waiter.numPasses++;
    }
  }

  /** Whoever stands still keeps the passes that it has had; a place is by passes and arrival at this moment. */
  #join(waiters: WeakMap<Sequence, Waiter>, sequence: Sequence, isDecode: boolean): void {
    const waiter = waiters.get(sequence) ?? { sequence, isDecode, numPasses: 0 };
    waiters.set(sequence, waiter);
    let [low, high] = [0, this.#line.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (comesBefore(waiter, this.#line[middle]!)) high = middle;
      else low = middle + 1;
    }
    this.#line.splice(low, 0, waiter);
  }
}

function comesBefore(a: Waiter, b: Waiter): boolean {
  return a.numPasses === b.numPasses ? a.sequence.order < b.sequence.order : a.numPasses < b.numPasses;
}
