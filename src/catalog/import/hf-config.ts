import type {
  AttentionShape,
  DenseFfnShape,
  LinearAttentionShape,
  ModelShape,
  MoeFfnShape,
} from "../../core/perf/model-shape.ts";
import { ConfigError, show } from "../../protocol/config-error.ts";
import { nearMiss } from "../../protocol/near-miss.ts";
import { readYaml } from "../../protocol/yaml-document.ts";
import { gqaShape, type ImportedModel, ModelFields } from "./model-fields.ts";

/** Longest config.json, in UTF-16 units; lists of layers that are not quantised make them long. */
export const MAX_HF_CONFIG_LENGTH = 4 * 1024 * 1024;

type Attention = (fields: ModelFields) => AttentionShape;
type Ffn = (fields: ModelFields) => DenseFfnShape | MoeFfnShape;

interface Architecture {
  readonly attention: Attention;
  readonly ffn: Ffn;
  /** What `tie_word_embeddings` is when the file does not say: the default of the class in transformers. */
  readonly isTied: boolean;
  readonly note?: string;
}

/** Layers and width under the names that the families use. */
const layersOf = (fields: ModelFields) => fields.int("num_hidden_layers", "n_layer");
const hiddenOf = (fields: ModelFields) => fields.int("hidden_size", "n_embed", "n_embd");

function headsOf(fields: ModelFields) {
  const numHeads = fields.int("num_attention_heads", "n_head");
  const headDim = fields.optionalInt("head_dim") ?? hiddenOf(fields) / numHeads;
  if (!Number.isInteger(headDim)) {
    fields.fail("num_attention_heads", `${numHeads} heads do not divide the hidden size`);
  }
  return { numHeads, numKvHeads: fields.optionalInt("num_key_value_heads") ?? numHeads, headDim };
}

/** Attention with windows in `layersWithout` of them absent; `layer_types` wins where the file has it. */
function windowed(layers: (fields: ModelFields) => number): Attention {
  return (fields) => {
    const tokens = fields.optionalInt("sliding_window") ?? 0;
    const listed = fields.countOf("layer_types", ["sliding_attention"]);
    return gqaShape(headsOf(fields), { layers: tokens === 0 ? 0 : (listed ?? layers(fields)), tokens });
  };
}

const plainAttention: Attention = (fields) => gqaShape(headsOf(fields));
const everyLayer = windowed(layersOf);
const everyOtherLayer = windowed((fields) => Math.ceil(layersOf(fields) / 2));
const allButEverySixth = windowed((fields) => {
  const layers = layersOf(fields);
  return layers - Math.floor(layers / (fields.optionalInt("sliding_window_pattern") ?? 6));
});
const qwenWindows: Attention = (fields) => {
  if (!fields.boolean("use_sliding_window", false)) return plainAttention(fields);
  return windowed(() => Math.max(0, layersOf(fields) - (fields.optionalInt("max_window_layers") ?? 0)))(
    fields,
  );
};

/** Gated DeltaNet in all layers but every fourth. */
const mostlyLinear: Attention = (fields) => {
  const layers = layersOf(fields);
  const interval = fields.optionalInt("full_attention_interval") ?? 4;
  const listed = fields.countOf("layer_types", ["linear_attention"]);
  const linear: LinearAttentionShape = {
    numKeyHeads: fields.int("linear_num_key_heads"),
    numValueHeads: fields.int("linear_num_value_heads"),
    keyHeadDim: fields.int("linear_key_head_dim"),
    valueHeadDim: fields.int("linear_value_head_dim"),
  };
  const numLinearLayers = listed ?? layers - Math.floor(layers / Math.max(1, interval));
  return { ...gqaShape(headsOf(fields)), numLinearLayers, linear };
};

const latentAttention = (fields: ModelFields) => ({
  kind: "mla" as const,
  numHeads: fields.int("num_attention_heads"),
  kvLoraRank: fields.int("kv_lora_rank"),
  qLoraRank: fields.optionalInt("q_lora_rank") ?? 0,
  ropeHeadDim: fields.int("qk_rope_head_dim"),
  nopeHeadDim: fields.int("qk_nope_head_dim"),
  vHeadDim: fields.int("v_head_dim"),
});

