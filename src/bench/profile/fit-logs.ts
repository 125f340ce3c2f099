import { type FitError, fitLinear, StepFit } from "../../core/perf/fit-profile.ts";
import { emptyStepTime } from "../../core/perf/perf-model.ts";
import { ProfileModel, type StepCoefficients } from "../../core/perf/profile-model.ts";
import { StepLoad } from "../../core/perf/step-load.ts";
import { factorsOf } from "../../core/perf/step-variation.ts";
import { quantile, summarize } from "../../core/util/quantiles.ts";
import type { Profile } from "../../protocol/profile-file.ts";
import type { LoggedStep } from "../../protocol/step-log.ts";
import type { ResponseTrace } from "../record.ts";
import { type EngineLog, fillLoad, type Held } from "./engine-log.ts";

/** What a profile is made from. */
export interface Measurements {
  readonly logs: readonly EngineLog[];
  /** Requests that found the server idle, with times since the epoch, and the worker that served them. */
  readonly lone: ReadonlyArray<{ readonly trace: ResponseTrace; readonly workerId: string }>;
}

/** The parts of a profile that are fitted. */
export type FittedProfile = Pick<Profile, "step" | "host" | "handoff" | "variation" | "range" | "fit">;

/** Fastest link that can be told from an infinite one by frames of a few megabytes. */
const MAX_LINK_BYTES_PER_SECOND = 1e12;
/** Longest way of a frame from worker to worker; what takes longer was another frame. */
const MAX_FLIGHT_MS = 1000;

/** A profile needs some steps; the message says what was missing. */
export class ProfileError extends Error {
  override name = "ProfileError";
  readonly code = "profile_failed";
}

/** Prices below it count as this much: nothing that is measured takes less. */
const MIN_PRICE_MS = 1e-4;
/** Fewest steps that coefficients are fitted to. */
const MIN_STEPS = 50;

/** Fits a profile's coefficients to what was measured. Throws {@link ProfileError} when that is too little. */
export function fitMeasurements({ logs, lone }: Measurements): FittedProfile {
  const steps = logs.flatMap((log) => log.steps);
  if (steps.length < MIN_STEPS) {
    const message = `only ${steps.length} steps were measured; at least ${MIN_STEPS} are needed: give it more time, or see why the server is slow`;
    throw new ProfileError(message);
  }
  const fit = new StepFit();
  const load = new StepLoad();
  const counts = new Map<string, number>();
  for (const { call } of steps) counts.set(bucketOf(call), (counts.get(bucketOf(call)) ?? 0) + 1);
  // Kinds of steps count more evenly than they are frequent: there are a hundred decodes to each long prompt.
  for (const { call, ms } of steps) fit.add(fillLoad(call, load), ms, counts.get(bucketOf(call))! ** -0.5);
  const { coefficients, error } = fit.solve();
  const ratios = ratiosOf(steps, coefficients);
  const pauses = logs.flatMap((log) => log.pauses).map(({ ms, sequences }) => ({ tokens: sequences, ms }));
  const pause = fitLinear(pauses);
  return {
    step: { ...coefficients, tokenMs: [...coefficients.tokenMs] },
    host: { ...hostTimes(logs, lone), stepMs: pause.callMs, sequenceMs: pause.tokenMs },
    handoff: fitHandoff(logs),
    ...variationOf(steps, ratios),
    range: rangeOf(steps),
    fit: {
      steps: error,
      decodes: errorAmong(steps, ratios, ({ prefills }) => prefills.length === 0),
      prefills: errorAmong(steps, ratios, ({ numDecodes }) => numDecodes === 0),
      mixed: errorAmong(steps, ratios, (step) => step.prefills.length > 0 && step.numDecodes > 0),
    },
  };
}

/** How many times their price the steps took. */
function variationOf(
  steps: ReadonlyArray<Held<LoggedStep>>,
  ratios: readonly number[],
): Pick<Profile, "variation"> {
  const decodes = factorsOf(ratios.filter((_, i) => steps[i]!.call.prefills.length === 0));
  const prefills = factorsOf(ratios.filter((_, i) => steps[i]!.call.prefills.length > 0));
  return decodes.length === 0 || prefills.length === 0 ? {} : { variation: { decodes, prefills } };
}

/** Steps that are much alike: number of decodes and of prompt tokens in powers of two. */
function bucketOf({ prefills, numDecodes }: LoggedStep): string {
  const tokens = prefills.reduce((sum, [, count]) => sum + count, 0);
  const octave = (count: number): number => (count === 0 ? -1 : Math.floor(Math.log2(count)));
  return `${octave(numDecodes)} ${octave(tokens)}`;
}

