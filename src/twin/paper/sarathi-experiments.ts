import { BUILT_IN_CATALOG } from "../../catalog/catalog.ts";
import { toDeviceSpec } from "../../catalog/device-spec.ts";
import { specOf } from "../../catalog/resolve.ts";
import { createPerfModel } from "../../core/perf/create-perf-model.ts";
import type { ModelShape } from "../../core/perf/model-shape.ts";
import { emptyStepTime, type PerfModel } from "../../core/perf/perf-model.ts";
import { StepLoad } from "../../core/perf/step-load.ts";
import { interpolatedQuantile } from "../../core/util/quantiles.ts";
import { type RandomStream, Rng } from "../../core/util/rng.ts";
import { readCsv } from "../csv-file.ts";
import { highestRate, type Lengths, poissonRequests } from "./capacity.ts";
import { gapQuantile, type OutcomeList } from "./outcomes.ts";
import { runPaperFleet } from "./paper-fleet.ts";

/** Mistral-7B (Jiang et al., 2023) with its published configuration; the window of 4,096 tokens counts for KV, not for time here. */
const MISTRAL_7B: ModelShape = {
  name: "mistral-7b",
  numLayers: 32,
  hiddenSize: 4096,
  vocabSize: 32_000,
  attention: {
    kind: "gqa",
    numHeads: 32,
    numKvHeads: 8,
    headDim: 128,
    numWindowLayers: 0,
    windowTokens: 0,
    numLinearLayers: 0,
  },
  ffn: { kind: "dense", intermediateSize: 14_336, isGated: true },
  hasTiedEmbeddings: false,
  maxContextTokens: 16_384,
};

/** Settings of the paper: tokens of a step under the strict and the relaxed goal; whole prompts where there are no chunks. */
const STRICT_CHUNK_TOKENS = 512;
const RELAXED_CHUNK_TOKENS = 2048;
const LONGEST_TOKENS = 16_384;
const MAX_BATCH = 128;
/** Host time of a step: an assumption, as in scenarios that state none. */
const STEP_HOST_MS = 1;
const NUM_REQUESTS = 400;
/** The median request waits no longer than this before it is first scheduled. */
const MAX_MEDIAN_DELAY_MS = 2000;

export type SarathiPolicy = "orca" | "prefill-first" | "chunked";

/** Mistral-7B on one A100, priced by the twin's own model. */
export function sarathiPerf(): PerfModel {
  const device = specOf(toDeviceSpec(BUILT_IN_CATALOG.get("accelerator", "a100-80g-sxm"))).spec;
  const { model, problem } = createPerfModel({
    device,
    model: MISTRAL_7B,
    parallelism: { tp: 1, pp: 1, ep: 1, dp: 1 },
    weightPrecision: "bf16",
    kvPrecision: "bf16",
    tokenBudget: LONGEST_TOKENS,
    maxRunning: MAX_BATCH,
    memoryUtilisation: 0.9,
    host: { requestMs: 0, outputMs: 0, stepMs: STEP_HOST_MS, sequenceMs: 0, prefillTokenMs: 0 },
  });
  if (model === null) throw new Error(problem.message);
  return model;
}

/** Reads a table of lengths (`num_prefill_tokens`, `num_decode_tokens`). */
export function readLengths(file: string): Lengths[] {
  return readCsv(file, ["num_prefill_tokens", "num_decode_tokens"]).map((row) => ({
    inputTokens: row.count("num_prefill_tokens", 1),
    outputTokens: row.count("num_decode_tokens", 1),
  }));
}

interface SarathiRun {
  readonly perf: PerfModel;
  readonly policy: SarathiPolicy;
  readonly chunkTokens: number;
  readonly lengths: readonly Lengths[];
}

function run({ perf, policy, chunkTokens, lengths }: SarathiRun, rate: number): OutcomeList {
  const draw = (stream: RandomStream) => lengths[stream.nextBelow(lengths.length)]!;
  const load = { count: NUM_REQUESTS, requestsPerSecond: rate, draw };
  const requests = poissonRequests(new Rng(1).stream("requests"), load);
  const tokenBudget = policy === "chunked" ? chunkTokens : LONGEST_TOKENS;
  return runPaperFleet(
    [{ role: "both", count: 1, perf, policy, tokenBudget, maxRunning: MAX_BATCH }],
    requests,
  );
}

/** The highest rate with a 99th percentile of token gaps inside the goal and a median delay of two seconds at most. */
export function sarathiCapacity(
  perf: PerfModel,
  policy: SarathiPolicy,
  options: { goal: "strict" | "relaxed"; lengths: readonly Lengths[] },
): number {
  const isStrict = options.goal === "strict";
  const gapGoalMs = isStrict ? 100 : 500;
  const chunkTokens = isStrict ? STRICT_CHUNK_TOKENS : RELAXED_CHUNK_TOKENS;
  const setting = { perf, policy, chunkTokens, lengths: options.lengths };
  return highestRate({ max: 8, tolerance: 0.03 }, (rate) => {
    const { outcomes, gaps } = run(setting, rate);
    const delays = outcomes.map(({ ttftMs, inputTokens }) => ttftMs - aloneMs(setting, inputTokens));
    return gapQuantile(gaps, 0.99) <= gapGoalMs && interpolatedQuantile(delays, 0.5) <= MAX_MEDIAN_DELAY_MS;
  });
}

/** 99th percentile of token gaps and median time to the first token at one rate, in milliseconds. */
export function sarathiTails(
  perf: PerfModel,
  policy: SarathiPolicy,
  options: { requestsPerSecond: number; lengths: readonly Lengths[] },
): { readonly gapP99Ms: number; readonly ttftP50Ms: number } {
  const setting = { perf, policy, chunkTokens: STRICT_CHUNK_TOKENS, lengths: options.lengths };
  const { outcomes, gaps } = run(setting, options.requestsPerSecond);
  return {
    gapP99Ms: gapQuantile(gaps, 0.99),
    ttftP50Ms: interpolatedQuantile(
      outcomes.map(({ ttftMs }) => ttftMs),
      0.5,
    ),
  };
}

/** Time of a prompt with nothing beside it. */
function aloneMs({ perf, policy, chunkTokens }: SarathiRun, inputTokens: number): number {
  const load = new StepLoad();
  const time = emptyStepTime();
  const chunk = policy === "chunked" ? chunkTokens : inputTokens;
  let totalMs = 0;
  for (let done = 0; done < inputTokens; done += chunk) {
    load.clear();
    load.addPrefill(done, Math.min(chunk, inputTokens - done), done + chunk >= inputTokens);
    perf.stepTime(load, time);
    totalMs += time.deviceMs + time.hostMs;
  }
  return totalMs;
}
