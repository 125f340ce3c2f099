import type { AttentionShape, ModelShape } from "../core/perf/model-shape.ts";

/** Parameters of a model by its shape. Norms, biases and position tables are left out: well under 1 %. */
export interface ParameterCount {
  readonly total: number;
  /** What one token is multiplied with: its experts only, and no input embedding, which is a look-up. */
  readonly active: number;
}

export function countParameters(shape: ModelShape): ParameterCount {
  const { hiddenSize: hidden, numLayers, ffn } = shape;
  const embedding = shape.vocabSize * hidden;
  const attention = attentionParameters(shape.attention, hidden, numLayers);
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

/** Projections of all layers. Linear layers whose sizes are not in the shape are counted like the others. */
function attentionParameters(attention: AttentionShape, hidden: number, numLayers: number): number {
  if (attention.kind === "mla") return latentParameters(attention, hidden) * numLayers;
  const { numHeads, numKvHeads, headDim, numLinearLayers, linear } = attention;
  const full = hidden * headDim * (2 * numHeads + 2 * numKvHeads);
  if (linear === undefined) return full * numLayers;
  // Queries and keys, then values, gate and output.
  const keys = 2 * linear.numKeyHeads * linear.keyHeadDim;
  const values = 3 * linear.numValueHeads * linear.valueHeadDim;
  return full * (numLayers - numLinearLayers) + hidden * (keys + values) * numLinearLayers;
}

function latentParameters(attention: Extract<AttentionShape, { kind: "mla" }>, hidden: number): number {
  const { numHeads, kvLoraRank, qLoraRank, ropeHeadDim, nopeHeadDim, vHeadDim } = attention;
  const queryWidth = numHeads * (nopeHeadDim + ropeHeadDim);
  const query = qLoraRank === 0 ? hidden * queryWidth : qLoraRank * (hidden + queryWidth);
  const latent = hidden * (kvLoraRank + ropeHeadDim);
  const expanded = kvLoraRank * numHeads * (nopeHeadDim + vHeadDim);
  return query + latent + expanded + numHeads * vHeadDim * hidden;
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
