import type { ModelEntry } from "../entry.ts";
import { gqa, mla, moe, moeModel, published } from "./model-notation.ts";

const DEEPSEEK_FFN = { shared: 1, denseLayers: 3, denseSize: 18432 } as const;
const KIMI_FFN = moe(384, 8, 2048, { shared: 1, denseLayers: 1, denseSize: 18432 });

/** Mixtures of experts of other makers. */
export const MOE_MODELS: readonly ModelEntry[] = [
  moeModel("mixtral-8x7b", "Mixtral 8x7B", "2023-12", [32, 4096, 32000], {
    attention: gqa(32, 8, 128),
    ffn: moe(8, 2, 14336),
    context: 32768,
    figures: published(46.7, 12.9),
    aliases: ["mistralai/Mixtral-8x7B-v0.1", "mistralai/Mixtral-8x7B-Instruct-v0.1"],
  }),
  moeModel("mixtral-8x22b", "Mixtral 8x22B", "2024-04", [56, 6144, 32768], {
    attention: gqa(48, 8, 128),
    ffn: moe(8, 2, 16384),
    context: 65536,
    isRecalled: true,
    figures: published(140.6, 39),
    aliases: ["mistralai/Mixtral-8x22B-v0.1", "mistralai/Mixtral-8x22B-Instruct-v0.1"],
  }),
  moeModel("llama-4-scout", "Llama 4 Scout", "2025-04", [48, 5120, 202048], {
    attention: gqa(40, 8, 128),
    ffn: moe(16, 1, 8192, { shared: 1 }),
    context: 1048576,
    isRecalled: true,
    figures: published(108, 17),
    aliases: [
      "meta-llama/Llama-4-Scout-17B-16E",
      "meta-llama/Llama-4-Scout-17B-16E-Instruct",
      "RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic",
    ],
    notes: ["Text part only. Three of four layers attend to chunks of 8,192 tokens; the shape reads all."],
  }),
  moeModel("deepseek-v3", "DeepSeek V3 and R1", "2024-12", [61, 7168, 129280], {
    attention: mla(128, 1536),
    ffn: moe(256, 8, 2048, DEEPSEEK_FFN),
    context: 163840,
    figures: published(671, 37),
    aliases: [
      "deepseek-v3-r1",
      "deepseek-r1",
      "deepseek-ai/DeepSeek-V3",
      "deepseek-ai/DeepSeek-R1",
      "nvidia/DeepSeek-R1-NVFP4",
      "deepseek-ai/DeepSeek-V3.1",
      "nvidia/DeepSeek-V3.1-NVFP4",
    ],
    notes: ["KV is the 576-wide latent per layer; every rank of tensor parallelism keeps a whole copy."],
  }),
  moeModel("kimi-k2", "Kimi K2", "2025-07", [61, 7168, 163840], {
    attention: mla(64, 1536),
    ffn: KIMI_FFN,
    context: 131072,
    figures: published(1026, 32),
    aliases: ["moonshotai/Kimi-K2-Instruct"],
    sources: ["aic-models"],
    notes: ["Marketed as 1T with 32B active."],
  }),
  moeModel("kimi-k2.5", "Kimi K2.5", "2026-01", [61, 7168, 163840], {
    attention: mla(64, 1536),
    ffn: KIMI_FFN,
    context: 262144,
    figures: published(1026, 32),
    aliases: ["moonshotai/Kimi-K2.5", "nvidia/Kimi-K2.5-NVFP4", "moonshotai/Kimi-K2-Thinking"],
    sources: ["aic-models"],
    notes: ["Text part only."],
  }),
  moeModel("gpt-oss-120b", "GPT-OSS 120B", "2025-08", [36, 2880, 201088], {
    attention: { ...gqa(64, 8, 64), numWindowLayers: 18, windowTokens: 128 },
    ffn: moe(128, 4, 2880),
    context: 131072,
    figures: published(116.8, 5.13),
    aliases: ["openai/gpt-oss-120b"],
    notes: ["Experts are published in MXFP4."],
  }),
  moeModel("minimax-m2.5", "MiniMax M2.5", "2026-02", [62, 3072, 200064], {
    attention: gqa(48, 8, 128),
    ffn: moe(256, 8, 1536),
    context: 196608,
    isRecalled: true,
    figures: published(230, 10),
    aliases: ["MiniMaxAI/MiniMax-M2.5", "MiniMaxAI/MiniMax-M2"],
  }),
  moeModel("glm-5", "GLM-5", "2026-02", [78, 6144, 154880], {
    attention: { ...mla(64, 2048), nopeHeadDim: 192, vHeadDim: 256, topKTokens: 2048 },
    ffn: moe(256, 8, 2048, { shared: 1, denseLayers: 3, denseSize: 12288 }),
    context: 202752,
    figures: published(744, 40),
    aliases: ["zai-org/GLM-5", "zai-org/GLM-5-FP8", "zhipuai/GLM-5"],
    sources: ["aic-models"],
    notes: ["Attends to 2,048 positions that an index chooses; the index itself is not in the shape."],
  }),
];
