import { describe, expect, it } from "vitest";
import type { ModelShape } from "../../core/perf/model-shape.ts";
import { emptyStepTime } from "../../core/perf/perf-model.ts";
import { StepLoad } from "../../core/perf/step-load.ts";
import { LayerTablePerf } from "./layer-table-perf.ts";
import { AttentionTable, Curve, MoeTable } from "./layer-tables.ts";

const MODEL: ModelShape = {
  name: "tiny",
  numLayers: 4,
  hiddenSize: 64,
  vocabSize: 1000,
  attention: {
    kind: "gqa",
    numHeads: 4,
    numKvHeads: 4,
    headDim: 16,
    numWindowLayers: 0,
    windowTokens: 0,
    numLinearLayers: 0,
  },
  ffn: { kind: "dense", intermediateSize: 128, isGated: true },
  hasTiedEmbeddings: false,
  maxContextTokens: 4096,
};

/** A table on the whole grid whose times are a + b x chunk x (context + chunk) + c x decodes x context. */
function attention(): AttentionTable {
  const times = new Map<string, number>();
  const tokens = [0, 16, 32, 64, 128];
  for (const chunk of tokens)
    for (const context of chunk === 0 ? [0] : tokens)
      for (const decodes of [0, 1, 2, 4])
        for (const kv of decodes === 0 ? [0] : tokens.slice(1))
          if (chunk + decodes > 0 && !(chunk > 0 && decodes === 4))
            times.set([chunk, context, decodes, kv].join(","), 2 + chunk + context / 8 + decodes * kv);
  return new AttentionTable(times);
}

describe("Curve", () => {
  it("draws straight lines between points and goes on beyond the last", () => {
    const curve = new Curve([
      [4, 40],
      [1, 10],
      [2, 30],
    ]);
    expect([0, 1, 1.5, 3, 6].map((x) => curve.at(x))).toEqual([10, 10, 20, 35, 50]);
    expect(new Curve([[7, 3]]).at(100)).toBe(3);
  });
});

describe("AttentionTable", () => {
  it("gives what was measured at nodes and lines between them", () => {
    const table = attention();
    expect(table.us(0, 0, 2, 64)).toBe(2 + 128);
    expect(table.us(32, 64, 0, 0)).toBe(2 + 32 + 8);
    expect(table.us(24, 0, 0, 0)).toBeCloseTo(2 + 24);
    expect(table.us(0, 0, 3, 48)).toBeCloseTo(2 + 3 * 48);
    expect(table.us(0, 0, 0, 0)).toBe(0);
  });

  it("continues a batch that was not measured beside a chunk by its doublings", () => {
    expect(attention().us(32, 0, 4, 32)).toBeCloseTo(2 + 32 + 4 * 32);
  });
});

describe("MoeTable", () => {
  it("reads between numbers of experts with work", () => {
    const table = new MoeTable([
      { tokens: 1, experts: 8, us: 10 },
      { tokens: 3, experts: 8, us: 30 },
      { tokens: 1, experts: 16, us: 20 },
      { tokens: 3, experts: 16, us: 60 },
    ]);
    expect(table.us(2, 12)).toBe(30);
  });
});

describe("LayerTablePerf", () => {
  const tables = {
    dense: new Map([
      ["embedding", new Curve([[1, 5]])],
      ["layernorm", new Curve([[1, 3]])],
      [
        "qkv_proj",
        new Curve([
          [1, 10],
          [101, 110],
        ]),
      ],
      ["something_else", new Curve([[1, 1e9]])],
    ]),
    perSequence: new Map([["lm_head", new Curve([[1, 100]])]]),
    attention: attention(),
    moe: null,
  };
  const perf = (tp: number) =>
    new LayerTablePerf({
      tables,
      model: MODEL,
      tp,
      dp: 1,
      kvCapacityTokens: 1000,
      kvBytesPerToken: 1,
      link: { bytesPerSecond: 1e9, latencyMs: 0.5 },
    });

  it("sums the layers of a step of decodes and a chunk", () => {
    const load = new StepLoad();
    load.addDecode(64);
    load.addDecode(64);
    load.addPrefill(0, 32, true);
    const time = emptyStepTime();
    perf(1).stepTime(load, time);
    const denseUs = 2 * 3 + (10 + 33);
    const attentionUs = 2 + 32 + 128;
    expect(time.deviceMs).toBeCloseTo((4 * (denseUs + attentionUs) + 5 + 100) / 1000);
    expect(time.source).toBe("table");
  });

  it("counts once for all chunks what decodes lose beside them", () => {
    const us = (...chunks: number[]): number => {
      const load = new StepLoad();
      load.addDecode(64);
      for (const tokens of chunks) load.addPrefill(0, tokens, false);
      const time = emptyStepTime();
      perf(1).stepTime(load, time);
      const tokens = 1 + chunks.reduce((sum, count) => sum + count, 0);
      return (time.deviceMs * 1000 - 5 - 100) / 4 - (2 * 3 + 10 + tokens - 1);
    };
    const { attention: table } = tables;
    const beside = table.us(16, 0, 1, 64);
    expect(us(16)).toBeCloseTo(beside, 9);
    expect(us(32, 16, 16)).toBeCloseTo(table.us(32, 0, 1, 64), 9);
    expect(us(32, 32)).toBeCloseTo(2 * table.us(32, 0, 1, 64) - beside, 9);
  });

  it("adds what devices say to each other", () => {
    const load = new StepLoad();
    load.addDecode(64);
    const alone = emptyStepTime();
    const together = emptyStepTime();
    perf(1).stepTime(load, alone);
    perf(2).stepTime(load, together);
    // Two sums of 128 bytes per layer, and half of the logits.
    const expected = 4 * 2 * (0.5 + 128e-6) + 0.5 + 1000e-6;
    expect(together.deviceMs - alone.deviceMs).toBeCloseTo(expected);
  });
});
