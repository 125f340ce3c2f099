import type { EngineCalibration } from "../../core/perf/engine-calibration.ts";
import type { OperatorClass } from "../../core/perf/layer-costs.ts";
import type { StepCosts } from "../../core/perf/step-costs.ts";

/** A part of a time that an engine's calibration weighs: an operator class, or something counted per step. */
export type TermName = OperatorClass | "step" | "layer" | "sequence";

/**
 * Parts of a time before calibration: milliseconds of operator classes, and the number of steps, of layers in them, and of
 * sequences in them.
 */
export type Terms = ReadonlyMap<TermName, number>;

/** A replica under a closed loop of clients: each sends its next request when its last one is done. */
export interface Loop {
  /** Without a calibration of its own. */
  readonly costs: StepCosts;
  readonly calibration: EngineCalibration;
  readonly numLayers: number;
  readonly dp: number;
  /** Requests in flight at this replica. */
  readonly concurrency: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Most prefill tokens of one step. */
  readonly chunkTokens: number;
  /** Whether prefill chunks and decodes share steps, or take turns. */
  readonly isMixed: boolean;
}

/** What an engine's calibration makes of the parts. */
export function calibratedMs(terms: Terms, calibration: EngineCalibration): number {
  let sum = 0;
  for (const [name, amount] of terms) sum += amount * weightOf(name, calibration);
  return sum;
}

function weightOf(name: TermName, calibration: EngineCalibration): number {
  switch (name) {
    case "step":
      return calibration.stepMs;
    case "layer":
      return calibration.layerMs;
    case "sequence":
      return calibration.sequenceMs;
    default:
      return calibration.factors[name] ?? 1;
  }
}

/** `a` + `factor` x `b`. */
export function combine(a: Terms, factor: number, b: Terms): Terms {
  const sum = new Map(a);
  for (const [name, amount] of b) sum.set(name, (sum.get(name) ?? 0) + factor * amount);
  return sum;
}

/** One decode step of `decodes` sequences per attention group, at the mean context of their life. */
export function decodeTerms(loop: Loop, decodes: number): Terms {
  const terms = new Map<TermName, number>();
  const add = adder(terms, 1);
  const context = loop.inputTokens + loop.outputTokens / 2;
  loop.costs.addTokens(decodes, decodes * loop.dp, add);
  loop.costs.addSamples(decodes, add);
  loop.costs.addDecodeAttention(decodes, context, add);
  add("step", 1);
  add("layer", loop.numLayers);
  add("sequence", decodes * loop.dp);
  return terms;
}

/**
 * Prefilling one request in every attention group. With `decodes` it is what the chunks add to steps of so many running sequences
 * that happen anyway; without, whole steps.
 */
export function prefillTerms(loop: Loop, decodes: number): Terms {
  const terms = new Map<TermName, number>();
  const { costs, dp } = loop;
  for (let done = 0; done < loop.inputTokens; done += loop.chunkTokens) {
    const chunk = Math.min(loop.chunkTokens, loop.inputTokens - done);
    costs.addTokens(decodes + chunk, (decodes + chunk) * dp, adder(terms, 1));
    costs.addPrefillAttention(1, chunk, done, adder(terms, 1));
    if (decodes > 0) costs.addTokens(decodes, decodes * dp, adder(terms, -1));
    else {
      adder(terms, 1)("step", 1);
      adder(terms, 1)("layer", loop.numLayers);
    }
  }
  return terms;
}

function adder(terms: Map<TermName, number>, sign: number): (name: TermName, amount: number) => void {
  return (name, amount) => {
    terms.set(name, (terms.get(name) ?? 0) + sign * amount);
  };
}

/** Steady state of a replica. */
export interface SteadyState {
  /** Parts of the mean time between two tokens of a request. */
  readonly tpotTerms: Terms;
  readonly tpotMs: number;
  /** Prefill of one request alone. */
  readonly prefillMs: number;
  /** What the prefill of one request adds to the steps of the others. */
  readonly addedMs: number;
}

const ITERATIONS = 4;

/**
 * Steady state of an aggregated replica. While a request decodes, every other one of its group is prefilled about once, which
 * lengthens its steps; sequences that wait or prefill do not decode meanwhile.
 */
export function aggregatedState(loop: Loop): SteadyState {
  const perGroup = Math.max(1, loop.concurrency / loop.dp);
  const prefillMs = calibratedMs(prefillTerms(loop, 0), loop.calibration);
  let decodes = perGroup;
  for (let i = 1; ; i++) {
    const running = Math.max(1, Math.round(decodes));
    const added = prefillTerms(loop, loop.isMixed ? running : 0);
    const tpotTerms = combine(decodeTerms(loop, running), (perGroup - 1) / loop.outputTokens, added);
    const tpotMs = calibratedMs(tpotTerms, loop.calibration);
    if (i === ITERATIONS)
      return { tpotTerms, tpotMs, prefillMs, addedMs: calibratedMs(added, loop.calibration) };
    const lifeMs = loop.outputTokens * tpotMs;
    decodes = (perGroup * lifeMs) / (lifeMs + prefillMs);
  }
}

/**
 * Decode pool behind a prefill pool that gives `prefillsPerMs`: as many requests decode as the prefill side can keep supplied,
 * at most all. `loop.concurrency` is that of one of `workers` decode workers.
 */
export function disaggregatedState(loop: Loop, workers: number, prefillsPerMs: number): SteadyState {
  const perGroup = Math.max(1, loop.concurrency / loop.dp);
  let low = 1;
  let high = perGroup;
  let state = decodeState(loop, high);
  // The rate at which sequences finish grows with how many decode together: bisect for the rate of supply.
  for (let i = 0; i < BISECTIONS; i++) {
    const supplied = (prefillsPerMs / workers / loop.dp) * loop.outputTokens * state.tpotMs;
    const running = i === 0 ? perGroup : (low + high) / 2;
    if (i === 0 && supplied >= perGroup) return state;
    if (supplied >= running) low = running;
    else high = running;
    state = decodeState(loop, (low + high) / 2);
  }
  return state;
}

const BISECTIONS = 12;

function decodeState(loop: Loop, decodes: number): SteadyState {
  const tpotTerms = decodeTerms(loop, Math.max(1, Math.round(decodes)));
  return { tpotTerms, tpotMs: calibratedMs(tpotTerms, loop.calibration), prefillMs: 0, addedMs: 0 };
}
