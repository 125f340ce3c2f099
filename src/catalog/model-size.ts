import { meanAttentionParameters } from "../core/perf/attention-parameters.ts";
import type { ModelShape } from "../core/perf/model-shape.ts";

/** Parameters of a model by its shape. Norms, biases and position tables are left out: well under 1 %. */
export interface ParameterCount {
  readonly total: number;
  /** What one token is multiplied with: its experts only, and no input embedding, which is a look-up. */
  readonly active: number;
}

export function countParameters(shape: ModelShape): ParameterCount {
  const { hiddenSize: hidden, numLayers, ffn } = shape;
  const embedding = shape.vocabSize * hidden;
  const attention = meanAttentionParameters(shape) * numLayers;
  const embeddings = embedding * (shape.hasTiedEmbeddings ? 1 : 2);
  if (ffn.kind === "dense") {
    const mlp = (ffn.isGated ? 3 : 2) * hidden * ffn.intermediateSize * numLayers;
    return { total: attention + mlp + embeddings, active: attention + mlp + embedding };
  }
  const numMoeLayers = numLayers - ffn.numDenseLayers;
  const expert = 3 * hidden * ffn.expertIntermediateSize;
  const shared = 3 * hidden * ffn.sharedIntermediateSize * ffn.numSharedExperts;
  const router = hidden * ffn.numExperts;
  const dense = 3 * hidden * ffn.denseIntermediateSize * ffn.numDenseLayers;
  const common = attention + dense + numMoeLayers * (shared + router);
  return {
    total: common + numMoeLayers * ffn.numExperts * expert + embeddings,
    active: common + numMoeLayers * ffn.expertsPerToken * expert + embedding,
  };
}

/**
 * Elements of KV that one more token adds over all layers: twice the KV heads, or the latent. `growing` leaves out layers whose window
 * is full, which add nothing any more.
 */
export function kvElementsPerToken(shape: ModelShape): { readonly all: number; readonly growing: number } {
  const { attention, numLayers } = shape;
  if (attention.kind === "mla") {
    const all = (attention.kvLoraRank + attention.ropeHeadDim) * numLayers;
    return { all, growing: all };
  }
  const perLayer = 2 * attention.numKvHeads * attention.headDim;
  const numKvLayers = numLayers - attention.numLinearLayers;
  return { all: perLayer * numKvLayers, growing: perLayer * (numKvLayers - attention.numWindowLayers) };
}
