import type { AttentionShape, ModelShape, MoeFfnShape } from "../core/perf/model-shape.ts";

/**
 * Shapes of models that public measurements name by their Hugging Face repository, from their `config.json` files. What a
 * measurement says of precision is not part of a shape: quantised repositories have the shape of the original.
 */

type GqaShape = Extract<AttentionShape, { kind: "gqa" }>;

function gqa(numHeads: number, numKvHeads: number, headDim: number, rest: Partial<GqaShape> = {}): GqaShape {
  return {
    kind: "gqa",
    numHeads,
    numKvHeads,
    headDim,
    numWindowLayers: 0,
    windowTokens: 0,
    numLinearLayers: 0,
    ...rest,
  };
}

/** The latent attention of DeepSeek-V3 and of Kimi-K2, which has half of the heads. */
function deepSeekMla(numHeads: number): AttentionShape {
  return {
    kind: "mla",
    numHeads,
    kvLoraRank: 512,
    ropeHeadDim: 64,
    nopeHeadDim: 128,
    vHeadDim: 128,
    qLoraRank: 1536,
  };
}

function moe(
  numExperts: number,
  expertsPerToken: number,
  expertIntermediateSize: number,
  rest: Partial<MoeFfnShape> = {},
): MoeFfnShape {
  return {
    kind: "moe",
    numExperts,
    expertsPerToken,
    expertIntermediateSize,
    numSharedExperts: 0,
    sharedIntermediateSize: 0,
    numDenseLayers: 0,
    denseIntermediateSize: 0,
    ...rest,
  };
}

const LLAMA_3_1_8B: ModelShape = {
  name: "Llama-3.1-8B",
  numLayers: 32,
  hiddenSize: 4096,
  vocabSize: 128256,
  attention: gqa(32, 8, 128),
  ffn: { kind: "dense", intermediateSize: 14336, isGated: true },
  hasTiedEmbeddings: false,
  maxContextTokens: 131072,
};

const LLAMA_3_1_70B: ModelShape = {
  ...LLAMA_3_1_8B,
  name: "Llama-3.1-70B",
  numLayers: 80,
  hiddenSize: 8192,
  attention: gqa(64, 8, 128),
  ffn: { kind: "dense", intermediateSize: 28672, isGated: true },
};

const QWEN3_32B: ModelShape = {
  name: "Qwen3-32B",
  numLayers: 64,
  hiddenSize: 5120,
  vocabSize: 151936,
  attention: gqa(64, 8, 128),
  ffn: { kind: "dense", intermediateSize: 25600, isGated: true },
  hasTiedEmbeddings: false,
  maxContextTokens: 131072,
};

const QWEN3_235B: ModelShape = {
  ...QWEN3_32B,
  name: "Qwen3-235B-A22B",
  numLayers: 94,
  hiddenSize: 4096,
  attention: gqa(64, 4, 128),
  ffn: moe(128, 8, 1536),
};

const QWEN3_30B: ModelShape = {
  ...QWEN3_32B,
  name: "Qwen3-30B-A3B",
  numLayers: 48,
  hiddenSize: 2048,
  attention: gqa(32, 4, 128),
  ffn: moe(128, 8, 768),
};

/** Every fourth layer attends to all positions, the others are gated delta nets. */
const QWEN3_5_397B: ModelShape = {
  name: "Qwen3.5-397B-A17B",
  numLayers: 60,
  hiddenSize: 4096,
  vocabSize: 248320,
  attention: gqa(32, 2, 256, {
    numLinearLayers: 45,
    linear: { numKeyHeads: 16, numValueHeads: 64, keyHeadDim: 128, valueHeadDim: 128 },
  }),
  ffn: moe(512, 10, 1024, { numSharedExperts: 1, sharedIntermediateSize: 1024 }),
  hasTiedEmbeddings: false,
  maxContextTokens: 262144,
};

