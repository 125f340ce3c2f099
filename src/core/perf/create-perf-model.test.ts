import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createPerfModel, type PerfModelOptions } from "./create-perf-model.ts";
import type { DeviceSpec } from "./device-spec.ts";
import { EngineModel } from "./engine-overheads.ts";
import type { ModelShape } from "./model-shape.ts";
import { KernelTable } from "./operators/kernel-table.ts";
import { emptyStepTime, type PerfModel, priceRow } from "./perf-model.ts";
import { StepLoad } from "./step-load.ts";
import { NO_HOST_COSTS, type StepPricer } from "./step-pricer.ts";

const H100: DeviceSpec = {
  id: "h100-sxm",
  denseFlops: { bf16: 989e12, fp8: 1979e12 },
  memoryBytes: 80e9,
  memoryBytesPerSecond: 3.35e12,
  scaleUp: { bytesPerSecond: 450e9, latencyMs: 0.002 },
  scaleUpDevices: 8,
  scaleOut: { bytesPerSecond: 50e9, latencyMs: 0.01 },
  host: { bytesPerSecond: 64e9, latencyMs: 0.01 },
  attentionAcceleration: null,
};

const LLAMA_8B: ModelShape = {
  name: "llama-3.1-8b",
  numLayers: 32,
  hiddenSize: 4096,
  vocabSize: 128256,
  attention: {
    kind: "gqa",
    numHeads: 32,
    numKvHeads: 8,
    headDim: 128,
    numWindowLayers: 0,
    windowTokens: 0,
    numLinearLayers: 0,
  },
  ffn: { kind: "dense", intermediateSize: 14336, isGated: true },
  hasTiedEmbeddings: false,
  maxContextTokens: 131072,
};

const DEEPSEEK_V3: ModelShape = {
  name: "deepseek-v3",
  numLayers: 61,
  hiddenSize: 7168,
  vocabSize: 129280,
  attention: {
    kind: "mla",
    numHeads: 128,
    kvLoraRank: 512,
    ropeHeadDim: 64,
    nopeHeadDim: 128,
    vHeadDim: 128,
    qLoraRank: 1536,
  },
  ffn: {
    kind: "moe",
    numExperts: 256,
    expertsPerToken: 8,
    expertIntermediateSize: 2048,
    numSharedExperts: 1,
    sharedIntermediateSize: 2048,
    numDenseLayers: 3,
    denseIntermediateSize: 18432,
  },
  hasTiedEmbeddings: false,
  maxContextTokens: 163840,
};

const H200: DeviceSpec = { ...H100, id: "h200-sxm", memoryBytes: 141e9, memoryBytesPerSecond: 4.8e12 };

const LLAMA_ON_H100: PerfModelOptions = {
  device: H100,
  model: LLAMA_8B,
  parallelism: { tp: 1, pp: 1, ep: 1, dp: 1 },
  weightPrecision: "bf16",
  kvPrecision: "bf16",
  tokenBudget: 8192,
  memoryUtilisation: 0.9,
  host: NO_HOST_COSTS,
};

const DEEPSEEK_ON_H200: PerfModelOptions = {
  ...LLAMA_ON_H100,
  device: H200,
  model: DEEPSEEK_V3,
  parallelism: { tp: 8, pp: 1, ep: 8, dp: 1 },
  weightPrecision: "fp8",
  hasBlockScales: true,
};

function modelOf(options: PerfModelOptions): PerfModel {
  const { model, problem } = createPerfModel(options);
  if (model === null) throw new Error(problem.message);
  return model;
}

function priceOf(model: PerfModel, fill: (load: StepLoad) => void): number {
  const load = new StepLoad();
  fill(load);
  const time = emptyStepTime();
  model.stepTime(load, time);
  return time.deviceMs + time.hostMs;
}

const MODELS = [modelOf(LLAMA_ON_H100), modelOf(DEEPSEEK_ON_H200)];

