import type { Sequence } from "../../sequence.ts";
import { isDecoding, type SchedulingPolicy, type StepBuilder } from "../policy.ts";

/** The most tokens in one step, unless a single prompt is longer (Splitwise, section IV-C: throughput falls beyond). */
const MAX_BATCH_TOKENS = 2048;
/** The most sequences in one step. */
const MAX_BATCH_SIZE = 512;

/**
 * Mixed batching of Splitwise (Patel et al., ISCA 2024) as its simulator does it: whole prompts first, up to 2,048 tokens in
 * a step, then decodes in what is left of those. A prompt takes KV for itself, its first decode for the whole output. Decodes that find no place are passed over, keep their KV, and go before the
 * others in the next step. Prompts do not join a row of decode steps that is under way, unless they fit beside it: a prompt of
 * more than 2,048 tokens waits until somebody leaves or a shorter one arrives.
 *
 * Remembers the last step, because who ran in it decides who runs in the next. The simulator's limit of four times that a decode
 * may be passed over is left out: it acts only when everybody who waits has reached it.
 */
export class SplitwisePolicy implements SchedulingPolicy {
  readonly name = "splitwise";
  readonly wholePrompts = true;
  /** Decodes of the last step, in order of joining. */
  #batch: Sequence[] = [];
  /** Decodes that were passed over, those first that were so first. */
  #passedOver: Sequence[] = [];
  #hadPrompts = true;
  /** The latest arrival that the last choice knew of. */
  #newestOrder = -1;

  build(step: StepBuilder): void {
    if (this.#goesOn(step)) for (const sequence of this.#batch) step.compute(sequence, 1);
    else this.#choose(step);
  }

  /** Whether nothing has happened that makes a row of decode steps end. */
  #goesOn(step: StepBuilder): boolean {
    if (this.#hadPrompts || this.#batch.length === 0 || step.hasDeparture) return false;
    const hasPlace = this.#batch.length < MAX_BATCH_SIZE;
    if (hasPlace && step.running.length > this.#batch.length + this.#passedOver.length) return false;
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
    while (batch.admitNext());
    this.#hadPrompts = batch.size > 0;
    // Newcomers do not overtake a prompt that arrived before them and did not fit.
    let newestWelcome = Number.POSITIVE_INFINITY;
    for (const { order } of step.waiting) newestWelcome = Math.min(newestWelcome, order);
    const known = new Set([...this.#passedOver, ...this.#batch]);
    const newcomers = running
      .filter((sequence) => isDecoding(sequence) && !known.has(sequence) && sequence.order < newestWelcome)
      .sort((a, b) => a.order - b.order);
    const returning = this.#passedOver.filter((sequence) => batch.add(sequence));
    const staying = this.#batch.filter((sequence) => batch.add(sequence));
    const numWelcome = newcomers.findIndex((sequence) => !step.reserve(sequence) || !batch.add(sequence));
    const joining = numWelcome === -1 ? newcomers : newcomers.slice(0, numWelcome);
    if (batch.size === 0) {
      // Nobody has room for a whole output: go on without a reserve, which preempts those that came last.
      joining.push(...running.filter((sequence) => batch.add(sequence)));
    }
    const displaced = this.#batch.filter((sequence) => !batch.has(sequence));
    this.#passedOver = [...this.#passedOver, ...displaced].filter(
      (sequence) => sequence.status === "running" && !batch.has(sequence),
    );
    this.#batch = [...staying, ...returning, ...joining];
    this.#newestOrder = newestOrderOf(step);
  }
}

/** The step that is being put together, within its two limits. */
class Batch {
  readonly #step: StepBuilder;
  readonly #members = new Set<Sequence>();
  #numTokens = 0;

  constructor(step: StepBuilder) {
    this.#step = step;
  }

  get size(): number {
    return this.#members.size;
  }

  has(sequence: Sequence): boolean {
    return this.#members.has(sequence);
  }

  /** Takes a sequence in with everything that it has to compute, or returns false. */
  add(sequence: Sequence): boolean {
    if (!this.#fits(sequence)) return false;
    const numTokens = this.#step.compute(sequence, Number.POSITIVE_INFINITY);
    if (numTokens === 0) return false;
    this.#members.add(sequence);
    this.#numTokens += numTokens;
    return true;
  }

  /** Takes the first waiting sequence in, or returns false. */
  admitNext(): boolean {
    const [next] = this.#step.waiting;
    if (next === undefined || !this.#fits(next)) return false;
    const numTokens = this.#step.admitNext(Number.POSITIVE_INFINITY, "known");
    if (numTokens === 0) return false;
    this.#members.add(next);
    this.#numTokens += numTokens;
    return true;
  }

  #fits(sequence: Sequence): boolean {
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