const MINIMAX_M2: ModelShape = {
  name: "MiniMax-M2",
  numLayers: 62,
  hiddenSize: 3072,
  vocabSize: 200064,
  attention: gqa(48, 8, 128),
  ffn: moe(256, 8, 1536),
  hasTiedEmbeddings: false,
  maxContextTokens: 196608,
};

const GPT_OSS_120B: ModelShape = {
  name: "gpt-oss-120b",
  numLayers: 36,
  hiddenSize: 2880,
  vocabSize: 201088,
  attention: gqa(64, 8, 64, { numWindowLayers: 18, windowTokens: 128 }),
  ffn: moe(128, 4, 2880),
  hasTiedEmbeddings: false,
  maxContextTokens: 131072,
};

const GPT_OSS_20B: ModelShape = {
  ...GPT_OSS_120B,
  name: "gpt-oss-20b",
  numLayers: 24,
  attention: gqa(64, 8, 64, { numWindowLayers: 12, windowTokens: 128 }),
  ffn: moe(32, 4, 2880),
};

const DEEPSEEK_V3: ModelShape = {
  name: "DeepSeek-V3",
  numLayers: 61,
  hiddenSize: 7168,
  vocabSize: 129280,
  attention: deepSeekMla(128),
  ffn: moe(256, 8, 2048, {
    numSharedExperts: 1,
    sharedIntermediateSize: 2048,
    numDenseLayers: 3,
    denseIntermediateSize: 18432,
  }),
  hasTiedEmbeddings: false,
  maxContextTokens: 163840,
};

const KIMI_K2: ModelShape = {
  ...DEEPSEEK_V3,
  name: "Kimi-K2",
  vocabSize: 163840,
  attention: deepSeekMla(64),
  ffn: moe(384, 8, 2048, {
    numSharedExperts: 1,
    sharedIntermediateSize: 2048,
    numDenseLayers: 1,
    denseIntermediateSize: 18432,
  }),
  maxContextTokens: 262144,
};

const GLM_5: ModelShape = {
  name: "GLM-5",
  numLayers: 78,
  hiddenSize: 6144,
  vocabSize: 154880,
  attention: {
    kind: "mla",
    numHeads: 64,
    kvLoraRank: 512,
    ropeHeadDim: 64,
    nopeHeadDim: 192,
    vHeadDim: 256,
    qLoraRank: 2048,
    topKTokens: 2048,
  },
  ffn: moe(256, 8, 2048, {
    numSharedExperts: 1,
    sharedIntermediateSize: 2048,
    numDenseLayers: 3,
    denseIntermediateSize: 12288,
  }),
  hasTiedEmbeddings: false,
  maxContextTokens: 202752,
};

/** Matched in order against the repository's name without its owner; quantisation suffixes are ignored. */
const SHAPES: ReadonlyArray<readonly [RegExp, ModelShape]> = [
  [/^(meta-)?llama-?3\.[13]-8b/, LLAMA_3_1_8B],
  [/^(meta-)?llama-?3\.[13]-70b/, LLAMA_3_1_70B],
  [/^qwen3-32b/, QWEN3_32B],
  [/^qwen3-235b-a22b/, QWEN3_235B],
  [/^qwen3-30b-a3b/, QWEN3_30B],
  [/^qwen3\.5-397b-a17b/, QWEN3_5_397B],
  [/^minimax-m2(\.\d+)?/, MINIMAX_M2],
  [/^gpt-oss-120b/, GPT_OSS_120B],
  [/^gpt-oss-20b/, GPT_OSS_20B],
  [/^deepseek-(r1|v3(\.1)?)(?![.\d])/, DEEPSEEK_V3],
  [/^kimi-k2(\.\d+)?/, KIMI_K2],
  [/^glm-5(\.\d+)?/, GLM_5],
];

/** The shape of a model by its Hugging Face path, such as `Qwen/Qwen3-32B`, or null when it is not known. */
export function validationModel(path: string): ModelShape | null {
  const name = (path.split("/").at(-1) ?? path).toLowerCase();
  return SHAPES.find(([pattern]) => pattern.test(name))?.[1] ?? null;
}