/** The index of DeepSeek Sparse Attention chooses the positions. */
const indexedAttention: Attention = (fields) => {
  const topKTokens = fields.int("index_topk");
  if (topKTokens === 0) fields.fail("index_topk", "0 positions leave nothing to attend to");
  return { ...latentAttention(fields), topKTokens };
};

const gatedFfn: Ffn = (fields) => {
  return { kind: "dense", intermediateSize: fields.int("intermediate_size"), isGated: true };
};
const optFfn: Ffn = (fields) => ({ kind: "dense", intermediateSize: fields.int("ffn_dim"), isGated: false });
const bloomFfn: Ffn = (fields) => {
  return { kind: "dense", intermediateSize: 4 * hiddenOf(fields), isGated: false };
};

/** Experts in every layer after the leading dense ones. */
function experts(keys: {
  readonly count: string;
  readonly perToken: readonly [string, ...string[]];
  readonly size: string;
  readonly shared?: (fields: ModelFields) => { readonly count: number; readonly size: number };
}): Ffn {
  return (fields) => {
    const numDenseLayers = leadingDenseLayers(fields);
    const shared = keys.shared?.(fields) ?? { count: 0, size: 0 };
    return {
      kind: "moe",
      numExperts: fields.int(keys.count),
      expertsPerToken: fields.int(...keys.perToken),
      expertIntermediateSize: fields.int(keys.size),
      numSharedExperts: shared.count,
      sharedIntermediateSize: shared.count === 0 ? 0 : shared.size,
      numDenseLayers,
      denseIntermediateSize: numDenseLayers === 0 ? 0 : fields.int("intermediate_size"),
    };
  };
}

/** A shape has its dense layers first; files that mix them otherwise are refused. */
function leadingDenseLayers(fields: ModelFields): number {
  for (const key of ["moe_layer_freq", "decoder_sparse_step"]) {
    const step = fields.value(key);
    const isEveryLayer = Array.isArray(step) ? step.every((entry) => entry === 1) : (step ?? 1) === 1;
    if (!isEveryLayer)
      fields.fail(key, `${show(step)} mixes dense layers in between, which is not supported`);
  }
  const listed = fields.value("mlp_only_layers");
  if (Array.isArray(listed) && listed.length > 0) {
    const isLeading = listed.every((layer, index) => layer === index);
    if (!isLeading) {
      fields.fail("mlp_only_layers", `${show(listed)} are not the first layers, which is not supported`);
    }
    return listed.length;
  }
  return fields.optionalInt("first_k_dense_replace") ?? 0;
}

const sharedByCount = (fields: ModelFields) => ({
  count: fields.optionalInt("n_shared_experts") ?? 0,
  size: fields.int("moe_intermediate_size"),
});
const sharedBySize = (fields: ModelFields) => {
  const size = fields.optionalInt("shared_expert_intermediate_size") ?? 0;
  return { count: size === 0 ? 0 : 1, size };
};

const routedFfn = experts({
  count: "n_routed_experts",
  perToken: ["num_experts_per_tok"],
  size: "moe_intermediate_size",
  shared: sharedByCount,
});
const localFfn = experts({
  count: "num_local_experts",
  perToken: ["num_experts_per_tok", "experts_per_token"],
  size: "intermediate_size",
});
const qwenMoeFfn = experts({
  count: "num_experts",
  perToken: ["num_experts_per_tok"],
  size: "moe_intermediate_size",
  shared: sharedBySize,
});

const GATED_ATTENTION = "The output gate of the full-attention layers is not in the shape.";
const INDEX = "Weights and work of the index that chooses positions are not in the shape.";
const INDEXED: Architecture = { attention: indexedAttention, ffn: routedFfn, isTied: false, note: INDEX };
const DEEPSEEK: Architecture = { attention: latentAttention, ffn: routedFfn, isTied: false };
const LLAMA: Architecture = { attention: plainAttention, ffn: gatedFfn, isTied: false };
const QWEN_MOE: Architecture = { attention: qwenWindows, ffn: qwenMoeFfn, isTied: false };
const QWEN_LINEAR: Architecture = {
  attention: mostlyLinear,
  ffn: qwenMoeFfn,
  isTied: false,
  note: GATED_ATTENTION,
};