describe("a step's price", () => {
  it("grows with the number of decodes, with their context, and with prefill tokens and their context", () => {
    const arbitrary = fc.record({
      model: fc.constantFrom(...MODELS),
      decodes: fc.integer({ min: 0, max: 200 }),
      context: fc.integer({ min: 1, max: 20_000 }),
      chunk: fc.integer({ min: 1, max: 4096 }),
      before: fc.integer({ min: 0, max: 20_000 }),
      more: fc.integer({ min: 1, max: 500 }),
    });
    fc.assert(
      fc.property(arbitrary, ({ model, decodes, context, chunk, before, more }) => {
        const price = (n: number, ctx: number, tokens: number, cached: number): number =>
          priceOf(model, (load) => {
            for (let i = 0; i < n; i++) load.addDecode(ctx);
            load.addPrefill(cached, tokens, false);
          });
        const base = price(decodes, context, chunk, before);
        // Rounding of sums is the only way down.
        const floor = base * (1 - 1e-12);
        expect(price(decodes + 1, context, chunk, before)).toBeGreaterThanOrEqual(floor);
        expect(price(decodes, context + more, chunk, before)).toBeGreaterThanOrEqual(floor);
        expect(price(decodes, context, chunk + more, before)).toBeGreaterThanOrEqual(floor);
        expect(price(decodes, context, chunk, before + more)).toBeGreaterThanOrEqual(floor);
      }),
    );
  });

  it("is the same for the same load, and for a plan that goes on and one that is priced anew", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 40 }),
        fc.integer({ min: 1, max: 30 }),
        (contexts, steps) => {
          const going = new StepLoad();
          for (const context of contexts) going.addDecode(context);
          const time = emptyStepTime();
          for (let step = 0; step < steps; step++) {
            MODELS[0]!.stepTime(going, time);
            const anew = priceOf(MODELS[0]!, (load) => {
              for (const context of contexts) load.addDecode(context + step);
            });
            expect(time.deviceMs).toBe(anew);
            going.advanceDecodes(1);
          }
        },
      ),
    );
  });

  it("of a row of decode steps is that of each of its steps, to the last bit", () => {
    const overheads = { requestMs: 0, outputMs: 0, stepMs: 0.3, vocabularyMs: 0.001, sequenceMs: 0.01 };
    const engine = { ...overheads, prefillTokenMs: 0.1, mixedLayerMs: 0.1, contextSkew: 0.3 };
    const stepwise: PerfModel = {
      host: MODELS[0]!.host,
      kvCapacityTokens: 1,
      kvBytesPerToken: 1,
      stepTime: (load, out) => MODELS[0]!.stepTime(load, out),
    };
    const kernels = [...MODELS, stepwise];
    const models = [...kernels, ...kernels.map((model) => new EngineModel(model, LLAMA_8B, engine))];
    fc.assert(
      fc.property(
        fc.constantFrom(...models),
        fc.array(fc.integer({ min: 1, max: 200_000 }), { minLength: 1, maxLength: 40 }),
        fc.integer({ min: 1, max: 40 }),
        (model, contexts, numSteps) => {
          const load = new StepLoad();
          for (const context of contexts) load.addDecode(context);
          const before = { ...load };
          const [row, single] = [emptyStepTime(), emptyStepTime()];
          const deviceMs = new Float64Array(numSteps);
          priceRow(model, load, { numSteps, addedContextTokens: 0, deviceMs }, row);
          expect({ ...load }).toEqual(before);
          for (const ms of deviceMs) {
            model.stepTime(load, single);
            expect(ms).toBe(single.deviceMs);
            expect(row.hostMs).toBe(single.hostMs);
            load.advanceDecodes(1);
          }
          expect(row).toMatchObject({ source: single.source, isExtrapolated: single.isExtrapolated });
        },
      ),
    );
  });

  it("of single-token decodes is near the time to read weights and KV", () => {
    const ms = priceOf(MODELS[0]!, (load) => load.addDecode(1000));
    const weightMs = (16.06e9 / 3.35e12) * 1e3;
    expect(ms).toBeGreaterThan(weightMs * 0.95);
    expect(ms).toBeLessThan(weightMs * 2.2);
  });

  it("falls with memory bandwidth for decodes of a device that only has a roofline", () => {
    const slow = modelOf({ ...LLAMA_ON_H100, device: { ...H100, id: "unlisted" } });
    const device = { ...H100, id: "unlisted", memoryBytesPerSecond: 2 * H100.memoryBytesPerSecond };
    const fast = modelOf({ ...LLAMA_ON_H100, device });
    const load = (to: StepLoad): void => to.addDecode(30_000);
    expect(priceOf(fast, load)).toBeLessThan(0.75 * priceOf(slow, load));
    expect(priceOf(fast, load)).toBeGreaterThan(0.5 * priceOf(slow, load));
  });

  it("falls with tensor parallelism, by no more than the number of devices", () => {
    const load = (to: StepLoad): void => to.addPrefill(0, 4096, true);
    const one = priceOf(MODELS[0]!, load);
    for (const tp of [2, 4, 8]) {
      const split = priceOf(modelOf({ ...LLAMA_ON_H100, parallelism: { tp, pp: 1, ep: 1, dp: 1 } }), load);
      expect(split).toBeLessThan(one);
      expect(split).toBeGreaterThan((one / tp) * 0.8);
    }
  });

  it("says where it comes from and when it leaves the range", () => {
    const time = emptyStepTime();
    const load = new StepLoad();
    for (let i = 0; i < 30; i++) load.addDecode(1000);
    load.addPrefill(500, 700, true);
    MODELS[0]!.stepTime(load, time);
    expect(time).toMatchObject({ source: "fitted", isExtrapolated: false });
    modelOf({ ...LLAMA_ON_H100, device: { ...H100, id: "unlisted" } }).stepTime(load, time);
    expect(time.source).toBe("roofline");
    load.clear();
    load.addDecode(400_000);
    MODELS[0]!.stepTime(load, time);
    expect(time.isExtrapolated).toBe(true);
  });

  it("is the sum of its operators, and comes from a table where there is one", () => {
    const load = new StepLoad();
    for (let i = 0; i < 16; i++) load.addDecode(1024);
    const time = emptyStepTime();
    MODELS[0]!.stepTime(load, time);
    // Powers of two are nodes of the curves, where nothing is interpolated.
    const parts = (MODELS[0] as StepPricer).breakdown(load);
    const sum = [...parts.values()].reduce((total, ms) => total + ms, 0);
    expect(Math.abs(time.deviceMs / sum - 1)).toBeLessThan(0.02);
    expect(parts.get("ffn-gemm")).toBeGreaterThan(parts.get("decode-attention")!);

    const twice = new KernelTable([[0, 0, 0, 0]], [1]);
    const rates = { denseFlops: H100.denseFlops, memoryBytesPerSecond: 3.35e12, scaleUp: H100.scaleUp };
    const keys = ["gemm/bf16", "decode-attention/bf16", "prefill-attention/bf16"];
    const tables = { rates, efficiencies: new Map(keys.map((key) => [key, twice])) };
    modelOf({ ...LLAMA_ON_H100, tables }).stepTime(load, time);
    expect(time.source).toBe("table");
    expect(time.deviceMs).toBeGreaterThan(1.5 * sum);
  });

  it("adds what an engine's calibration says, and host time apart", () => {
    const load = new StepLoad();
    for (let i = 0; i < 8; i++) load.addDecode(500);
    const plain = emptyStepTime();
    MODELS[0]!.stepTime(load, plain);
    const calibration = { factors: {}, stepMs: 1, layerMs: 0.1, sequenceMs: 0.5 };
    const host = { requestMs: 9, outputMs: 1, stepMs: 2, sequenceMs: 0.25, prefillTokenMs: 0 };
    const model = modelOf({ ...LLAMA_ON_H100, calibration, host });
    const time = emptyStepTime();
    model.stepTime(load, time);
    expect(time.deviceMs - plain.deviceMs).toBeCloseTo(1 + 3.2 + 4, 6);
    expect(time.hostMs).toBe(4);
    expect(model.host).toEqual({ requestMs: 9, outputMs: 1 });
  });

  it("falls when attention groups share the sequences", () => {
    const grouped = { ...DEEPSEEK_ON_H200, parallelism: { tp: 1, pp: 1, ep: 8, dp: 8 } };
    const load = (to: StepLoad): void => {
      for (let i = 0; i < 256; i++) to.addDecode(8000);
    };
    expect(priceOf(modelOf(grouped), load)).toBeLessThan(priceOf(MODELS[1]!, load));
    // Each group keeps the latent vectors of its own sequences alone.
    expect(modelOf(grouped).kvCapacityTokens).toBeGreaterThan(3 * MODELS[1]!.kvCapacityTokens);
  });
});

