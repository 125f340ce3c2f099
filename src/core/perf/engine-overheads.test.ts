import { describe, expect, it } from "vitest";
import { EngineModel, type EngineOverheads } from "./engine-overheads.ts";
import { emptyStepTime, type PerfModel } from "./perf-model.ts";
import { StepLoad } from "./step-load.ts";

const FREE: EngineOverheads = {
  requestMs: 0,
  outputMs: 0,
  stepMs: 0,
  vocabularyMs: 0,
  sequenceMs: 0,
  prefillTokenMs: 0,
  mixedLayerMs: 0,
  contextSkew: 0,
};

/** A millisecond per thousand tokens of context, and nothing else. */
const KERNELS: PerfModel = {
  host: { requestMs: 1, outputMs: 2 },
  kvCapacityTokens: 1000,
  kvBytesPerToken: 8,
  stepTime(load, out) {
    out.deviceMs = load.decodeContextTokens / 1000;
    out.hostMs = 0;
    out.source = "fitted";
    out.isExtrapolated = false;
  },
};

const MODEL = { numLayers: 10, vocabSize: 50_000 };

function load(contexts: readonly number[], prefillTokens = 0): StepLoad {
  const step = new StepLoad();
  for (const context of contexts) step.addDecode(context);
  if (prefillTokens > 0) step.addPrefill(0, prefillTokens, false);
  return step;
}

function price(overheads: Partial<EngineOverheads>, step: StepLoad) {
  const time = emptyStepTime();
  new EngineModel(KERNELS, MODEL, { ...FREE, ...overheads }).stepTime(step, time);
  return time;
}

describe("EngineModel", () => {
  it("adds nothing when there are no overheads", () => {
    expect(price({}, load([1000, 3000]))).toMatchObject({ deviceMs: 4, hostMs: 0, source: "fitted" });
  });

  it("charges steps, sequences, and layers of steps with a prefill chunk to the host", () => {
    const overheads = { stepMs: 1, sequenceMs: 0.5, mixedLayerMs: 0.1 };
    expect(price(overheads, load([1000, 3000])).hostMs).toBeCloseTo(2);
    expect(price(overheads, load([1000, 3000], 64)).hostMs).toBeCloseTo(1 + 3 * 0.5 + 1);
    expect(price({ prefillTokenMs: 0.01 }, load([1000], 64)).hostMs).toBeCloseTo(0.64);
  });

  it("charges the vocabulary only where tokens are drawn", () => {
    expect(price({ vocabularyMs: 0.01 }, load([1000])).deviceMs).toBeCloseTo(1 + 0.5);
    expect(price({ vocabularyMs: 0.01 }, load([], 64)).deviceMs).toBe(0);
  });

  it("lets the longest context hold the others up, and leaves the load as it was", () => {
    const step = load([1000, 3000]);
    expect(price({ contextSkew: 0.5 }, step).deviceMs).toBeCloseTo((4000 + 0.5 * 2000) / 1000);
    expect(step.decodeContextTokens).toBe(4000);
    // Equal contexts have nobody to wait for.
    expect(price({ contextSkew: 1 }, load([2000, 2000])).deviceMs).toBe(4);
  });

  it("adds to the host times of requests", () => {
    const model = new EngineModel(KERNELS, MODEL, { ...FREE, requestMs: 5, outputMs: 6 });
    expect(model.host).toEqual({ requestMs: 6, outputMs: 8 });
    expect(model.kvCapacityTokens).toBe(1000);
  });
});
