import { describe, expect, it } from "vitest";
import { emptyStepTime, type PerfModel } from "../perf-model.ts";
import { StepLoad } from "../step-load.ts";
import { DistservePerf } from "./distserve.ts";
import { OrcaPerf } from "./orca.ts";
import { SplitwisePerf } from "./splitwise.ts";

function timeOf(perf: PerfModel, prefills: readonly number[], decodes: readonly number[]): number {
  const load = new StepLoad();
  for (const tokens of prefills) load.addPrefill(0, tokens, true);
  for (const context of decodes) load.addDecode(context);
  const time = emptyStepTime();
  perf.stepTime(load, time);
  expect(time.source).toBe("paper");
  return time.deviceMs + time.hostMs;
}

const contexts = (count: number, context: number) => Array.from({ length: count }, () => context);

describe("SplitwisePerf", () => {
  const perf = new SplitwisePerf({
    runs: [
      { batchTokens: 200, promptMs: 30, tokenMs: 40 },
      { batchTokens: 100, promptMs: 9, tokenMs: 30 },
      { batchTokens: 100, promptMs: 10, tokenMs: 90 },
      { batchTokens: 100, promptMs: 99, tokenMs: 20 },
      { batchTokens: 400, promptMs: 50, tokenMs: 40 },
    ],
    kvCapacityTokens: 1000,
    kvBytesPerToken: 1,
  });

  it("joins medians by straight lines, and goes on beyond them", () => {
    expect(timeOf(perf, [150], [])).toBeCloseTo(20);
    expect(timeOf(perf, [100, 200], [])).toBeCloseTo(40);
    expect(timeOf(perf, [600], [])).toBeCloseTo(70);
    expect(timeOf(perf, [50], [])).toBeCloseTo(0);
  });

  it("counts a decode as one token whatever its context, and charges a tenth more for mixed steps", () => {
    expect(timeOf(perf, [], contexts(10, 5000))).toBeCloseTo(21);
    expect(timeOf(perf, [150], contexts(50, 1))).toBeCloseTo(33);
  });

  it("says when it extrapolates", () => {
    const load = new StepLoad();
    const time = emptyStepTime();
    load.addPrefill(0, 401, true);
    perf.stepTime(load, time);
    expect(time.isExtrapolated).toBe(true);
  });
});

describe("DistservePerf", () => {
  const coefficients = {
    prefill: [10, 0.1, 0.001],
    decodeSmall: [20, 0.01, 0.5],
    decodeLarge: [5, 0.02, 0.7],
    largeBatch: 3,
  } as const;
  const perf = (pp: number) =>
    new DistservePerf({ coefficients, pp, kvCapacityTokens: 1000, kvBytesPerToken: 1 });

  /** The simulator's control plane: per step and per token, and per stage of a prefill. */
  const overhead = (tokens: number, prefillStages = 0) => 2 + 1e-4 * tokens + prefillStages;

  it("squares the length of each prompt, not their sum", () => {
    expect(timeOf(perf(1), [10, 20], [])).toBeCloseTo(10 + 3 + 0.001 * (100 + 400) + overhead(30, 1), 9);
    expect(timeOf(perf(2), [10, 20], [])).toBeCloseTo((10 + 3 + 0.5) / 2 + overhead(30, 2), 9);
  });

  it("changes its coefficients at the large batch, and divides by pipeline stages", () => {
    expect(timeOf(perf(1), [], contexts(2, 100))).toBeCloseTo(20 + 2 + 1 + overhead(200), 9);
    expect(timeOf(perf(1), [], contexts(3, 100))).toBeCloseTo(5 + 6 + 2.1 + overhead(300), 9);
    expect(timeOf(perf(2), [], contexts(3, 100))).toBeCloseTo((5 + 6 + 2.1) / 2 + overhead(300), 9);
  });

  it("prices a prompt in chunks like the whole, but for the constants", () => {
    const load = new StepLoad();
    const time = emptyStepTime();
    load.addPrefill(10, 20, true);
    perf(1).stepTime(load, time);
    const whole = timeOf(perf(1), [30], []);
    expect(time.hostMs).toBeCloseTo(overhead(30, 1), 9);
    expect(time.deviceMs + timeOf(perf(1), [10], [])).toBeCloseTo(
      whole + 10 + overhead(10, 1) - overhead(30, 1),
      9,
    );
  });
});

describe("OrcaPerf", () => {
  it("takes the longer of compute and memory beside the fixed time", () => {
    const [few, many] = [timeOf(new OrcaPerf(5), [1], []), timeOf(new OrcaPerf(5), [4000], [])];
    expect(few).toBeCloseTo(5 + (1000 * 350e9) / (16 * 1.555e12 * 0.7), 3);
    expect(many).toBeCloseTo(5 + (1000 * 2 * 175e9 * 4000) / (16 * 312e12 * 0.5), 3);
  });
});
