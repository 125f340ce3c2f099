import { type LatentSizes, latentParameters } from "../attention-parameters.ts";
import { type AttentionMath, attendedPairs, attentionRate } from "./attention.ts";
import { computeRate, GEMM_FORMATS, type GemmFormat } from "./gemm.ts";
import { type RooflineRates, rooflineMs, softmaxSlowdown } from "./roofline.ts";

/**
 * Latent attention of one layer on one device, its projections included: the measured tables hold the whole module, with the
 * sizes of DeepSeek-V3.
 */
export interface MlaKernel extends LatentSizes {
  /** Heads on this device. */
  readonly numHeads: number;
  readonly hiddenSize: number;
  readonly kvBytes: number;
  readonly format: GemmFormat;
  /** Default bf16. */
  readonly math?: AttentionMath;
}

/** Kernels of a module that follow one another: projections, norms, rotation, cache write, attention, output. */
const KERNELS_PER_MODULE = 12;
const MODULE_FLOOR_MS = 0.004;

/** Roofline of a prefill: keys and values are expanded per head (not absorbed), the cached context again. */
export function mlaPrefillRooflineMs(
  rates: RooflineRates,
  kernel: MlaKernel,
  sequences: number,
  tokens: number,
  context: number,
): number {
  const { numHeads, kvLoraRank, ropeHeadDim, nopeHeadDim, vHeadDim } = kernel;
  const weights = latentParameters(kernel, kernel.hiddenSize);
  const all = sequences * tokens;
  const expandContext = 2 * sequences * context * kvLoraRank * numHeads * (nopeHeadDim + vHeadDim);
  const projections = rooflineMs(
    2 * all * weights + expandContext,
    computeRate(rates, kernel.format),
    weights * GEMM_FORMATS[kernel.format].weightBytes +
      all * (2 * kernel.hiddenSize + numHeads * (nopeHeadDim + ropeHeadDim + vHeadDim) * 2) * 2,
    rates.memoryBytesPerSecond,
  );
  const pairs = sequences * attendedPairs(tokens, context, Number.POSITIVE_INFINITY);
  const flopsPerExponent = 2 * (nopeHeadDim + ropeHeadDim + vHeadDim);
  const rate = attentionRate(rates, kernel.math);
  const attention = rooflineMs(
    pairs * numHeads * flopsPerExponent,
    rate / softmaxSlowdown(rates, rate, flopsPerExponent),
    sequences * (context + tokens) * numHeads * (nopeHeadDim + ropeHeadDim + vHeadDim) * 2,
    rates.memoryBytesPerSecond,
  );
  return KERNELS_PER_MODULE * MODULE_FLOOR_MS + projections + attention;
}

/** Roofline of decodes: queries are taken into the latent space (absorbed), so that all heads read one latent vector. */
export function mlaDecodeRooflineMs(
  rates: RooflineRates,
  kernel: MlaKernel,
  sequences: number,
  context: number,
): number {
  const { numHeads, kvLoraRank, ropeHeadDim } = kernel;
  const weights = latentParameters(kernel, kernel.hiddenSize);
  const projections = rooflineMs(
    2 * sequences * weights,
    computeRate(rates, kernel.format),
    weights * GEMM_FORMATS[kernel.format].weightBytes + sequences * 4 * kernel.hiddenSize,
    rates.memoryBytesPerSecond,
  );
  const pairs = sequences * context;
  const attention = rooflineMs(
    2 * pairs * numHeads * (2 * kvLoraRank + ropeHeadDim),
    attentionRate(rates, kernel.math),
    pairs * (kvLoraRank + ropeHeadDim) * kernel.kvBytes,
    rates.memoryBytesPerSecond,
  );
  return KERNELS_PER_MODULE * MODULE_FLOOR_MS + projections + attention;
}

/**
 * Tokens of a prompt without context that has as much attention as a chunk of `tokens` behind `context` tokens: the measured
 * prefills have no context, and large attention is efficient however small the chunk is.
 */
export function equivalentPromptTokens(tokens: number, context: number): number {
  return Math.sqrt(tokens * tokens + 2 * tokens * context);
}

/** Coordinates: log2 of tokens (see {@link equivalentPromptTokens}; of context for decodes), of sequences, of heads. */
export function mlaCoordinates(out: Float64Array, length: number, sequences: number, numHeads: number): void {
  out[0] = Math.log2(length);
  out[1] = Math.log2(sequences);
  out[2] = Math.log2(numHeads);
}