/** What steps took over what they are priced at. */
function ratiosOf(steps: ReadonlyArray<Held<LoggedStep>>, step: StepCoefficients): number[] {
  const model = new ProfileModel({
    step,
    host: { requestMs: 0, outputMs: 0, stepMs: 0, sequenceMs: 0 },
    handoff: null,
    range: { stepTokens: 0, decodes: 0, contextTokens: 0 },
    kvCapacityTokens: 0,
    kvBytesPerToken: 0,
  });
  const load = new StepLoad();
  const time = emptyStepTime();
  return steps.map(({ call, ms }) => {
    model.stepTime(fillLoad(call, load), time);
    return ms / Math.max(time.deviceMs, MIN_PRICE_MS);
  });
}

function errorAmong(
  steps: ReadonlyArray<Held<LoggedStep>>,
  ratios: readonly number[],
  isOne: (step: LoggedStep) => boolean,
): FitError {
  const errors = ratios
    .filter((_, i) => isOne(steps[i]!.call))
    .map((ratio) => Math.abs(100 * (1 / ratio - 1)));
  const sorted = Float64Array.from(errors).sort();
  if (sorted.length === 0) return { n: 0, medianAbsPct: 0, p90AbsPct: 0 };
  return { n: sorted.length, medianAbsPct: quantile(sorted, 0.5), p90AbsPct: quantile(sorted, 0.9) };
}

/** What a request that finds the server idle waits for besides its steps: before the first one begins, and after the token is drawn. */
function hostTimes(
  logs: readonly EngineLog[],
  lone: Measurements["lone"],
): { requestMs: number; outputMs: number } {
  const requests: number[] = [];
  const outputs: number[] = [];
  for (const { trace, workerId } of lone) {
    const firstTokenMs = trace.contentTimesMs[0];
    const steps = logs.find((log) => log.worker.workerId === workerId)?.steps;
    if (firstTokenMs === undefined || steps === undefined) continue;
    const own = steps.filter(({ call }) => call.calledMs >= trace.sentMs && call.endMs <= firstTokenMs);
    const begin = own[0]?.call;
    const drawn = own.findLast(({ call }) => call.numSamples > 0 && call.prefills.length > 0)?.call;
    if (begin === undefined || drawn === undefined) continue;
    requests.push(begin.calledMs - trace.sentMs);
    outputs.push(firstTokenMs - drawn.endMs);
  }
  return { requestMs: summarize(requests)?.p50 ?? 0, outputMs: summarize(outputs)?.p50 ?? 0 };
}

function fitHandoff(logs: readonly EngineLog[]): Profile["handoff"] {
  const exports = logs.flatMap((log) => log.exports);
  const imports = logs.flatMap((log) => log.imports);
  if (exports.length === 0 || imports.length === 0) return null;
  const toSample = ({ call, ms }: (typeof exports)[number]) => ({ tokens: call.numTokens, ms });
  const sent = exports.map(({ call }) => call).sort((a, b) => a.endMs - b.endMs);
  const flights = imports.flatMap(({ call }) => {
    const index = sent.findLastIndex(
      (one) =>
        one.endMs <= call.calledMs && one.bytes === call.bytes && call.calledMs - one.endMs < MAX_FLIGHT_MS,
    );
    if (index < 0) return [];
    const [frame] = sent.splice(index, 1);
    return [{ tokens: call.bytes, ms: Math.max(call.calledMs - frame!.endMs, 0.001) }];
  });
  const link = fitLinear(flights);
  const bytesPerSecond = Math.min(1000 / link.tokenMs, MAX_LINK_BYTES_PER_SECOND);
  return {
    export: fitLinear(exports.map(toSample)),
    import: fitLinear(imports.map(toSample)),
    link: { latencyMs: link.callMs, bytesPerSecond },
  };
}

function rangeOf(steps: ReadonlyArray<Held<LoggedStep>>): Profile["range"] {
  let stepTokens = 0;
  let decodes = 0;
  let contextTokens = 0;
  for (const { call } of steps) {
    let tokens = call.numDecodes;
    for (const [context, chunk] of call.prefills) {
      tokens += chunk;
      contextTokens = Math.max(contextTokens, context + chunk);
    }
    if (call.numDecodes > 0) {
      contextTokens = Math.max(contextTokens, Math.ceil(call.decodeContextTokens / call.numDecodes));
    }
    stepTokens = Math.max(stepTokens, tokens);
    decodes = Math.max(decodes, call.numDecodes);
  }
  return { stepTokens, decodes, contextTokens };
}
