import type { ModelEntry } from "../entry.ts";
import { denseModel, published } from "./model-notation.ts";

/** Llama and models of its architecture. */
export const LLAMA_MODELS: readonly ModelEntry[] = [
  denseModel("llama-13b", "LLaMA-13B", "2023-02", [40, 5120, 40, 40, 128, 13824, 32000], {
    context: 2048,
    isRecalled: true,
    figures: published(13.0),
    aliases: ["huggyllama/llama-13b"],
    sources: ["sarathi", "memory"],
  }),
  denseModel("llama-33b", "LLaMA-33B", "2023-02", [60, 6656, 52, 52, 128, 17920, 32000], {
    context: 2048,
    isRecalled: true,
    figures: published(32.5),
    aliases: ["huggyllama/llama-30b"],
    sources: ["sarathi", "memory"],
  }),
  denseModel("llama-2-7b", "Llama 2 7B", "2023-07", [32, 4096, 32, 32, 128, 11008, 32000], {
    context: 4096,
    isRecalled: true,
    figures: published(6.74),
    aliases: ["meta-llama/Llama-2-7b-hf", "llama2-7b"],
  }),
  denseModel("llama-2-13b", "Llama 2 13B", "2023-07", [40, 5120, 40, 40, 128, 13824, 32000], {
    context: 4096,
    isRecalled: true,
    figures: published(13.02),
    aliases: ["meta-llama/Llama-2-13b-hf"],
  }),
  denseModel("llama-2-70b", "Llama 2 70B", "2023-07", [80, 8192, 64, 8, 128, 28672, 32000], {
    context: 4096,
    figures: published(68.98),
    aliases: ["meta-llama/Llama-2-70b-hf", "llama2-70b"],
    contradictions: [
      {
        topic: "heads",
        finding: "SplitwiseSim gives it 32 heads and sizes KV from the hidden size, eight times too much",
        sources: ["splitwise-sim", "hf-config"],
      },
    ],
  }),
  denseModel("codellama-34b", "Code Llama 34B", "2023-08", [48, 8192, 64, 8, 128, 22016, 32000], {
    context: 16384,
    isRecalled: true,
    figures: published(33.7),
    aliases: ["codellama/CodeLlama-34b-Instruct-hf", "codellama/CodeLlama-34b-hf"],
  }),
  denseModel("llama-3-8b", "Llama 3 8B", "2024-04", [32, 4096, 32, 8, 128, 14336, 128256], {
    context: 8192,
    isRecalled: true,
    figures: published(8.03),
    aliases: ["meta-llama/Meta-Llama-3-8B", "meta-llama/Meta-Llama-3-8B-Instruct"],
  }),
  denseModel("llama-3-70b", "Llama 3 70B", "2024-04", [80, 8192, 64, 8, 128, 28672, 128256], {
    context: 8192,
    isRecalled: true,
    figures: published(70.6),
    aliases: ["meta-llama/Meta-Llama-3-70B", "meta-llama/Meta-Llama-3-70B-Instruct"],
  }),
  denseModel("llama-3.1-8b", "Llama 3.1 8B", "2024-07", [32, 4096, 32, 8, 128, 14336, 128256], {
    context: 131072,
    figures: published(8.03),
    aliases: [
      "meta-llama/Llama-3.1-8B",
      "meta-llama/Llama-3.1-8B-Instruct",
      "meta-llama/Meta-Llama-3.1-8B",
      "nvidia/Llama-3.1-8B-Instruct-FP8",
    ],
  }),
  denseModel("llama-3.1-70b", "Llama 3.1 and 3.3 70B", "2024-07", [80, 8192, 64, 8, 128, 28672, 128256], {
    context: 131072,
    figures: published(70.6),
    aliases: [
      "meta-llama/Llama-3.1-70B",
      "meta-llama/Llama-3.1-70B-Instruct",
      "meta-llama/Llama-3.3-70B-Instruct",
    ],
  }),
  denseModel("llama-3.1-405b", "Llama 3.1 405B", "2024-07", [126, 16384, 128, 8, 128, 53248, 128256], {
    context: 131072,
    figures: published(405.8),
    aliases: ["meta-llama/Llama-3.1-405B", "meta-llama/Llama-3.1-405B-Instruct"],
  }),
  denseModel("yi-34b", "Yi 34B", "2023-11", [60, 7168, 56, 8, 128, 20480, 64000], {
    context: 4096,
    isRecalled: true,
    figures: published(34.4),
    aliases: ["01-ai/Yi-34B"],
    sources: ["sarathi-serve", "memory"],
  }),
  denseModel("mistral-7b", "Mistral 7B v0.3", "2024-05", [32, 4096, 32, 8, 128, 14336, 32768], {
    context: 32768,
    isRecalled: true,
    figures: published(7.25),
    aliases: ["mistralai/Mistral-7B-v0.3", "mistralai/Mistral-7B-Instruct-v0.3"],
  }),
  denseModel("smollm2-135m", "SmolLM2 135M", "2024-11", [30, 576, 9, 3, 64, 1536, 49152], {
    context: 8192,
    isRecalled: true,
    figures: published(0.1345),
    isTied: true,
    aliases: ["HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M-Instruct"],
  }),
];
