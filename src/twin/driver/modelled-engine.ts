import {
  emptyStepTime,
  type PerfModel,
  priceRow,
  type StepTime,
  type TimeSource,
} from "../../core/perf/perf-model.ts";
import { StepLoad } from "../../core/perf/step-load.ts";
import type { StepVariation } from "../../core/perf/step-variation.ts";
import { isDecoding } from "../../core/scheduler/policy.ts";
import type { SampledToken, StepPlan, StepResult } from "../../core/scheduler/step-plan.ts";
import { assert } from "../../core/util/assert.ts";
import type { RandomStream } from "../../core/util/rng.ts";
import type { StepRow } from "../observer.ts";
import { ANY_TOKEN, END_TOKEN, trackOf } from "./twin-request.ts";

const ANY: SampledToken = { token: ANY_TOKEN };
const END: SampledToken = { token: END_TOKEN };

/** Runs of equal tokens by length, made once. */
const RUNS: Array<readonly SampledToken[]> = [[]];
function runOf(length: number): readonly SampledToken[] {
  while (RUNS.length <= length) RUNS.push(Array<SampledToken>(RUNS.length).fill(ANY));
  return RUNS[length]!;
}

/**
 * An engine that takes the time that a perf model says, and draws tokens that mean nothing but knows when each output ends.
 * One plan at a time, as the worker loop hands them out; a plan that stands for several steps runs as a row of them.
 */
export class ModelledEngine implements StepRow {
  readonly perf: PerfModel;
  readonly #stream: RandomStream;
  /** Steps take this many times as long: a slow part. Holds for plans that begin from now on. */
  slowFactor = 1;
  /** What step `from` computes. */
  readonly load = new StepLoad();
  /** The steps of the row that are looked at, see {@link look}. */
  from = 0;
  to = 0;
  hostMs = 0;
  source: TimeSource = "roofline";
  isExtrapolated = false;
  /** Step `i` lasts from bound `i` to bound `i + 1`; the row has `numSteps` of them. */
  boundsMs = new Float64Array(64);
  #deviceMs = new Float64Array(64);
  readonly #time: StepTime = emptyStepTime();
  #plan: StepPlan | null = null;
  /** When what holds the engine beside steps is over. */
  #freeAtMs = 0;
  #numSteps = 0;
  /** Steps of the row whose end has been reported to the loop. */
  #numReported = 0;

  /** @param stream for steps that vary: see `PerfModel.variation` */
  constructor(perf: PerfModel, stream: RandomStream) {
    this.perf = perf;
    this.#stream = stream;
  }

  get plan(): StepPlan | null {
    return this.#plan;
  }

  get numSteps(): number {
    return this.#numSteps;
  }

  get numReported(): number {
    return this.#numReported;
  }

