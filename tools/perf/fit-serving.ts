/**
 * Fits what a serving engine adds to its kernels (`src/catalog/vllm-fit.ts`) to one half of the measured experiments.
 *
 *   D=../shared/silicon/vllm-serving-groundtruth
 *   node --import tsx tools/perf/fit-serving.ts $D/leaderboard26.csv $D/h100_vllm_13exp.json [--dry] [--without MODEL_OR_DEVICE]
 *
 * Every evaluation runs the fitted half in the twin with shortened stages. `--without` leaves a model or device out of the fit as
 * well and reports on it alone: how far the terms carry. `--dry` writes nothing.
 */
import { writeFileSync } from "node:fs";
import {
  type EngineTerm,
  type FittedTerm,
  type ServingFit,
  vllmWarmUpMs,
} from "../../src/catalog/host-overheads.ts";
import {
  predictServing,
  type ResolvedExperiment,
  resolveExperiment,
} from "../../src/twin/validate/predict-serving.ts";
import { readLeaderboard } from "../../src/twin/validate/serving-experiment.ts";
import { readExperimentsJson } from "../../src/twin/validate/serving-json.ts";
import { halvesOf } from "../../src/twin/validate/serving-split.ts";
import { type Equation, solveStep } from "./least-squares.ts";

/** Expected relative sizes of what is left over. */
const DECODE_SIZE = 0.03;
const TTFT_SIZE = 0.06;
/** A time to first token of more steps than this has a queue in it, which the terms do not explain. */
const MAX_STEPS_TO_FIRST_TOKEN = 5;
const STAGE_S = 60;
const IGNORED_SHARE = 0.3;
const ITERATIONS = 4;
const DAMPING = 1e-3;
/** Reference device: host factors of others are relative to it. */
const REFERENCE_DEVICE = "h100-sxm";
const OUTPUT = new URL("../../src/catalog/vllm-fit.ts", import.meta.url);

const STEP_TERMS = [
  "requestMs",
  "stepMs",
  "sequenceMs",
  "vocabularyMs",
  "mixedLayerMs",
  "contextSkew",
  "collectiveFactor",
  "offloadRequestMs",
] as const;
type StepTerm = (typeof STEP_TERMS)[number];
const START: Record<StepTerm, number> = {
  requestMs: 4,
  stepMs: 0.2,
  sequenceMs: 0.003,
  vocabularyMs: 0.004,
  mixedLayerMs: 0.03,
  contextSkew: 0.3,
  collectiveFactor: 1.4,
  offloadRequestMs: 1.5,
};

interface Parameter {
  readonly name: string;
  readonly isHostFactor: boolean;
  value: number;
  error: number;
}

await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<void> {
  const at = args.indexOf("--without");
  const without = at < 0 ? null : (args[at + 1] ?? null);
  const paths = args.filter((arg, index) => !arg.startsWith("--") && (at < 0 || index !== at + 1));
  if (paths.length === 0)
    throw new Error("usage: fit-serving.ts FILE [FILE …] [--dry] [--without MODEL_OR_DEVICE]");
  const isWithout = ({ modelId, device }: ResolvedExperiment): boolean =>
    modelId === without || device.id === without;
  const halves: [ResolvedExperiment[], ResolvedExperiment[]] = [[], []];
  const namesOf = new Map<string, string[]>();
  for (const path of paths) {
    // An experiment that another file has as well keeps the half that it was given there.
    const fresh = (await usable(path)).filter((one) => {
      const names = namesOf.get(fingerprint(one));
      names?.push(one.experiment.name);
      if (names === undefined) namesOf.set(fingerprint(one), [one.experiment.name]);
      return names === undefined;
    });
    const split = halvesOf(fresh, ({ modelId, device, experiment }) => ({
      group: `${modelId} ${device.id}`,
      name: experiment.name,
    }));
    for (const one of fresh) if (!isWithout(one)) halves[split.get(one)!].push(one);
    if (without !== null) halves[1] = halves[1].filter(isWithout).concat(fresh.filter(isWithout));
  }
  const [fitted, heldOut] = halves;
  const fit = fitTerms(
    fitted,
    fitted.flatMap((one) => namesOf.get(fingerprint(one))!),
  );
  report("fitted", fitted, fit);
  report("held out", heldOut, fit);
  if (!args.includes("--dry")) write(fit);
}

async function usable(path: string): Promise<ResolvedExperiment[]> {
  const read = path.endsWith(".json") ? readExperimentsJson : readLeaderboard;
  return (await read(path)).flatMap((experiment) => {
    const resolved = resolveExperiment(experiment);
    if (!("problem" in resolved)) return [resolved];
    console.log(`${experiment.name}: not used, ${resolved.problem}`);
    return [];
  });
}

