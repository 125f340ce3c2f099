import type { ServingFit } from "./host-overheads.ts";

/** Written by `tools/perf/fit-serving.ts`. */
export const VLLM_FIT: ServingFit = {
  measuredWith: "vLLM 0.15.1",
  terms: {
    requestMs: {
      value: 5.651,
      error: 0.8206,
    },
    stepMs: {
      value: 0.1408,
      error: 0.04182,
    },
    sequenceMs: {
      value: 0.002367,
      error: 0.0006974,
    },
    vocabularyMs: {
      value: 0.004312,
      error: 0.0007378,
    },
    mixedLayerMs: {
      value: 0.02681,
      error: 0.006302,
    },
    contextSkew: {
      value: 0.2786,
      error: 0.139,
    },
    collectiveFactor: {
      value: 1.035,
      error: 0.1261,
    },
    offloadRequestMs: {
      value: 2.144,
      error: 1.268,
    },
    warmUpMoeMs: {
      value: 3765,
      error: 656.5,
    },
  },
  hostFactors: {
    "a100-80g-sxm": {
      value: 1.538,
      error: 0.4377,
    },
    l40s: {
      value: 2.411,
      error: 1.207,
    },
  },
  recountedTokens: {
    "codellama-34b": {
      value: 1.01,
      error: 0.0007293,
    },
    "llama-2-70b": {
      value: 0.9936,
      error: 0.002457,
    },
    "llama-2-7b": {
      value: 0.8223,
      error: 0,
    },
    "llama-3.1-8b": {
      value: 0.9587,
      error: 0.0007435,
    },
    "mixtral-8x22b": {
      value: 0.9939,
      error: 0.009305,
    },
    "mixtral-8x7b": {
      value: 0.9874,
      error: 0.001602,
    },
    "qwen3-14b": {
      value: 0.9955,
      error: 0.0003876,
    },
  },
  fittedOn: [
    "2 codellama/CodeLlama-34b-Instruct-hf H100 tp2 codegen FP16 0.9 2048 offload",
    "20260218-150956-codellama-34b-tp2-codegen",
    "14 Qwen/Qwen3-14B H100 tp1 codegen FP16 0.9 2048",
    "16 meta-llama/Llama-3.1-8B-Instruct H100 tp1 general FP16 0.9 2048",
    "22 meta-llama/Llama-3.1-8B-Instruct H100 tp1 general FP16 0.9 1024",
    "25 meta-llama/Llama-3.1-8B-Instruct H100 tp1 general FP16 0.95 2048",
    "27 mistralai/Mixtral-8x7B-v0.1 H100 tp2 general-lite FP16 0.9 1024",
    "29 mistralai/Mixtral-8x7B-v0.1 H100 tp2 general FP16 0.9 2048 offload",
    "40 codellama/CodeLlama-34b-Instruct-hf A100-80GB tp2 general-lite FP16 0.9 2048",
    "49 mistralai/Mixtral-8x22B-Instruct-v0.1 H100 tp8 general FP16 0.9 2048",
    "53 mistralai/Mixtral-8x22B-v0.1 H100 tp8 reasoning-lite FP16 0.9 2048",
    "54 Qwen/Qwen3-14B L40S tp1 general-lite FP16 0.9 2048",
    "56 mistralai/Mixtral-8x7B-v0.1 H100 tp2 general FP16 0.9 2048",
    "58 meta-llama/Llama-2-70b-hf H100 tp4 general-lite FP16 0.9 2048",
    "20260217-162547-llama-2-7b-tp1-roleplay",
    "20260217-202857-llama-2-70b-tp4-general",
    "20260218-150304-codellama-34b-tp2-general",
  ],
};
