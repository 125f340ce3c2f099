import { describe, expect, it } from "vitest";
import type { ModelShape } from "../../core/perf/model-shape.ts";
import { BUILT_IN_CATALOG } from "../catalog.ts";
import { HF_MODEL_TYPES, readHfConfig } from "./hf-config.ts";

const read = (config: object | string) =>
  readHfConfig(typeof config === "string" ? config : JSON.stringify(config, null, 2), "config.json", "model");

/** The built-in shape under the name that imports get here. */
const builtIn = (id: string): ModelShape => ({ ...BUILT_IN_CATALOG.get("model", id).shape, name: "model" });

const LLAMA_3_1_8B = {
  model_type: "llama",
  hidden_size: 4096,
  intermediate_size: 14336,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  vocab_size: 128256,
  max_position_embeddings: 131072,
  tie_word_embeddings: false,
};

const MLA = {
  kv_lora_rank: 512,
  q_lora_rank: 1536,
  qk_rope_head_dim: 64,
  qk_nope_head_dim: 128,
  v_head_dim: 128,
};

const DEEPSEEK_V3 = {
  ...MLA,
  model_type: "deepseek_v3",
  hidden_size: 7168,
  intermediate_size: 18432,
  num_hidden_layers: 61,
  num_attention_heads: 128,
  num_key_value_heads: 128,
  vocab_size: 129280,
  max_position_embeddings: 163840,
  n_routed_experts: 256,
  num_experts_per_tok: 8,
  n_shared_experts: 1,
  moe_intermediate_size: 2048,
  moe_layer_freq: 1,
  first_k_dense_replace: 3,
};

const QWEN_3_5 = {
  model_type: "qwen3_5_moe",
  text_config: {
    model_type: "qwen3_5_moe_text",
    full_attention_interval: 4,
    head_dim: 256,
    hidden_size: 4096,
    linear_key_head_dim: 128,
    linear_num_key_heads: 16,
    linear_num_value_heads: 64,
    linear_value_head_dim: 128,
    max_position_embeddings: 262144,
    mlp_only_layers: [],
    moe_intermediate_size: 1024,
    num_attention_heads: 32,
    num_experts: 512,
    num_experts_per_tok: 10,
    num_hidden_layers: 60,
    num_key_value_heads: 2,
    shared_expert_intermediate_size: 1024,
    vocab_size: 248320,
  },
  vision_config: { hidden_size: 1152 },
};

const GPT_OSS_120B = {
  model_type: "gpt_oss",
  head_dim: 64,
  hidden_size: 2880,
  intermediate_size: 2880,
  layer_types: Array.from({ length: 36 }, (_, layer) =>
    layer % 2 === 0 ? "sliding_attention" : "full_attention",
  ),
  max_position_embeddings: 131072,
  num_attention_heads: 64,
  experts_per_token: 4,
  num_hidden_layers: 36,
  num_key_value_heads: 8,
  num_local_experts: 128,
  sliding_window: 128,
  vocab_size: 201088,
};

const MIXTRAL = {
  model_type: "mixtral",
  hidden_size: 4096,
  intermediate_size: 14336,
  max_position_embeddings: 32768,
  num_attention_heads: 32,
  num_experts_per_tok: 2,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  num_local_experts: 8,
  sliding_window: null,
  vocab_size: 32000,
};

const OPT_13B = {
  model_type: "opt",
  hidden_size: 5120,
  ffn_dim: 20480,
  num_attention_heads: 40,
  num_hidden_layers: 40,
  vocab_size: 50272,
  max_position_embeddings: 2048,
};

const BLOOM = {
  model_type: "bloom",
  n_embed: 14336,
  n_layer: 70,
  n_head: 112,
  vocab_size: 250880,
  seq_length: 2048,
};

const QWEN3_235B = {
  model_type: "qwen3_moe",
  decoder_sparse_step: 1,
  head_dim: 128,
  hidden_size: 4096,
  intermediate_size: 12288,
  max_position_embeddings: 40960,
  mlp_only_layers: [],
  moe_intermediate_size: 1536,
  num_attention_heads: 64,
  num_experts: 128,
  num_experts_per_tok: 8,
  num_hidden_layers: 94,
  num_key_value_heads: 4,
  use_sliding_window: false,
  vocab_size: 151936,
};

