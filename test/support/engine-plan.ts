import type { ScheduledChunk, StepPlan } from "../../src/core/scheduler/step-plan.ts";
import type { Sequence } from "../../src/core/sequence.ts";
import type { Engine } from "../../src/serve/engine/engine.ts";

/** A chunk that samples when it reaches the last known token. */
export function chunkOf(
  sequence: Sequence,
  start: number,
  numTokens: number,
  samples = start + numTokens === sequence.numKnownTokens,
): ScheduledChunk {
  return { sequence, slot: sequence.slot, start, numTokens, samples };
}

export function planOf(...chunks: ScheduledChunk[]): StepPlan {
  return {
    index: 0,
    chunks,
    numTokens: chunks.reduce((sum, chunk) => sum + chunk.numTokens, 0),
    maxSteps: 1,
  };
}

/** Everything that a sequence has to compute, as one chunk. */
export function restOf(sequence: Sequence): ScheduledChunk {
  return chunkOf(sequence, sequence.numComputedTokens, sequence.numUncomputedTokens);
}

/** Executes a plan that must succeed, and moves its sequences on as a scheduler would. */
export async function runStep(engine: Engine, ...chunks: ScheduledChunk[]): Promise<void> {
  const result = await engine.execute(planOf(...chunks));
  if (result.kind !== "done") throw new Error(`the step was ${result.kind}`);
  chunks.forEach(({ sequence, start, numTokens }, i) => {
    sequence.numComputedTokens = start + numTokens;
    const sample = result.samples[i];
    if (sample && sequence.numKnownTokens < sequence.maxKnownTokens) sequence.append(sample.token);
  });
}

/** Computes the tokens in [numComputed, end) in chunks of a size, sampling where the last known token is reached. */
export async function computeUpTo(
  engine: Engine,
  sequence: Sequence,
  end: number,
  chunkTokens = engine.info.maxStepTokens,
): Promise<void> {
  while (sequence.numComputedTokens < end) {
    const start = sequence.numComputedTokens;
    await runStep(engine, chunkOf(sequence, start, Math.min(chunkTokens, end - start)));
  }
}

/** Generates until the sequence has `count` output tokens, and returns these. */
export async function generate(
  engine: Engine,
  sequence: Sequence,
  count: number,
  chunkTokens?: number,
): Promise<number[]> {
  while (sequence.numOutputTokens < count) {
    await computeUpTo(engine, sequence, sequence.numKnownTokens, chunkTokens);
  }
  return Array.from(
    sequence.knownTokens().subarray(sequence.numPromptTokens, sequence.numPromptTokens + count),
  );
}

/** A small seeded generator (mulberry32) of integers below a bound. */
export function randomSource(seed: number): (bound: number) => number {
  let state = seed >>> 0;
  return (bound) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000) * bound);
  };
}

/** Pseudo-random tokens of a vocabulary. */
export function randomTokens(seed: number, count: number, vocabSize: number): number[] {
  const random = randomSource(seed);
  return Array.from({ length: count }, () => random(vocabSize));
}
