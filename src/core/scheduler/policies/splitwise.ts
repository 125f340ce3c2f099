import type { Sequence } from "../../sequence.ts";
import { isDecoding, type SchedulingPolicy, type StepBuilder } from "../policy.ts";
import { PassLine } from "./pass-line.ts";

/** The most tokens in one step, unless a single prompt is longer (Splitwise, section IV-C: throughput falls beyond). */
const MAX_BATCH_TOKENS = 2048;
/** The most sequences in one step. */
const MAX_BATCH_SIZE = 512;

export interface SplitwiseOptions {
  /**
   * Whoever has been passed over so often goes before prompts: 4 in the simulator. It counts only for those at the head of a line that
   * is sorted when they join it (see {@link PassLine}). Default: nobody does.
   */
  readonly maxPasses?: number;
}

/**
 * Mixed batching of Splitwise (Patel et al., ISCA 2024) as its simulator does it: whole prompts first, up to 2,048 tokens in
 * a step, then decodes in what is left of those. A prompt takes KV for itself, its first decode for the whole output. Decodes that find no place are passed over, keep their KV, and go before the
 * others in the next step. Prompts do not join a row of decode steps that is under way, unless they fit beside it: a prompt of
 * more than 2,048 tokens waits until somebody leaves or a shorter one arrives.
 *
 * Remembers the last step, because who ran in it decides who runs in the next.
 */
export class SplitwisePolicy implements SchedulingPolicy {
  readonly name = "splitwise";
  readonly wholePrompts = true;
  readonly #maxPasses: number;
  /** Null when passes count for nothing. */
  readonly #line: PassLine | null;
  /** Decodes of the last step, in order of joining. */
  #batch: Sequence[] = [];
  /** Decodes that were passed over, those first that were so first. */
  #passedOver: Sequence[] = [];
  #hadPrompts = true;
  /** Sequences that held KV at the last choice, and the latest arrival that it knew of. */
  #numRunning = 0;
  #newestOrder = -1;

  constructor({ maxPasses = Number.POSITIVE_INFINITY }: SplitwiseOptions = {}) {
    this.#maxPasses = maxPasses;
    this.#line = Number.isFinite(maxPasses) ? new PassLine() : null;
  }