/** The same for one measurement in two files. */
function fingerprint({ modelId, experiment }: ResolvedExperiment): string {
  const e2e =
    experiment.rows.find(({ stage, metric }) => stage === 0 && metric === "e2e_mean")?.measuredMs ?? 0;
  return `${modelId} ${e2e.toFixed(1)}`;
}

function fitTerms(experiments: readonly ResolvedExperiment[], names: readonly string[]): ServingFit {
  const recountedTokens = recounted(experiments);
  const others = [...new Set(experiments.map(({ device }) => device.id))].filter(
    (id) => id !== REFERENCE_DEVICE,
  );
  const parameters: Parameter[] = [
    ...STEP_TERMS.map((name) => ({ name, isHostFactor: false, value: START[name], error: 0 })),
    ...others.sort().map((name) => ({ name, isHostFactor: true, value: 1.5, error: 0 })),
  ];
  let warmUpMoeMs: FittedTerm = { value: 0, error: 0 };
  const fitOf = (): ServingFit => toFit(parameters, warmUpMoeMs, recountedTokens, names);
  for (let iteration = 0; iteration < ITERATIONS; iteration++) {
    const base = residuals(experiments, fitOf());
    warmUpMoeMs = moeWarmUp(experiments, fitOf());
    const columns = parameters.map((parameter) => {
      const { value } = parameter;
      const delta =
        0.1 * Math.max(value, parameter.isHostFactor ? 1 : 0.2 * START[parameter.name as StepTerm]);
      parameter.value = value + delta;
      const moved = residuals(experiments, fitOf());
      parameter.value = value;
      return moved.map((residual, i) => (residual - base[i]!) / delta);
    });
    const equations: Equation[] = base.map((residual, i) => ({
      residual,
      slopes: columns.map((column) => column[i]!),
    }));
    const { step, errors } = solveStep(equations, DAMPING);
    parameters.forEach((parameter, i) => {
      parameter.value = Math.max(parameter.isHostFactor ? 0.3 : 0, parameter.value + step[i]!);
      parameter.error = errors[i]!;
    });
    const size = Math.sqrt(base.reduce((sum, one) => sum + one * one, 0) / base.length);
    const shown = parameters.map(
      ({ name, value, error }) => `${name} ${value.toFixed(4)}±${error.toFixed(4)}`,
    );
    console.log(`${iteration}: residuals of ${size.toFixed(3)} sizes before; ${shown.join(", ")}`);
  }
  return fitOf();
}

/** Residuals of warm stages in expected sizes: time after the first token, and time to it where there is no queue. */
function residuals(experiments: readonly ResolvedExperiment[], fit: ServingFit): number[] {
  return experiments.flatMap((resolved) => {
    const { rows, load } = resolved.experiment;
    const prediction = predictServing(resolved, {
      fit,
      maxStageS: stageS(resolved),
      ignoredShare: IGNORED_SHARE,
      isWarm: true,
    });
    return load!.stages.flatMap((stage, index) => {
      const e2e = rows.find((row) => row.stage === index && row.metric === "e2e_mean")?.measuredMs;
      const ttft = rows.find((row) => row.stage === index && row.metric === "ttft_mean")?.measuredMs;
      if (e2e === undefined || ttft === undefined) return [];
      const longestMs = (MAX_STEPS_TO_FIRST_TOKEN * (e2e - ttft)) / load!.prompts.outputTokens;
      const stopMs = index === 0 ? vllmWarmUpMs(resolved.model, fit) : 0;
      const coldMs = stopMs ** 2 / (2 * stage.durationS * 1000);
      const predictedMs = Math.min(longestMs, prediction.valueOf(index, "ttft_mean")! + coldMs);
      const decode = Math.log(prediction.valueOf(index, "decode_mean")! / (e2e - ttft)) / DECODE_SIZE;
      return ttft > longestMs ? [decode] : [decode, Math.log(predictedMs / ttft) / TTFT_SIZE];
    });
  });
}

/**
 * A stop of S makes the requests that arrive meanwhile wait S / 2 on average: the mean of a stage of D is late by S² / 2D. The
 * first stage against the second, or against the prediction where there is one stage, shows it.
 */
