import type { AttentionShape, ModelShape } from "./model-shape.ts";

/** Sizes of latent attention that its projections depend on. */
export type LatentSizes = Omit<Extract<AttentionShape, { readonly kind: "mla" }>, "kind" | "topKTokens">;

/** Parameters of the projections of one layer of latent attention: queries, latent, its expansion, output. */
export function latentParameters(sizes: LatentSizes, hiddenSize: number): number {
  const { numHeads, qLoraRank, kvLoraRank, ropeHeadDim, nopeHeadDim, vHeadDim } = sizes;
  const queryWidth = numHeads * (nopeHeadDim + ropeHeadDim);
  const query = qLoraRank > 0 ? qLoraRank * (hiddenSize + queryWidth) : hiddenSize * queryWidth;
  const latent = hiddenSize * (kvLoraRank + ropeHeadDim);
  const expanded = kvLoraRank * numHeads * (nopeHeadDim + vHeadDim);
  return query + latent + expanded + numHeads * vHeadDim * hiddenSize;
}

/** Parameters of the projections of one layer that keeps its context as KV, of all devices together. */
function attentionParameters({ attention, hiddenSize }: ModelShape): number {
  if (attention.kind === "mla") return latentParameters(attention, hiddenSize);
  return hiddenSize * attention.headDim * (2 * attention.numHeads + 2 * attention.numKvHeads);
}

/**
 * Parameters of one linear-attention layer: queries, keys, values, gate and output. Without its sizes it is counted like the other
 * layers.
 */
export function linearAttentionParameters(model: ModelShape): number {
  const { attention, hiddenSize } = model;
  if (attention.kind === "mla") return 0;
  const { linear } = attention;
  if (linear === undefined) return attentionParameters(model);
  const keys = linear.numKeyHeads * linear.keyHeadDim;
  const values = linear.numValueHeads * linear.valueHeadDim;
  return hiddenSize * (2 * keys + 3 * values);
}

/** Mean over all layers. */
export function meanAttentionParameters(model: ModelShape): number {
  const { attention, numLayers } = model;
  const numLinear = attention.kind === "mla" ? 0 : attention.numLinearLayers;
  const ofLinear = linearAttentionParameters(model) * numLinear;
  return (attentionParameters(model) * (numLayers - numLinear) + ofLinear) / numLayers;
}