describe("KV capacity", () => {
  it("is whole blocks and never more than memory holds", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 2, 4, 8),
        fc.double({ min: 0.3, max: 1, noNaN: true }),
        fc.constantFrom(8, 16, 64),
        (tp, memoryUtilisation, blockTokens) => {
          const parallelism = { tp, pp: 1, ep: 1, dp: 1 };
          const { model } = createPerfModel({
            ...LLAMA_ON_H100,
            parallelism,
            memoryUtilisation,
            blockTokens,
          });
          expect(model).not.toBeNull();
          expect(model!.kvCapacityTokens % blockTokens).toBe(0);
          const kv = model!.kvCapacityTokens * model!.kvBytesPerToken;
          expect(kv + 16.06e9).toBeLessThan(tp * H100.memoryBytes * memoryUtilisation);
        },
      ),
    );
  });

  it("agrees with what vLLM logs for Llama-3.1-8B on an 80 GB device, within a tenth", () => {
    // 131,072 bytes per token; 0.9 x 80 GiB less weights and about 2 GB of activations and graphs.
    expect(MODELS[0]!.kvBytesPerToken).toBe(131_072);
    expect(MODELS[0]!.kvCapacityTokens).toBeGreaterThan(370_000);
    expect(MODELS[0]!.kvCapacityTokens).toBeLessThan(450_000);
  });

  it("is the full latent per tensor-parallel device", () => {
    expect(MODELS[1]!.kvBytesPerToken).toBe(70_272);
  });

  it("refuses a model that does not fit, with the sizes", () => {
    const { model, problem } = createPerfModel({ ...DEEPSEEK_ON_H200, device: H100 });
    expect(model).toBeNull();
    expect(problem?.code).toBe("memory");
    expect(problem?.message).toMatch(/deepseek-v3 does not fit on h100-sxm.*GB of weights/);
  });
});

