import { meanAttentionParameters } from "./attention-parameters.ts";
import type { Parallelism } from "./device-spec.ts";
import type { HandoffTail } from "./handoff-bytes.ts";
import type { ModelShape } from "./model-shape.ts";
import type { AttentionMath } from "./operators/attention.ts";
import { GEMM_FORMATS, type GemmFormat } from "./operators/gemm.ts";

/** Formats of the parts of a model. Embeddings, norms and the output projection are BF16. */
export interface ModelFormats {
  readonly attention: GemmFormat;
  readonly ffn: GemmFormat;
  /** Bytes per element of the KV cache. */
  readonly kvBytes: number;
  /** What attention multiplies in. Default bf16. */
  readonly attentionMath?: AttentionMath;
}

const EMBEDDING_BYTES = 2;
/** Recurrent states are kept in single precision. */
const STATE_BYTES = 4;

/** KV heads that one of `tp` devices holds: at least one, so that further devices hold copies. */
export function kvHeadsPerDevice(numKvHeads: number, tp: number): number {
  return Math.max(1, numKvHeads / tp);
}

/** Bytes of weights on the device that holds most of them: of the first and last pipeline stage the heavier. */
export function weightBytesPerDevice(
  model: ModelShape,
  parallelism: Parallelism,
  formats: ModelFormats,
): number {
  const { tp, pp, dp } = parallelism;
  const layersPerStage = Math.ceil(model.numLayers / pp);
  const { ffn, hiddenSize } = model;
  const attentionBytes = meanAttentionParameters(model) * GEMM_FORMATS[formats.attention].weightBytes;
  let perLayer = attentionBytes / tp;
  let extra = 0;
  const ffnBytes = GEMM_FORMATS[formats.ffn].weightBytes;
  if (ffn.kind === "dense") {
    perLayer += ((ffn.isGated ? 3 : 2) * hiddenSize * ffn.intermediateSize * ffnBytes) / tp;
  } else {
    const experts = (ffn.numExperts * 3 * hiddenSize * ffn.expertIntermediateSize * ffnBytes) / (tp * dp);
    const shared = (ffn.numSharedExperts * 3 * hiddenSize * ffn.sharedIntermediateSize * ffnBytes) / tp;
    const router = ffn.numExperts * hiddenSize * EMBEDDING_BYTES;
    perLayer += experts + shared + router;
    // Dense layers stand at the front, in the stage that has no output projection.
    const dense = (3 * hiddenSize * ffn.denseIntermediateSize * ffnBytes) / tp;
    const numDense = Math.min(ffn.numDenseLayers, layersPerStage);
    extra = numDense * (dense - experts - shared - router);
  }
  const embedding = (model.vocabSize * hiddenSize * EMBEDDING_BYTES) / tp;
  if (pp === 1) return perLayer * layersPerStage + extra + embedding * (model.hasTiedEmbeddings ? 1 : 2);
  return perLayer * layersPerStage + Math.max(0, extra) + embedding;
}

/** KV bytes of one token in one layer that keeps all of its context, on one device. */
function layerKvBytes(model: ModelShape, tp: number, kvBytes: number): number {
  const { attention } = model;
  if (attention.kind === "mla") return (attention.kvLoraRank + attention.ropeHeadDim) * kvBytes;
  return 2 * kvHeadsPerDevice(attention.numKvHeads, tp) * attention.headDim * kvBytes;
}

/** Layers whose KV grows with the context. */
export function numGrowingLayers(model: ModelShape): number {
  const { attention } = model;
  if (attention.kind === "mla") return model.numLayers;
  return model.numLayers - attention.numWindowLayers - attention.numLinearLayers;
}

/** KV bytes that one more token of context takes, without copies. Windows and states do not grow: see {@link handoffTail}. */
export function kvBytesPerToken(model: ModelShape, formats: ModelFormats): number {
  return numGrowingLayers(model) * layerKvBytes(model, 1, formats.kvBytes);
}

/** KV bytes of one token on the device whose stage has most layers. */
export function kvBytesPerTokenAndDevice(
  model: ModelShape,
  parallelism: Parallelism,
  formats: ModelFormats,
): number {
  const layers = Math.ceil(numGrowingLayers(model) / parallelism.pp);
  return layers * layerKvBytes(model, parallelism.tp, formats.kvBytes);
}

/** Bytes per sequence that do not grow: full windows and recurrent states, on one device. */
export function stateBytesPerSequence(
  model: ModelShape,
  parallelism: Parallelism,
  formats: ModelFormats,
): number {
  const { attention } = model;
  if (attention.kind === "mla") return 0;
  const windows =
    attention.numWindowLayers * attention.windowTokens * layerKvBytes(model, parallelism.tp, formats.kvBytes);
  return (windows + recurrentBytes(attention) / parallelism.tp) / parallelism.pp;
}

/** What a handoff moves beside the KV that grows; undefined when all of it grows. */
export function handoffTail(model: ModelShape, formats: ModelFormats): HandoffTail | undefined {
  const { attention } = model;
  if (attention.kind === "mla" || numGrowingLayers(model) === model.numLayers) return undefined;
  return {
    windowTokens: attention.windowTokens,
    windowBytesPerToken: attention.numWindowLayers * layerKvBytes(model, 1, formats.kvBytes),
    stateBytes: recurrentBytes(attention),
  };
}

function recurrentBytes(attention: Exclude<ModelShape["attention"], { readonly kind: "mla" }>): number {
  const { linear } = attention;
  const state =
    linear === undefined
      ? attention.numHeads * attention.headDim * attention.headDim
      : linear.numValueHeads * linear.keyHeadDim * linear.valueHeadDim;
  return attention.numLinearLayers * state * STATE_BYTES;
}

/** Bytes that a step of `tokens` tokens with `samples` drawn tokens holds at once besides weights and KV, on one device. */
export function activationBytes(
  model: ModelShape,
  parallelism: Parallelism,
  tokens: number,
  samples: number,
): number {
  const { tp } = parallelism;
  const { ffn, hiddenSize, attention } = model;
  const heads = attention.numHeads / tp;
  const headDim =
    attention.kind === "mla" ? attention.nopeHeadDim + attention.ropeHeadDim : attention.headDim;
  const attentionWidth = 4 * heads * headDim;
  const ffnWidth =
    ffn.kind === "dense"
      ? (3 * ffn.intermediateSize) / tp
      : ffn.expertsPerToken * (hiddenSize + (3 * ffn.expertIntermediateSize) / tp);
  const live = 4 * hiddenSize + Math.max(attentionWidth, ffnWidth);
  // Logits in single precision, and the sorted copy that top-p needs.
  const logits = samples * (model.vocabSize / tp) * 4 * 2;
  return tokens * live * 2 + logits;
}
