import { OrcaPerf } from "../../core/perf/paper/orca.ts";
import type { PerfModel } from "../../core/perf/perf-model.ts";
import { interpolatedQuantile } from "../../core/util/quantiles.ts";
import { type RandomStream, Rng } from "../../core/util/rng.ts";
import { highestRate, type Lengths, poissonRequests } from "./capacity.ts";
import type { PaperOutcome } from "./outcomes.ts";
import { runPaperFleet } from "./paper-fleet.ts";

/** Latency per token at which figure 10 compares: twice what one request alone takes. */
const GOAL_MS_PER_TOKEN = 190;
const NUM_REQUESTS = 1500;
/** Longest sequence of the trace. */
const LONGEST_TOKENS = 640;

/** The paper's synthetic trace: prompts of 32 to 512 tokens, outputs of 1 to 128, both evenly. */
function drawLengths(stream: RandomStream): Lengths {
  return { inputTokens: 32 + stream.nextBelow(481), outputTokens: 1 + stream.nextBelow(128) };
}

/** Median of latency over output tokens, in milliseconds. */
function medianPerToken(
  options: { policy: string; maxBatch: number; requestsPerSecond: number; count: number; seed: number },
  perf: PerfModel,
): number {
  const stream = new Rng(options.seed).stream("requests");
  const requests = poissonRequests(stream, { ...options, draw: drawLengths });
  const pool = {
    role: "both",
    count: 1,
    perf,
    policy: options.policy,
    tokenBudget: options.maxBatch * LONGEST_TOKENS,
    maxRunning: options.maxBatch,
  } as const;
  const { outcomes } = runPaperFleet([pool], requests);
  const latencies =
    options.policy === "static" ? batchLatencies(outcomes) : outcomes.map(({ e2eMs }) => e2eMs);
  return interpolatedQuantile(
    latencies.map((latencyMs, index) => latencyMs / outcomes[index]!.outputTokens),
    0.5,
  );
}

/**
 * Latencies when a batch returns as a whole, as FasterTransformer does. Our static policy lets every output go when it ends; requests
 * of one batch are those whose first tokens come with one step.
 */
function batchLatencies(outcomes: readonly PaperOutcome[]): number[] {
  const endsMs = new Map<number, number>();
  const batchOf = ({ arrivalMs, ttftMs }: PaperOutcome) => Math.round((arrivalMs + ttftMs) * 1000);
  for (const outcome of outcomes) {
    const endMs = outcome.arrivalMs + outcome.e2eMs;
    endsMs.set(batchOf(outcome), Math.max(endsMs.get(batchOf(outcome)) ?? 0, endMs));
  }
  return outcomes.map((outcome) => endsMs.get(batchOf(outcome))! - outcome.arrivalMs);
}

/**
 * The fixed time of a step with which one request alone takes half the goal per token at the median, as the paper says of its system.
 */
export function fitOrcaFixedMs(): number {
  const loneMs = (fixedMs: number) =>
    medianPerToken(
      { policy: "orca", maxBatch: 1, requestsPerSecond: 0.005, count: 301, seed: 1 },
      new OrcaPerf(fixedMs),
    );
  return highestRate({ max: 200, tolerance: 0.01 }, (fixedMs) => loneMs(fixedMs) <= GOAL_MS_PER_TOKEN / 2);
}

/** Requests per second at the goal, for the best batch size of each policy. */
export function orcaFigure10(options: { seed: number; fixedMs: number; batches: readonly number[] }): {
  readonly static: number;
  readonly orca: number;
} {
  const perf = new OrcaPerf(options.fixedMs);
  const best = (policy: string): number =>
    Math.max(
      ...options.batches.map((maxBatch) =>
        highestRate({ max: 20, tolerance: 0.005 }, (requestsPerSecond) => {
          const load = { policy, maxBatch, requestsPerSecond, count: NUM_REQUESTS, seed: options.seed };
          return medianPerToken(load, perf) <= GOAL_MS_PER_TOKEN;
        }),
      ),
    );
  return { static: best("static"), orca: best("orca") };
}
