import { describe, expect, it } from "vitest";
import {
  ListObserver,
  linearPerf,
  twinSpec,
  twinWorker,
  workloadRequest,
} from "../../../test/support/twin.ts";
import type { StepVariation } from "../../core/perf/step-variation.ts";
import { ListSource } from "../workload/list-source.ts";
import { runTwin } from "./run-twin.ts";

const OUTPUT_TOKENS = 4000;

/** One long output alone: a prompt of 10 ms, and gaps of 6 ms. */
function run(variation: StepVariation | undefined, seed: number) {
  const perf = {
    ...linearPerf({ stepMs: 5, prefillMsPerToken: 1, decodeMs: 1 }),
    ...(variation === undefined ? {} : { variation }),
  };
  const observer = new ListObserver();
  const request = workloadRequest({ inputTokens: 5, outputTokens: OUTPUT_TOKENS });
  const spec = twinSpec({ workers: [twinWorker({ perf })], seed });
  const { traceHash } = runTwin(spec, new ListSource([request]), observer);
  const gaps = observer.gaps.flatMap(([ms, count]) =>
    Array<number>(count).fill(Math.round(1000 * ms) / 1000),
  );
  return { traceHash, gaps, ttftMs: observer.outcomes.get("r")!.ttftMs };
}

describe("steps that vary", () => {
  it("take their price times one of the factors of their kind, each as often", () => {
    const { gaps, ttftMs } = run({ decodes: [0.5, 1, 1, 5.5], prefills: [3] }, 1);
    expect(ttftMs).toBeCloseTo(30);
    expect(new Set(gaps)).toEqual(new Set([3, 6, 33]));
    const shareOf = (ms: number) => gaps.filter((gap) => gap === ms).length / gaps.length;
    expect(shareOf(3)).toBeCloseTo(0.25, 1);
    expect(shareOf(6)).toBeCloseTo(0.5, 1);
    expect(shareOf(33)).toBeCloseTo(0.25, 1);
  });

  it("are the same for the same seed, and others for another one", () => {
    const variation = { decodes: [0.5, 2], prefills: [1] };
    expect(run(variation, 1)).toEqual(run(variation, 1));
    expect(run(variation, 1).traceHash).not.toBe(run(variation, 2).traceHash);
    expect(run(undefined, 1).traceHash).toBe(run(undefined, 2).traceHash);
  });
});
