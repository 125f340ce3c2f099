import { emptyStepTime, type PerfModel } from "../../core/perf/perf-model.ts";
import { StepLoad } from "../../core/perf/step-load.ts";

/** Latencies of one request that has a machine to itself. */
export interface ReferenceTimes {
  readonly ttftMs: number;
  /** Mean gap between output tokens. */
  readonly tpotMs: number;
  readonly e2eMs: number;
}

/** What slowdowns are measured against. */
export type Reference = (inputTokens: number, outputTokens: number) => ReferenceTimes;

/**
 * Uncontended latencies on one worker: the whole prompt in one step, then decodes alone in their batch. The time of a decode
 * step is taken as linear in its context, which the perf models are by construction.
 */
export function createReference(perf: PerfModel): Reference {
  const load = new StepLoad();
  const time = emptyStepTime();
  const decodeMs = (contextTokens: number): number => {
    load.clear();
    load.addDecode(contextTokens);
    perf.stepTime(load, time);
    return time.deviceMs + time.hostMs;
  };
  return (inputTokens, outputTokens) => {
    load.clear();
    load.addPrefill(0, inputTokens, true);
    perf.stepTime(load, time);
    const ttftMs = perf.host.requestMs + time.deviceMs + time.hostMs + perf.host.outputMs;
    const numDecodes = Math.max(outputTokens - 1, 0);
    const tpotMs =
      numDecodes === 0 ? 0 : (decodeMs(inputTokens + 1) + decodeMs(inputTokens + numDecodes)) / 2;
    return { ttftMs, tpotMs, e2eMs: ttftMs + numDecodes * tpotMs };
  };
}
