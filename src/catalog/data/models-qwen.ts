import type { ModelEntry } from "../entry.ts";
import { denseModel, gqa, moe, moeModel, published } from "./model-notation.ts";

/** Qwen. */
export const QWEN_MODELS: readonly ModelEntry[] = [
  denseModel("qwen2-7b", "Qwen2 7B", "2024-06", [28, 3584, 28, 4, 128, 18944, 152064], {
    context: 131072,
    isRecalled: true,
    figures: published(7.62),
    aliases: ["Qwen/Qwen-2-7B", "Qwen/Qwen2-7B", "Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct"],
  }),
  denseModel("qwen3-8b", "Qwen3 8B", "2025-04", [36, 4096, 32, 8, 128, 12288, 151936], {
    context: 40960,
    figures: published(8.19),
    aliases: ["Qwen/Qwen3-8B"],
  }),
  denseModel("qwen3-14b", "Qwen3 14B", "2025-04", [40, 5120, 40, 8, 128, 17408, 151936], {
    context: 40960,
    isRecalled: true,
    figures: published(14.8),
    aliases: ["Qwen/Qwen3-14B"],
  }),
  denseModel("qwen3-32b", "Qwen3 32B", "2025-04", [64, 5120, 64, 8, 128, 25600, 151936], {
    context: 40960,
    figures: published(32.8),
    aliases: ["Qwen/Qwen3-32B", "nvidia/Qwen3-32B-NVFP4", "Qwen/Qwen3-32B-FP8"],
  }),
  moeModel("qwen3-30b-a3b", "Qwen3 30B-A3B", "2025-04", [48, 2048, 151936], {
    attention: gqa(32, 4, 128),
    ffn: moe(128, 8, 768),
    context: 262144,
    isRecalled: true,
    figures: published(30.5, 3.3),
    aliases: ["Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B-Instruct-2507"],
  }),
  moeModel("qwen3-235b-a22b", "Qwen3 235B-A22B", "2025-04", [94, 4096, 151936], {
    attention: gqa(64, 4, 128),
    ffn: moe(128, 8, 1536),
    context: 40960,
    figures: published(235, 22),
    aliases: ["Qwen/Qwen3-235B-A22B", "Qwen/Qwen3-235B-A22B-FP8"],
  }),
  moeModel("qwen3.5-397b-a17b", "Qwen3.5 397B-A17B", "2026-02", [60, 4096, 248320], {
    attention: {
      ...gqa(32, 2, 256),
      numLinearLayers: 45,
      linear: { numKeyHeads: 16, numValueHeads: 64, keyHeadDim: 128, valueHeadDim: 128 },
    },
    ffn: moe(512, 10, 1024, { shared: 1 }),
    context: 262144,
    figures: published(397, 17),
    aliases: ["Qwen/Qwen3.5-397B-A17B", "Qwen/Qwen3.5-397B-A17B-FP8"],
    sources: ["aic-models"],
    notes: ["The output gate of the full-attention layers is not in the shape.", "Text part only."],
  }),
];
