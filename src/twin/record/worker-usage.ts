import type { TimeSource } from "../../core/perf/perf-model.ts";
import type { StepLoad } from "../../core/perf/step-load.ts";
import type { StepRow } from "../observer.ts";
import { IntervalUnion } from "./interval-union.ts";
import { SpanLog } from "./span-log.ts";

/** The kind of a step by what is in it. */
export type StepKind = "prefill" | "decode" | "mixed";

export const STEP_KINDS: readonly StepKind[] = ["prefill", "decode", "mixed"];

/** Totals of one kind of step. */
export interface StepTotals {
  numSteps: number;
  /** Wall time of the steps, host time included. */
  busyMs: number;
  prefillTokens: number;
  decodeTokens: number;
}

/** Step time of one origin. */
export interface SourceTotals {
  ms: number;
  extrapolatedMs: number;
}

/** What one worker did. */
export class WorkerUsage {
  readonly steps: Readonly<Record<StepKind, StepTotals>> = {
    prefill: emptyTotals(),
    decode: emptyTotals(),
    mixed: emptyTotals(),
  };
  readonly sources = new Map<TimeSource, SourceTotals>();
  readonly sending = new IntervalUnion();
  readonly receiving = new IntervalUnion();
  /** In a step, sending or receiving. */
  readonly active = new IntervalUnion();
  sentBytes = 0;
  receivedBytes = 0;
  hostMs = 0;
  /** Sum over steps of sequences in the step, times its duration. */
  batchMs = 0;
  numLost = 0;
  /** Ready time until the last change, and since when the worker is ready; null while it is not. */
  #readyMs = 0;
  #readySinceMs: number | null = null;
  #downSinceMs = 0;
  #hasReported = false;
  readonly stepSpans: SpanLog;
  readonly sendSpans: SpanLog;
  readonly receiveSpans: SpanLog;
  usedBlocks = 0;
  cachedBlocks = 0;
  peakUsedBlocks = 0;
  /** Integral of the used blocks over time until the last change. */
  #usedBlockMs = 0;
  #kvSinceMs = 0;

  constructor(maxStepSpans: number, maxTransferSpans: number) {
    this.stepSpans = new SpanLog(maxStepSpans);
    // Apart: merged neighbours of both directions would be neither.
    this.sendSpans = new SpanLog(maxTransferSpans / 2);
    this.receiveSpans = new SpanLog(maxTransferSpans / 2);
  }

  /** Takes in steps that the worker has run, and returns their kind. */
  run({ load, boundsMs, from, to, hostMs, source, isExtrapolated }: StepRow): StepKind {
    const kind = kindOf(load);
    const numSteps = to - from;
    const startMs = boundsMs[from]!;
    const endMs = boundsMs[to]!;
    const ms = endMs - startMs;
    const totals = this.steps[kind];
    totals.numSteps += numSteps;
    totals.busyMs += ms;
    totals.prefillTokens += numSteps * load.numPrefillTokens;
    totals.decodeTokens += numSteps * load.numDecodes;
    this.hostMs += numSteps * hostMs;
    this.batchMs += ms * (load.numDecodes + load.numPrefills);
    let times = this.sources.get(source);
    if (times === undefined) {
      times = { ms: 0, extrapolatedMs: 0 };
      this.sources.set(source, times);
    }
    times.ms += ms;
    if (isExtrapolated) times.extrapolatedMs += ms;
    this.active.add(startMs, endMs);
    this.stepSpans.addRow(boundsMs, from, to, kind, load.numPrefillTokens + load.numDecodes);
    return kind;
  }

  kv(usedBlocks: number, cachedBlocks: number, nowMs: number): void {
    this.#usedBlockMs += this.usedBlocks * (nowMs - this.#kvSinceMs);
    this.#kvSinceMs = nowMs;
    this.usedBlocks = usedBlocks;
    this.cachedBlocks = cachedBlocks;
    if (usedBlocks > this.peakUsedBlocks) this.peakUsedBlocks = usedBlocks;
  }

  changed(state: "ready" | "lost" | "slow", nowMs: number): void {
    if (state === "slow") return;
    this.#hasReported = true;
    if (state === "ready") {
      if (nowMs > this.#downSinceMs) this.stepSpans.add(this.#downSinceMs, nowMs, "down", 0);
      this.#readySinceMs ??= nowMs;
      return;
    }
    this.numLost++;
    if (this.#readySinceMs !== null) this.#readyMs += nowMs - this.#readySinceMs;
    this.#readySinceMs = null;
    this.#downSinceMs = nowMs;
  }

  /** Mean over time of the blocks in use. */
  meanUsedBlocks(endMs: number): number {
    const tail = this.usedBlocks * Math.max(endMs - this.#kvSinceMs, 0);
    return endMs > 0 ? (this.#usedBlockMs + tail) / endMs : 0;
  }

  /** Lets the timeline of a worker that is not ready reach to the end of the run. */
  close(endMs: number): void {
    if (!this.#hasReported || this.#readySinceMs !== null || endMs <= this.#downSinceMs) return;
    this.stepSpans.add(this.#downSinceMs, endMs, "down", 0);
    this.#downSinceMs = endMs;
  }

  /** How long the worker was ready. One that was never reported ready counts as ready all along. */
  readyMs(endMs: number): number {
    if (!this.#hasReported) return endMs;
    return this.#readyMs + (this.#readySinceMs === null ? 0 : Math.max(endMs - this.#readySinceMs, 0));
  }

  /** Only sending or receiving. */
  get transferOnlyMs(): number {
    return Math.max(this.active.totalMs - this.busyMs, 0);
  }

  get busyMs(): number {
    return STEP_KINDS.reduce((total, kind) => total + this.steps[kind].busyMs, 0);
  }
}

function kindOf(load: StepLoad): StepKind {
  if (load.numPrefills === 0) return "decode";
  return load.numDecodes === 0 ? "prefill" : "mixed";
}

function emptyTotals(): StepTotals {
  return { numSteps: 0, busyMs: 0, prefillTokens: 0, decodeTokens: 0 };
}