  /** When the row ends, the last step's end included. */
  get endMs(): number {
    return this.boundsMs[this.#numSteps]!;
  }

  /** How long the row's last step takes. */
  get lastStepMs(): number {
    return this.endMs - this.boundsMs[this.#numSteps - 1]!;
  }

  /** Starts a plan and prices the whole row. */
  begin(plan: StepPlan, nowMs: number): void {
    assert(this.#plan === null, "the engine is busy");
    this.#plan = plan;
    const startMs = Math.max(nowMs, this.#freeAtMs);
    this.#numReported = 0;
    const numSteps = this.#fill(plan, startMs);
    if (numSteps >= this.boundsMs.length) {
      this.boundsMs = new Float64Array(2 * numSteps);
      this.#deviceMs = new Float64Array(2 * numSteps);
    }
    this.#numSteps = numSteps;
    this.#price(numSteps);
    if (this.perf.variation !== undefined) this.#vary(this.perf.variation, numSteps);
    const { slowFactor, boundsMs } = this;
    const deviceMs = this.#deviceMs;
    const { hostMs, source, isExtrapolated } = this.#time;
    let endMs = startMs;
    boundsMs[0] = startMs;
    for (let step = 0; step < numSteps; step++) {
      endMs += (deviceMs[step]! + hostMs) * slowFactor;
      boundsMs[step + 1] = endMs;
    }
    this.from = 0;
    this.to = 0;
    this.hostMs = hostMs * slowFactor;
    this.source = source;
    this.isExtrapolated = isExtrapolated;
  }

  #price(numSteps: number): void {
    const { load } = this;
    if (load.numPrefills === 0) {
      priceRow(this.perf, load, { numSteps, addedContextTokens: 0, deviceMs: this.#deviceMs }, this.#time);
      return;
    }
    this.perf.stepTime(load, this.#time);
    this.#deviceMs[0] = this.#time.deviceMs;
  }

  /** Steps of a row that is cut short later have had their draws. */
  #vary({ decodes, prefills }: StepVariation, numSteps: number): void {
    const factors = this.load.numPrefills > 0 ? prefills : decodes;
    for (let step = 0; step < numSteps; step++)
      this.#deviceMs[step] = this.#deviceMs[step]! * factors[this.#stream.nextBelow(factors.length)]!;
  }

  /** Takes the engine for other work, after the step in flight and what was asked for earlier. Returns when that is over. */
  hold(nowMs: number, durationMs: number): number {
    const startMs = Math.max(nowMs, this.#freeAtMs, this.#plan === null ? 0 : this.endMs);
    this.#freeAtMs = startMs + durationMs;
    return this.#freeAtMs;
  }

  /** Makes the row tell of its steps [from, to). They must be looked at in order, until the next plan begins. */
  look(from: number, to: number): void {
    assert(from >= this.from, "a row is looked at backwards");
    this.load.advanceDecodes(from - this.from);
    this.from = from;
    this.to = to;
  }

  /** Describes the plan's first step, and returns how many steps run before an output ends. */
  #fill(plan: StepPlan, startMs: number): number {
    const { load } = this;
    load.clear();
    let numSteps = plan.maxSteps;
    for (const { sequence, start, numTokens, samples } of plan.chunks) {
      const track = trackOf(sequence.request);
      if (!isDecoding(sequence)) {
        load.addPrefill(start, numTokens, samples);
        if (Number.isNaN(track.firstStepMs)) track.firstStepMs = startMs;
      } else {
        load.addDecode(start + 1);
        const left = track.workload.outputTokens - sequence.numOutputTokens;
        if (left < numSteps) numSteps = left;
      }
    }
    return Math.max(1, numSteps);
  }

  /** Steps of the row that have ended by `nowMs` and are not the row's last: what the loop has to hear before any input. */
  endedBy(nowMs: number): number {
    let ended = this.#numReported;
    while (ended < this.#numSteps - 1 && this.boundsMs[ended + 1]! <= nowMs) ended++;
    return ended - this.#numReported;
  }

  /** The tokens of `count` steps, which count as reported from here on. */
  report(count: number): readonly SampledToken[] {
    this.#numReported += count;
    return runOf(count);
  }

  /** Cuts the row short after the step in flight: something has arrived that the scheduler has to see. */
  cutRow(): boolean {
    const numSteps = this.#numReported + 1;
    if (numSteps >= this.#numSteps) return false;
    this.#numSteps = numSteps;
    return true;
  }

  /** Drops the plan without a result. */
  abort(): void {
    this.#plan = null;
  }

  /** Ends the row: the result of its last step. */
  finish(): StepResult {
    const plan = this.#plan;
    assert(plan !== null, "the engine is idle");
    this.#plan = null;
    const samples = plan.chunks.map(({ sequence, samples: draws }) => {
      if (!draws) return null;
      return this.#isLast(sequence) ? END : ANY;
    });
    return { kind: "done", samples };
  }

  /** Whether the token drawn now ends the output. When policies know its length, they end it themselves. */
  #isLast(sequence: StepPlan["chunks"][number]["sequence"]): boolean {
    const { request, numOutputTokens } = sequence;
    return !request.ignoreEndOfGeneration && numOutputTokens + 1 >= trackOf(request).workload.outputTokens;
  }
}
