import { expect, it } from "vitest";
import { validationModel } from "../../catalog/models-validation.ts";
import { handoffTail, kvBytesPerToken, stateBytesPerSequence, weightBytesPerDevice } from "./model-bytes.ts";

const ONE = { tp: 1, pp: 1, ep: 1, dp: 1 };
const BF16 = { attention: "bf16", ffn: "bf16", kvBytes: 2 } as const;

/** Published totals, in billions of parameters. */
it.each([
  ["meta-llama/Llama-3.1-8B", 8.03],
  ["meta-llama/Llama-3.1-70B", 70.55],
  ["Qwen/Qwen3-32B", 32.76],
  ["Qwen/Qwen3-235B-A22B", 235.1],
  ["deepseek-ai/DeepSeek-R1", 671],
  ["moonshotai/Kimi-K2.5", 1026],
  ["openai/gpt-oss-120b", 116.8],
  ["MiniMaxAI/MiniMax-M2.5", 229],
  ["Qwen/Qwen3.5-397B-A17B", 397],
  ["zhipuai/GLM-5", 744],
])("the weights of %s in BF16 are 2 bytes for each of its %d billion parameters", (path, billions) => {
  const bytes = weightBytesPerDevice(validationModel(path)!, ONE, BF16);
  expect(bytes / 2e9 / billions).toBeGreaterThan(0.985);
  expect(bytes / 2e9 / billions).toBeLessThan(1.015);
});

it("splits weights over tensor-parallel devices, and experts over all devices of a stage", () => {
  const dense = validationModel("meta-llama/Llama-3.1-70B")!;
  const whole = weightBytesPerDevice(dense, ONE, BF16);
  expect(weightBytesPerDevice(dense, { ...ONE, tp: 8 }, BF16) * 8).toBeCloseTo(whole, -3);
  const moe = validationModel("Qwen/Qwen3-235B-A22B")!;
  const shared = weightBytesPerDevice(moe, { tp: 1, pp: 1, ep: 8, dp: 8 }, BF16);
  const split = weightBytesPerDevice(moe, { tp: 8, pp: 1, ep: 8, dp: 1 }, BF16);
  // Attention and embeddings are copied in every attention group.
  expect(shared).toBeGreaterThan(split);
  expect(shared).toBeLessThan(split + 2 * 10e9);
});

it("knows the KV of a token: 36,864 bytes grow in gpt-oss-120b, its windows are a fixed part", () => {
  const model = validationModel("openai/gpt-oss-120b")!;
  expect(kvBytesPerToken(model, BF16)).toBe(36_864);
  expect(stateBytesPerSequence(model, ONE, BF16)).toBe(36_864 * 128);
  expect(handoffTail(model, BF16)).toEqual({
    windowTokens: 128,
    windowBytesPerToken: 36_864,
    stateBytes: 0,
  });
  expect(handoffTail(validationModel("meta-llama/Llama-3.1-70B")!, BF16)).toBeUndefined();
});