describe("config.json", () => {
  it.each([
    ["llama-3.1-8b", LLAMA_3_1_8B],
    ["deepseek-v3", DEEPSEEK_V3],
    ["qwen3.5-397b-a17b", QWEN_3_5],
    ["gpt-oss-120b", GPT_OSS_120B],
    ["mixtral-8x7b", MIXTRAL],
    ["opt-13b", OPT_13B],
    ["bloom-176b", BLOOM],
    ["qwen3-235b-a22b", QWEN3_235B],
  ])("gives the shape that the catalogue has for %s", (id, config) => {
    expect(read(config).shape).toEqual(builtIn(id));
  });

  it("counts windows by the pattern of the family when layers are not listed", () => {
    const gemma = {
      ...LLAMA_3_1_8B,
      model_type: "gemma3_text",
      num_hidden_layers: 62,
      sliding_window: 1024,
      tie_word_embeddings: undefined,
    };
    const { shape } = read(gemma);
    expect(shape.attention).toMatchObject({ numWindowLayers: 52, windowTokens: 1024 });
    expect(shape.hasTiedEmbeddings).toBe(true);
    const mistral = { ...LLAMA_3_1_8B, model_type: "mistral", sliding_window: 4096 };
    expect(read(mistral).shape.attention).toMatchObject({ numWindowLayers: 32, windowTokens: 4096 });
    const { layer_types: _, ...alternating } = GPT_OSS_120B;
    expect(read(alternating).shape.attention).toMatchObject({ numWindowLayers: 18 });
  });

  it("notes what the shape leaves out", () => {
    expect(read(QWEN_3_5).notes).toEqual([
      "Text part only.",
      "The output gate of the full-attention layers is not in the shape.",
    ]);
    const sparse = read({ ...DEEPSEEK_V3, model_type: "deepseek_v32", index_topk: 2048 });
    expect(sparse.notes[0]).toContain("index that chooses positions");
    expect(sparse.shape.attention).toMatchObject({ topKTokens: 2048 });
    expect(() => read({ ...DEEPSEEK_V3, model_type: "deepseek_v32" })).toThrow("index_topk: is missing");
    expect(read(LLAMA_3_1_8B).notes).toEqual([]);
  });

  it("refuses an architecture that it does not know, and says which it knows", () => {
    expect(() => read({ ...LLAMA_3_1_8B, model_type: "mamba2" })).toThrow(
      `config.json:2:3: model_type: "mamba2" is not supported; supported: ${HF_MODEL_TYPES.join(", ")}`,
    );
    expect(() => read({ ...LLAMA_3_1_8B, model_type: "lama" })).toThrow("(the closest is llama)");
    expect(() => read({ ...LLAMA_3_1_8B, model_type: "toString" })).toThrow("is not supported");
    expect(() => read({})).toThrow("model_type: is missing; supported: llama, mistral");
  });

  it("names the key that is missing, wrong, or at odds with another", () => {
    expect(() => read({ ...LLAMA_3_1_8B, vocab_size: undefined })).toThrow("vocab_size: is missing");
    expect(() => read({ ...LLAMA_3_1_8B, hidden_size: "4096" })).toThrow(
      /config\.json:3:3: hidden_size: "4096" is not a whole number/,
    );
    expect(() => read({ ...LLAMA_3_1_8B, hidden_size: -1 })).toThrow("hidden_size: -1 is not a whole number");
    expect(() => read({ ...LLAMA_3_1_8B, num_attention_heads: 33 })).toThrow("33 heads do not divide");
    expect(() => read({ ...LLAMA_3_1_8B, num_key_value_heads: 7 })).toThrow(
      "attention.numKvHeads of the model does not divide the 32 heads",
    );
    expect(() => read({ ...MIXTRAL, num_experts_per_tok: 9 })).toThrow("is more than the 8 experts");
    expect(() => read({ ...QWEN3_235B, decoder_sparse_step: 2 })).toThrow(
      "decoder_sparse_step: 2 mixes dense",
    );
    expect(() => read({ ...QWEN3_235B, mlp_only_layers: [3] })).toThrow("are not the first layers");
    expect(() => read({ ...LLAMA_3_1_8B, num_attention_heads: 0 })).toThrow("num_attention_heads");
  });

  it("says where JSON is broken", () => {
    expect(() => read('{\n  "model_type": "llama",\n  "hidden_size": \n')).toThrow(/config\.json:\d+:\d+: /);
    expect(() => read("[1, 2]")).toThrow("config.json: is not a mapping");
    expect(() => read("")).toThrow("model_type: is missing");
  });

  it("takes tabs, as JSON does", () => {
    expect(read(JSON.stringify(LLAMA_3_1_8B, null, "\t")).shape).toEqual(builtIn("llama-3.1-8b"));
  });
});