/** By `model_type` of config.json. */
const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  llama: LLAMA,
  mistral: { ...LLAMA, attention: everyLayer },
  phi3: { ...LLAMA, attention: everyLayer },
  qwen2: { ...LLAMA, attention: qwenWindows },
  qwen3: { ...LLAMA, attention: qwenWindows },
  gemma: { ...LLAMA, isTied: true },
  gemma2: { attention: everyOtherLayer, ffn: gatedFfn, isTied: true },
  gemma3_text: { attention: allButEverySixth, ffn: gatedFfn, isTied: true },
  mixtral: { attention: everyLayer, ffn: localFfn, isTied: false },
  minimax_m2: { attention: plainAttention, ffn: localFfn, isTied: false },
  gpt_oss: { attention: everyOtherLayer, ffn: localFfn, isTied: false },
  qwen2_moe: QWEN_MOE,
  qwen3_moe: QWEN_MOE,
  qwen3_next: QWEN_LINEAR,
  qwen3_5_moe_text: QWEN_LINEAR,
  glm4_moe: { attention: plainAttention, ffn: routedFfn, isTied: false },
  deepseek_v2: DEEPSEEK,
  deepseek_v3: DEEPSEEK,
  kimi_k2: DEEPSEEK,
  kimi_k25: DEEPSEEK,
  deepseek_v32: INDEXED,
  glm_moe_dsa: INDEXED,
  opt: { attention: plainAttention, ffn: optFfn, isTied: true },
  bloom: { attention: plainAttention, ffn: bloomFfn, isTied: true },
};

/** `model_type`s that can be read. */
export const HF_MODEL_TYPES: readonly string[] = Object.keys(ARCHITECTURES);

/** Types whose language model stands at the top of the file, beside other parts. */
const FLAT_WRAPPERS: ReadonlySet<string> = new Set(["kimi_k25"]);

/**
 * Reads a Hugging Face `config.json`. Of a model with several parts it takes the language model and notes it. `fileName` is for messages.
 * Throws {@link ConfigError} with file and key.
 */
export function readHfConfig(text: string, fileName: string, name: string): ImportedModel {
  const { data, locate } = readYaml(text, fileName, {
    what: "a config.json",
    maxLength: MAX_HF_CONFIG_LENGTH,
  });
  const top = asMapping(data);
  if (top === null) {
    throw new ConfigError([{ origin: fileName, message: "is not a mapping of keys to values" }]);
  }
  const part = asMapping(top.text_config);
  const values = part ?? top;
  const path = part === null ? [] : ["text_config"];
  const fields = new ModelFields(
    (key) => (Object.hasOwn(values, key) ? values[key] : undefined),
    (key) => locate(key === "" ? path : [...path, key]),
  );
  const type = fields.value("model_type");
  const architecture = architectureOf(fields, type);
  if (part !== null || FLAT_WRAPPERS.has(String(type))) fields.notes.push("Text part only.");
  if (architecture.note !== undefined) fields.notes.push(architecture.note);
  return fields.checked(toShape(fields, architecture, name));
}

function toShape(fields: ModelFields, architecture: Architecture, name: string): ModelShape {
  return {
    name,
    numLayers: layersOf(fields),
    hiddenSize: hiddenOf(fields),
    vocabSize: fields.int("vocab_size"),
    attention: architecture.attention(fields),
    ffn: architecture.ffn(fields),
    hasTiedEmbeddings: fields.boolean("tie_word_embeddings", architecture.isTied),
    maxContextTokens: fields.int("max_position_embeddings", "seq_length", "n_positions"),
  };
}

function architectureOf(fields: ModelFields, type: unknown): Architecture {
  if (typeof type === "string" && Object.hasOwn(ARCHITECTURES, type)) return ARCHITECTURES[type]!;
  const supported = `supported: ${HF_MODEL_TYPES.join(", ")}`;
  if (typeof type !== "string") return fields.fail("model_type", `is missing; ${supported}`);
  const meant = nearMiss(type, HF_MODEL_TYPES);
  const hint = meant === null ? "" : ` (the closest is ${meant})`;
  return fields.fail("model_type", `${show(type)} is not supported${hint}; ${supported}`);
}

function asMapping(value: unknown): Readonly<Record<string, unknown>> | null {
  const isMapping = typeof value === "object" && value !== null && !Array.isArray(value);
  return isMapping ? (value as Record<string, unknown>) : null;
}
