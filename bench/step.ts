/**
 * CPU time of a decode step outside `llama_decode` and sampling, at batch 8: scheduling, block bookkeeping, the engine's queue and
 * validation, filling the batch, reading logits and emitting tokens.
 *
 * Everything runs on the main thread here, whose CPU clock the kernel keeps in nanoseconds. It is read around every
 * `llama_decode`; sampling is timed by itself on logits of the same size. What remains is ours.
 */
import { createSampler } from "../src/core/sampling/sampler.ts";
import { Sequence } from "../src/core/sequence.ts";
import { loadLibrary } from "../src/serve/engine/llama/library.ts";
import { openEngine } from "../src/serve/engine/open-engine.ts";
import { BUILT_IN_MODEL, benchRequest, openInProcessWorker } from "./lib/in-process-worker.ts";
import { median, report, round } from "./lib/report.ts";

const BATCH = 8;
const OUTPUT_TOKENS = 400;
const ROUNDS = 9;

/** Linux's number for the CPU clock of the calling thread (`clock_gettime`, time.h). */
const CLOCK_THREAD_CPUTIME_ID = 3;

const library = await loadLibrary();
const clockGetTime = library.koffi.load("libc.so.6").func("clock_gettime", "int", ["int", "void *"]) as (
  clock: number,
  time: BigInt64Array,
) => number;
const time = new BigInt64Array(2);

/** CPU time of the main thread so far, in microseconds. */
function threadCpuUs(): number {
  clockGetTime(CLOCK_THREAD_CPUTIME_ID, time);
  return Number(time[0]) * 1e6 + Number(time[1]) / 1000;
}

/** What reading the clock costs by itself: two readings per step are part of the measured rest. */
const clockUs = ((): number => {
  const readings = 20_000;
  const before = threadCpuUs();
  for (let i = 0; i < readings; i++) threadCpuUs();
  return (threadCpuUs() - before) / readings;
})();

let decodeUs = 0;
const decode = library.api.llama_decode;
const timedDecode = (...args: Parameters<typeof decode>): number => {
  const before = threadCpuUs();
  const code = decode(...args);
  decodeUs += threadCpuUs() - before;
  return code;
};
Object.assign(library.api, { llama_decode: Object.assign(timedDecode, { async: decode.async }) });

const worker = await openInProcessWorker(
  {
    modelPath: BUILT_IN_MODEL,
    maxRunning: BATCH,
    contextTokens: 1024,
    kvCapacityTokens: 8192,
    prefixCacheTokens: 0,
  },
  ({ modelPath, kvCapacityTokens, chunkTokens }) =>
    openEngine({
      engine: "llama",
      modelPath: modelPath!,
      kvCapacityTokens,
      maxStepTokens: chunkTokens,
      numSlots: 64,
      maxBlockingStepMs: Number.POSITIVE_INFINITY,
    }),
);

const totals: number[] = [];
const decodes: number[] = [];
for (let i = 0; i <= ROUNDS; i++) {
  const requests = Array.from({ length: BATCH }, () => benchRequest(16, OUTPUT_TOKENS));
  const stepsBefore = worker.driver.load().numSteps;
  decodeUs = 0;
  const before = threadCpuUs();
  await worker.run(requests);
  const usedUs = threadCpuUs() - before;
  const numSteps = worker.driver.load().numSteps - stepsBefore;
  // The first round warms the compiler.
  if (i === 0) continue;
  totals.push((usedUs - decodeUs) / numSteps - clockUs);
  decodes.push(decodeUs / numSteps);
}

/** Greedy draws for one step, on random logits of the model's vocabulary. */
function samplingUs(): number {
  const { vocabSize } = worker.engine.info;
  const sampler = createSampler(vocabSize);
  const sequence = new Sequence(benchRequest(16, 4), { order: 0 });
  const logits = Array.from({ length: BATCH }, () =>
    Float32Array.from({ length: vocabSize }, () => Math.random()),
  );
  const steps = 2000;
  let sink = 0;
  let startMs = 0;
  for (let step = -steps; step < steps; step++) {
    if (step === 0) startMs = performance.now();
    for (const row of logits) sink += sampler.sample(row, sequence).token;
  }
  if (sink < 0) throw new Error("tokens are not negative");
  return ((performance.now() - startMs) * 1000) / steps;
}

const sampling = samplingUs();
await worker.close();
const total = median(totals);
report({
  title: `CPU of the main thread per step at batch ${BATCH}, built-in model`,
  rows: [
    { part: "llama_decode", us: median(decodes) },
    { part: "all else", us: total },
    { part: "of it sampling", us: sampling },
    { part: "of it the rest", us: total - sampling },
  ],
  result: { overheadUs: round(total - sampling), samplingUs: round(sampling), rounds: ROUNDS },
});
