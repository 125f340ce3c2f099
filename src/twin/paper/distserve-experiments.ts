import type { PerfModel } from "../../core/perf/perf-model.ts";
import { interpolatedQuantile } from "../../core/util/quantiles.ts";
import { type RandomStream, Rng } from "../../core/util/rng.ts";
import { highestRate, type Lengths, poissonRequests } from "./capacity.ts";
import type { DistserveData } from "./distserve-data.ts";
import { type PaperPool, runPaperFleet } from "./paper-fleet.ts";

/** Goals on the 90th percentiles, in milliseconds. */
export interface DistserveGoals {
  readonly ttftMs: number;
  readonly tpotMs: number;
}

/**
 * Prompt and output lengths of ShareGPT as DistServe cuts it, at shares 0, 0.05, 0.1, 0.2, … 0.9, 0.95, 1: fitted to the first 220
 * requests of the alignment workload of its simulator (means 774 and 177; the paper says 755 and 200). The table of ShareGPT lengths
 * that other papers use has longer outputs and fewer long prompts.
 */
const SHARES = [0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1];
const INPUT_TOKENS = [9, 31, 91, 270, 387, 552, 740, 863, 1043, 1336, 1516, 1728, 2003];
const OUTPUT_TOKENS = [2, 4, 8, 13, 21, 35, 66, 149, 235, 336, 481, 609, 923];
/** OPT knows no position beyond. */
const MAX_TOTAL_TOKENS = 2048;

/** One request of that distribution; the two lengths are independent. */
export function drawDistserveSharegpt(stream: RandomStream): Lengths {
  for (;;) {
    const inputTokens = drawFrom(INPUT_TOKENS, stream);
    const outputTokens = drawFrom(OUTPUT_TOKENS, stream);
    if (inputTokens + outputTokens < MAX_TOTAL_TOKENS) return { inputTokens, outputTokens };
  }
}

function drawFrom(knots: readonly number[], stream: RandomStream): number {
  const share = stream.nextFloat();
  const end = SHARES.findIndex((knot) => share < knot);
  const from = SHARES[end - 1]!;
  const part = (share - from) / (SHARES[end]! - from);
  return Math.round(knots[end - 1]! + part * (knots[end]! - knots[end - 1]!));
}

/** Whether a fleet meets the goals at a rate. */
function meets(
  pools: readonly PaperPool[],
  goals: DistserveGoals,
  load: { seed: number; count: number; requestsPerSecond: number; draw: (stream: RandomStream) => Lengths },
): boolean {
  const stream = new Rng(load.seed).stream("requests");
  const { outcomes } = runPaperFleet(pools, poissonRequests(stream, load));
  const ttft = outcomes.map(({ ttftMs }) => ttftMs);
  const tpot = outcomes.map(({ ttftMs, e2eMs, outputTokens }) => (e2eMs - ttftMs) / outputTokens);
  return interpolatedQuantile(ttft, 0.9) < goals.ttftMs && interpolatedQuantile(tpot, 0.9) < goals.tpotMs;
}

/** A pool that runs prompts first and whole, as many at once as its KV holds: vLLM's order, and each half of DistServe. */
function pool(role: PaperPool["role"], count: number, perf: PerfModel): PaperPool {
  return { role, count, perf, policy: "prefill-first", tokenBudget: perf.kvCapacityTokens, maxRunning: 4096 };
}

/**
 * The example of the simulator's README: OPT-13B on ShareGPT, prefill on two accelerators and decode on one, 90 % of 300 requests with
 * the first token within 200 ms and 100 ms per token. Requests per second and accelerator, in the steps of its search: 5/32.
 */
export function distserveExample(data: DistserveData, options: { seed: number; count: number }): number {
  const model = "facebook/opt-13b";
  const pools = [pool("prefill", 1, data.perf(model, 2, 1)), pool("decode", 1, data.perf(model, 1, 1))];
  const goals = { ttftMs: 200, tpotMs: 100 };
  return highestRate({ max: 5, tolerance: 0.25 }, (rate) =>
    meets(pools, goals, { ...options, requestsPerSecond: 3 * rate, draw: drawDistserveSharegpt }),
  );
}

/**
 * Figure 1 of the paper: a 13B model, 512 prompt tokens and 64 output tokens; one accelerator for both phases, and two for prefill
 * with one for decode. Requests per second and accelerator.
 */
export function distserveFigure1(
  data: { readonly together: DistserveData; readonly apart: DistserveData },
  options: { seed: number; count: number; goals: DistserveGoals },
): { readonly together: number; readonly apart: number } {
  const model = "facebook/opt-13b";
  const search = (pools: readonly PaperPool[], numDevices: number): number =>
    highestRate({ max: 20, tolerance: 0.02 }, (rate) =>
      meets(pools, options.goals, {
        ...options,
        requestsPerSecond: numDevices * rate,
        draw: () => ({ inputTokens: 512, outputTokens: 64 }),
      }),
    );
  const { together, apart } = data;
  return {
    together: search([pool("both", 1, together.perf(model, 1, 1))], 1),
    apart: search(
      [pool("prefill", 2, apart.perf(model, 1, 1)), pool("decode", 1, apart.perf(model, 1, 1))],
      3,
    ),
  };
}