describe("an impossible deployment", () => {
  it.each([
    [{ tp: 3, pp: 1, ep: 1, dp: 1 }, /tp 3 does not divide its 32 attention heads/],
    [{ tp: 1, pp: 64, ep: 1, dp: 1 }, /pp 64 is more than its 32 layers/],
    [{ tp: 1, pp: 1, ep: 2, dp: 1 }, /no experts/],
    [{ tp: 0, pp: 1, ep: 1, dp: 1 }, /tp is 0/],
  ])("%j is refused", (parallelism, message) => {
    const { problem } = createPerfModel({ ...LLAMA_ON_H100, parallelism });
    expect(problem?.code).toBe("parallelism");
    expect(problem?.message).toMatch(message);
  });

  it("in FP4 on a device without it is refused", () => {
    expect(createPerfModel({ ...LLAMA_ON_H100, weightPrecision: "fp4" }).problem?.code).toBe("precision");
    const widened = createPerfModel({
      ...LLAMA_ON_H100,
      weightPrecision: "fp8",
      activationPrecision: "bf16",
    });
    expect(widened.problem?.message).toContain("allowed are fp8");
  });
});

describe("pipelines, attention in FP8, and softmax", () => {
  const build = (options: Partial<PerfModelOptions>): PerfModel => {
    const { model, problem } = createPerfModel({ ...LLAMA_ON_H100, ...options });
    if (model === null) throw new Error(problem.message);
    return model;
  };
  const deviceMs = (model: PerfModel, fill: (load: StepLoad) => void): number => {
    const load = new StepLoad();
    fill(load);
    const time = emptyStepTime();
    model.stepTime(load, time);
    return time.deviceMs;
  };

  it("makes a full pipeline of p stages about p times as fast at long chunks, and a single decode no faster", () => {
    const one = build({});
    const prompt = (load: StepLoad): void => load.addPrefill(0, 8192, true);
    const decode = (load: StepLoad): void => load.addDecode(4096);
    for (const pp of [2, 4, 8]) {
      const staged = build({ parallelism: { tp: 1, pp, ep: 1, dp: 1 } });
      const share = deviceMs(staged, prompt) / deviceMs(one, prompt);
      expect(share).toBeGreaterThan(0.95 / pp);
      expect(share).toBeLessThan(1.6 / pp);
      const ratio = deviceMs(staged, decode) / deviceMs(one, decode);
      expect(ratio).toBeGreaterThan(0.99);
      expect(ratio).toBeLessThan(1.1);
    }
  });

  it("halves no more than attention when attention multiplies in FP8, and says that this is not measured", () => {
    const bf16 = build({ parallelism: { tp: 1, pp: 1, ep: 1, dp: 1 } });
    const fp8 = build({ attentionMath: "fp8" });
    const long = (load: StepLoad): void => load.addPrefill(122_880, 8192, true);
    const ratio = deviceMs(fp8, long) / deviceMs(bf16, long);
    expect(ratio).toBeGreaterThan(0.5);
    expect(ratio).toBeLessThan(0.7);
    const time = emptyStepTime();
    const load = new StepLoad();
    long(load);
    fp8.stepTime(load, time);
    expect(time.source).toBe("roofline");
  });

  it("refuses attention in FP8 on a part without FP8", () => {
    const device = { ...H100, denseFlops: { bf16: 312e12 } };
    const { problem } = createPerfModel({ ...LLAMA_ON_H100, device, attentionMath: "fp8" });
    expect(problem?.message).toMatch(/no known fp8 rate, which attention in fp8 needs/);
  });

  it("takes the measured part's softmax as it is, and a part's own where it is not measured", () => {
    const gb200: DeviceSpec = {
      ...H100,
      id: "gb200",
      denseFlops: { bf16: 2.5e15, fp8: 5e15, fp4: 10e15 },
      memoryBytes: 186e9,
      memoryBytesPerSecond: 8e12,
      scaleUp: { bytesPerSecond: 900e9, latencyMs: 0.01 },
    };
    const gb300 = { ...gb200, id: "gb300", denseFlops: { ...gb200.denseFlops, fp4: 15e15 } };
    const long = (load: StepLoad): void => load.addPrefill(122_880, 8192, true);
    const at = (device: DeviceSpec, attentionAcceleration: number | null): number =>
      deviceMs(build({ device: { ...device, attentionAcceleration } }), long);
    expect(at(gb200, 0.5)).toBeCloseTo(at(gb200, null), 9);
    expect(at(gb300, 1)).toBeLessThan(at(gb300, 0.5));
    expect(at(gb300, 0.25)).toBeGreaterThan(at(gb300, 0.5));
    // Twice the exponents free what the matrix products waited for: at most a third here.
    expect(at(gb300, 1)).toBeGreaterThan(at(gb300, 0.5) / 1.35);
  });
});