  build(step: StepBuilder): void {
    if (!this.#goesOn(step) || !this.#repeat(step)) this.#choose(step);
  }

  /** Runs the last step's decodes once more. False when none of them can: the last to come gave its KV up, and others may have room now. */
  #repeat(step: StepBuilder): boolean {
    let numTokens = 0;
    for (const sequence of this.#batch) numTokens += step.compute(sequence, 1);
    return numTokens > 0;
  }

  /** Whether nothing has happened that makes a row of decode steps end. */
  #goesOn(step: StepBuilder): boolean {
    if (this.#hadPrompts || this.#batch.length === 0 || step.hasDeparture) return false;
    const hasPlace = this.#batch.length < MAX_BATCH_SIZE;
    if (hasPlace && step.running.length > this.#numRunning) return false;
    for (const { order, numUncomputedTokens, stopsAfterPrefill } of step.waiting) {
      if (order <= this.#newestOrder) continue;
      // A request that also decodes here asks for a place at once, however long its prompt.
      if (numUncomputedTokens <= MAX_BATCH_TOKENS || (hasPlace && !stopsAfterPrefill)) return false;
    }
    return true;
  }

  #choose(step: StepBuilder): void {
    const batch = new Batch(step);
    const running = step.running;
    for (const sequence of running) if (!isDecoding(sequence)) batch.add(sequence);
    this.#line?.follow(step, this.#batch);
    const prompts = [...step.waiting];
    const starved = this.#takeStarved(step, batch);
    for (const sequence of prompts) {
      // One that has been taken already counts once more where its turn would have been, as in the simulator.
      if (!batch.fits(sequence)) break;
      if (!batch.has(sequence) && !batch.admit(sequence) && sequence.status === "waiting") break;
    }
    const returning = this.#passedOver.filter((sequence) => batch.add(sequence));
    const staying = this.#batch.filter((sequence) => batch.add(sequence));
    const known = new Set([...this.#passedOver, ...this.#batch, ...starved]);
    const joining: Sequence[] = [];
    // Whoever else has come, in order of arrival: newcomers do not overtake a prompt that did not fit.
    const others = [
      ...step.waiting,
      ...running.filter((sequence) => isDecoding(sequence) && !known.has(sequence)),
    ];
    for (const sequence of others.sort((a, b) => a.order - b.order)) {
      if (!batch.fits(sequence)) break;
      const isPrompt = sequence.status === "waiting";
      if (isPrompt ? !batch.admit(sequence) : !step.reserve(sequence) || !batch.add(sequence)) break;
      if (!isPrompt) joining.push(sequence);
    }
    if (batch.size === 0) {
      // Nobody has room for a whole output: go on without a reserve, which preempts those that came last.
      joining.push(...running.filter((sequence) => batch.add(sequence)));
    }
    const displaced = this.#batch.filter((sequence) => !batch.has(sequence));
    this.#passedOver = [...this.#passedOver, ...displaced].filter(
      (sequence) => sequence.status === "running" && !batch.has(sequence),
    );
    this.#line?.settle(
      displaced.filter(({ status }) => status === "running"),
      (sequence) => batch.has(sequence),
    );
    this.#batch = [...staying, ...starved, ...returning, ...joining];
    this.#hadPrompts = batch.hasPrompts;
    this.#numRunning = step.running.length;
    this.#newestOrder = newestOrderOf(step);
  }

  /** Takes in who has been passed over too often, and returns the decodes among them. */
  #takeStarved(step: StepBuilder, batch: Batch): Sequence[] {
    const decodes: Sequence[] = [];
    for (const { sequence, isDecode } of this.#line?.starved(this.#maxPasses) ?? []) {
      if (!batch.fits(sequence)) break;
      if (batch.has(sequence)) continue;
      if (!isDecode) batch.admit(sequence);
      else if (step.reserve(sequence) && batch.add(sequence)) decodes.push(sequence);
    }
    return decodes;
  }
}

/** The step that is being put together, within its two limits. */
class Batch {
  readonly #step: StepBuilder;
  readonly #members = new Set<Sequence>();
  #numTokens = 0;
  #hasPrompts = false;

  constructor(step: StepBuilder) {
    this.#step = step;
  }

  get hasPrompts(): boolean {
    return this.#hasPrompts;
  }

  get size(): number {
    return this.#members.size;
  }

  has(sequence: Sequence): boolean {
    return this.#members.has(sequence);
  }

  /** Takes a sequence in with everything that it has to compute, or returns false. */
  add(sequence: Sequence): boolean {
    if (!this.fits(sequence)) return false;
    const isPrompt = !isDecoding(sequence);
    const numTokens = this.#step.compute(sequence, Number.POSITIVE_INFINITY);
    if (numTokens === 0) return false;
    this.#hasPrompts ||= isPrompt;
    this.#members.add(sequence);
    this.#numTokens += numTokens;
    return true;
  }

  /** Takes a waiting sequence in, or returns false. */
  admit(sequence: Sequence): boolean {
    if (!this.fits(sequence)) return false;
    const numTokens = this.#step.admit(sequence, Number.POSITIVE_INFINITY, "known");
    if (numTokens === 0) return false;
    this.#hasPrompts = true;
    this.#members.add(sequence);
    this.#numTokens += numTokens;
    return true;
  }

  /** Whether a sequence with everything that it has to compute is within the limits. */
  fits(sequence: Sequence): boolean {
    if (this.#members.size === 0) return true;
    const numTokens = this.#numTokens + sequence.numUncomputedTokens;
    return this.#members.size < MAX_BATCH_SIZE && numTokens <= MAX_BATCH_TOKENS;
  }
}

function newestOrderOf(step: StepBuilder): number {
  let newest = -1;
  for (const { order } of step.running) newest = Math.max(newest, order);
  for (const { order } of step.waiting) newest = Math.max(newest, order);
  return newest;
}
