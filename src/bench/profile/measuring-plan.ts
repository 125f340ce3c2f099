import type { LengthDistribution } from "../../core/util/length-distribution.ts";

/** A closed loop of requests that is run for some time. */
export interface Phase {
  readonly name: string;
  readonly concurrency: number;
  readonly inputLengths: LengthDistribution;
  readonly outputLengths: LengthDistribution;
  readonly seconds: number;
  /** One request after the other, each sent when the server has been idle: what a request costs outside the engine. */
  readonly isLone?: true;
}

/** What a plan has to stay within. */
export interface PlanLimits {
  readonly contextTokens: number;
  readonly maxRunning: number;
}

/** Longest prompt that is measured: prompts cost time that grows with the square of their length. */
const MAX_PROMPT_TOKENS = 1024;
/** Longest output. */
const MAX_OUTPUT_TOKENS = 96;
/** Sequences that decode together, as far as the server takes them. */
const DECODE_BATCHES = [1, 2, 4, 8, 16, 32, 64];

const uniform = (min: number, max: number): LengthDistribution => ({
  kind: "uniform",
  min: Math.max(1, Math.round(min)),
  max: Math.max(1, Math.round(max)),
});

/** One round on a worker that prefills and decodes: it shows steps of every kind. */
export function unsplitRound({ contextTokens, maxRunning }: PlanLimits, seconds: number): Phase[] {
  const prompt = Math.min(MAX_PROMPT_TOKENS, Math.floor(contextTokens / 2));
  const output = Math.min(MAX_OUTPUT_TOKENS, Math.floor(contextTokens / 4));
  const batches = DECODE_BATCHES.filter((batch) => batch <= maxRunning);
  const phases: Array<Omit<Phase, "seconds">> = [
    ...batches.map((concurrency) => ({
      name: `${concurrency} decoding`,
      concurrency,
      inputLengths: uniform(prompt / 64, prompt / 8),
      outputLengths: uniform(output / 2, output),
    })),
    {
      name: "long prompts",
      concurrency: 1,
      inputLengths: uniform(prompt / 8, prompt),
      outputLengths: uniform(output / 4, output),
    },
    {
      name: "mixed",
      concurrency: Math.min(3, maxRunning),
      inputLengths: uniform(prompt / 16, prompt),
      outputLengths: uniform(output / 4, output),
    },
    {
      name: "alone",
      concurrency: 1,
      isLone: true,
      inputLengths: uniform(prompt / 16, prompt / 2),
      outputLengths: uniform(2, 4),
    },
  ];
  return phases.map((phase) => ({ ...phase, seconds: seconds / phases.length }));
}

/** One round on a split fleet: it shows the handoff, and steps while another worker computes as well. */
export function splitRound({ contextTokens, maxRunning }: PlanLimits, seconds: number): Phase[] {
  const prompt = Math.min(MAX_PROMPT_TOKENS, Math.floor(contextTokens / 2));
  const output = Math.min(MAX_OUTPUT_TOKENS, Math.floor(contextTokens / 4));
  return [1, Math.min(3, maxRunning)].map((concurrency) => ({
    name: `${concurrency} handing over`,
    concurrency,
    inputLengths: uniform(prompt / 16, prompt),
    outputLengths: uniform(output / 4, output),
    seconds: seconds / 2,
  }));
}