function moeWarmUp(experiments: readonly ResolvedExperiment[], fit: ServingFit): FittedTerm {
  const stops: number[] = [];
  for (const resolved of experiments) {
    if (resolved.model.ffn.kind !== "moe") continue;
    const { rows, load } = resolved.experiment;
    const prediction = predictServing(resolved, {
      fit,
      maxStageS: stageS(resolved),
      ignoredShare: IGNORED_SHARE,
      isWarm: true,
    });
    const late = (stage: number): number => {
      const measured = rows.find((row) => row.stage === stage && row.metric === "ttft_mean")?.measuredMs;
      return measured === undefined ? Number.NaN : measured - prediction.valueOf(stage, "ttft_mean")!;
    };
    const excessMs = late(0) - (load!.stages.length > 1 ? late(1) : 0);
    if (excessMs > 0) stops.push(Math.sqrt(2 * load!.stages[0]!.durationS * 1000 * excessMs));
  }
  return medianTerm(stops);
}

/** Tokens that clients counted per generated token. */
function recounted(experiments: readonly ResolvedExperiment[]): Record<string, FittedTerm> {
  const shares = new Map<string, number[]>();
  for (const { modelId, experiment } of experiments) {
    const of = (metric: string): number | undefined =>
      experiment.rows.find((row) => row.stage === -1 && row.metric === metric)?.measuredMs;
    const [e2e, ttft, itl] = [of("e2e_mean"), of("ttft_mean"), of("itl_mean")];
    if (e2e === undefined || ttft === undefined || itl === undefined) continue;
    const share = (1 + (e2e - ttft) / itl) / experiment.load!.prompts.outputTokens;
    shares.set(modelId, [...(shares.get(modelId) ?? []), share]);
  }
  return Object.fromEntries([...shares].sort().map(([id, values]) => [id, medianTerm(values)]));
}

/** Median and standard error. */
function medianTerm(values: readonly number[]): FittedTerm {
  if (values.length === 0) return { value: 0, error: 0 };
  const sorted = [...values].sort((a, b) => a - b);
  const value = (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2;
  const squares = values.reduce((sum, one) => sum + (one - value) ** 2, 0);
  return { value, error: Math.sqrt(squares / Math.max(1, values.length - 1) / values.length) };
}

/** Long outputs need longer stages to reach a steady state. */
function stageS({ experiment }: ResolvedExperiment): number {
  return STAGE_S * Math.max(1, experiment.load!.prompts.outputTokens / 500);
}

function toFit(
  parameters: readonly Parameter[],
  warmUpMoeMs: FittedTerm,
  recountedTokens: ServingFit["recountedTokens"],
  fittedOn: readonly string[],
): ServingFit {
  const pick = (isHostFactor: boolean): Record<string, FittedTerm> =>
    Object.fromEntries(
      parameters
        .filter((one) => one.isHostFactor === isHostFactor)
        .map(({ name, value, error }) => [name, { value, error }]),
    );
  return {
    measuredWith: "vLLM 0.15.1",
    terms: { ...pick(false), warmUpMoeMs } as Record<EngineTerm, FittedTerm>,
    hostFactors: pick(true),
    recountedTokens,
    fittedOn,
  };
}

function report(title: string, experiments: readonly ResolvedExperiment[], fit: ServingFit): void {
  const errors = new Map<string, number[]>();
  for (const resolved of experiments) {
    const prediction = predictServing(resolved, {
      fit,
      maxStageS: stageS(resolved),
      ignoredShare: IGNORED_SHARE,
      isWarm: true,
    });
    const shown: string[] = [];
    for (const { stage, metric, measuredMs } of resolved.experiment.rows) {
      if (stage < 0 || !["e2e_mean", "ttft_mean", "itl_mean"].includes(metric)) continue;
      const percent = (prediction.valueOf(stage, metric)! / measuredMs - 1) * 100;
      errors.set(metric, [...(errors.get(metric) ?? []), Math.abs(percent)]);
      shown.push(`${stage} ${metric} ${percent.toFixed(1)}`);
    }
    console.log(`  ${resolved.experiment.name}: ${shown.join(", ")}`);
  }
  for (const [metric, values] of errors)
    console.log(
      `${title} ${metric}: median ${medianTerm(values).value.toFixed(1)} % of ${values.length} warm stages`,
    );
}

function write(fit: ServingFit): void {
  const round = (_: string, value: unknown): unknown =>
    typeof value === "number" ? Number(value.toPrecision(4)) : value;
  writeFileSync(
    OUTPUT,
    `import type { ServingFit } from "./host-overheads.ts";\n\n` +
      `/** Written by \`tools/perf/fit-serving.ts\`. */\n` +
      `export const VLLM_FIT: ServingFit = ${JSON.stringify(fit, round, 2)};\n`,
  );
}
