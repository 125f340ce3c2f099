import type { AttentionShape, DenseFfnShape, MoeFfnShape } from "../../core/perf/model-shape.ts";
import { type GgufFile, readGgufFile } from "../../protocol/gguf/gguf-file.ts";
import { gqaShape, type ImportedModel, ModelFields } from "./model-fields.ts";

interface Architecture {
  readonly attention: "gqa" | "mla";
  readonly isGated: boolean;
  /** Layers with a window, of all layers; llama.cpp fixes the pattern by architecture. */
  readonly windowLayers?: (numLayers: number) => number;
}

const GATED: Architecture = { attention: "gqa", isGated: true };
const everyOther = (numLayers: number) => Math.ceil(numLayers / 2);
const allButEverySixth = (numLayers: number) => numLayers - Math.floor(numLayers / 6);

/** By `general.architecture`. */
const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  llama: GATED,
  qwen2: GATED,
  qwen2moe: GATED,
  qwen3: GATED,
  qwen3moe: GATED,
  gemma: GATED,
  gemma2: { ...GATED, windowLayers: everyOther },
  gemma3: { ...GATED, windowLayers: allButEverySixth },
  "gpt-oss": { ...GATED, windowLayers: everyOther },
  "minimax-m2": GATED,
  glm4moe: GATED,
  deepseek2: { attention: "mla", isGated: true },
  bloom: { attention: "gqa", isGated: false },
};

/** Values of `general.architecture` that can be read. */
export const GGUF_ARCHITECTURES: readonly string[] = Object.keys(ARCHITECTURES);

/** Reads the shape from the header of a GGUF file. Throws `GgufError` for a bad file, and ConfigError for one of another kind. */
export function readGgufModel(path: string, name: string): ImportedModel {
  const file = readGgufFile(path);
  const fields = new ModelFields(
    (key) => file.metadata.get(key === "general.architecture" ? key : `${file.architecture}.${key}`),
    () => path,
  );
  const architecture = ARCHITECTURES[file.architecture];
  if (architecture === undefined) {
    return fields.fail(
      "general.architecture",
      `${JSON.stringify(file.architecture)} is not supported; supported: ${GGUF_ARCHITECTURES.join(", ")}`,
    );
  }
  return fields.checked({
    name,
    numLayers: fields.int("block_count"),
    hiddenSize: fields.int("embedding_length"),
    vocabSize: vocabularyOf(file, fields),
    attention: architecture.attention === "mla" ? latent(fields) : headed(fields, architecture),
    ffn: feedForward(fields, architecture),
    hasTiedEmbeddings: !file.tensors.has("output.weight"),
    maxContextTokens: fields.int("context_length"),
  });
}

function vocabularyOf(file: GgufFile, fields: ModelFields): number {
  const embedding = file.tensors.get("token_embd.weight");
  return embedding?.[1] ?? fields.int("vocab_size");
}

function headed(fields: ModelFields, { windowLayers }: Architecture): AttentionShape {
  const numHeads = fields.int("attention.head_count");
  const numKvHeads = fields.optionalInt("attention.head_count_kv") ?? numHeads;
  const headDim = fields.optionalInt("attention.key_length") ?? fields.int("embedding_length") / numHeads;
  if (!Number.isInteger(headDim)) {
    fields.fail("attention.head_count", `${numHeads} heads do not divide the embedding length`);
  }
  const tokens = fields.optionalInt("attention.sliding_window") ?? 0;
  const layers = tokens === 0 || windowLayers === undefined ? 0 : windowLayers(fields.int("block_count"));
  return gqaShape({ numHeads, numKvHeads, headDim }, { layers, tokens });
}

/** Files converted for latent attention state the lengths of a head under `_mla`, older ones under the plain names. */
function latent(fields: ModelFields): AttentionShape {
  const ropeHeadDim = fields.int("rope.dimension_count");
  const keyLength = fields.int("attention.key_length_mla", "attention.key_length");
  if (keyLength <= ropeHeadDim) {
    fields.fail(
      "attention.key_length",
      `${keyLength} leaves nothing beside the ${ropeHeadDim} rotated values`,
    );
  }
  return {
    kind: "mla",
    numHeads: fields.int("attention.head_count"),
    kvLoraRank: fields.int("attention.kv_lora_rank"),
    qLoraRank: fields.optionalInt("attention.q_lora_rank") ?? 0,
    ropeHeadDim,
    nopeHeadDim: keyLength - ropeHeadDim,
    vHeadDim: fields.int("attention.value_length_mla", "attention.value_length"),
  };
}

function feedForward(fields: ModelFields, { isGated }: Architecture): DenseFfnShape | MoeFfnShape {
  const numExperts = fields.optionalInt("expert_count") ?? 0;
  if (numExperts === 0) {
    return { kind: "dense", intermediateSize: fields.int("feed_forward_length"), isGated };
  }
  const expertIntermediateSize = fields.int("expert_feed_forward_length", "feed_forward_length");
  const sharedSize = fields.optionalInt("expert_shared_feed_forward_length");
  const numSharedExperts = fields.optionalInt("expert_shared_count") ?? (sharedSize === null ? 0 : 1);
  const numDenseLayers = fields.optionalInt("leading_dense_block_count") ?? 0;
  return {
    kind: "moe",
    numExperts,
    expertsPerToken: fields.int("expert_used_count"),
    expertIntermediateSize,
    numSharedExperts,
    sharedIntermediateSize: numSharedExperts === 0 ? 0 : (sharedSize ?? expertIntermediateSize),
    numDenseLayers,
    denseIntermediateSize: numDenseLayers === 0 ? 0 : fields.int("feed_forward_length"),
  };
}
