import { KERNEL_FLOOR_MS, type RooflineRates, rooflineMs, softmaxSlowdown } from "./roofline.ts";

/** Attention of one layer on one device, after its heads have been split. */
export interface AttentionKernel {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  /** Bytes per element of the KV cache. */
  readonly kvBytes: number;
  /** Positions that a token sees at most; Infinity without a window. */
  readonly windowTokens: number;
  /** Default bf16. */
  readonly math?: AttentionMath;
}

/** Precision that attention multiplies queries, keys and values in. */
export type AttentionMath = "bf16" | "fp8";

/** FLOP/s of attention's matrix products. */
export function attentionRate(rates: RooflineRates, math: AttentionMath = "bf16"): number {
  return rates.denseFlops[math] ?? 0;
}

/** Bytes per element of queries and outputs. */
const QUERY_BYTES = 2;

/** Pairs of a token and a position it attends to, for `tokens` tokens behind `context` computed ones. */
export function attendedPairs(tokens: number, context: number, windowTokens: number): number {
  if (windowTokens >= context + tokens) return tokens * context + (tokens * (tokens + 1)) / 2;
  // Tokens that still see all positions before them, then those that see a full window.
  const growing = Math.max(0, Math.min(tokens, windowTokens - context));
  return growing * context + (growing * (growing + 1)) / 2 + (tokens - growing) * windowTokens;
}

/** Query rows that one block of a prefill kernel works on: shorter chunks fill it all the same. */
const QUERY_TILE = 128;
/** Blocks that fill a large accelerator. */
const BLOCKS_AT_ONCE = 132;

/** Pairs with the positions before a chunk, as the kernel computes them: at least a tile of queries for each. */
function paddedContextPairs(kernel: AttentionKernel, tokens: number, context: number): number {
  const own = attendedPairs(tokens, 0, kernel.windowTokens);
  const before = attendedPairs(tokens, context, kernel.windowTokens) - own;
  return before * Math.max(1, QUERY_TILE / tokens);
}

/**
 * Roofline of the causal attention of `sequences` chunks of `tokens` tokens, each behind `context` computed ones. Few blocks that pass
 * over a long context leave most of the device idle; the square root fits LLMServingSim's profiles of chunked prefills, which show less than
 * a proportional loss.
 */
export function prefillAttentionRooflineMs(
  rates: RooflineRates,
  kernel: AttentionKernel,
  sequences: number,
  tokens: number,
  context: number,
): number {
  const own = attendedPairs(tokens, 0, kernel.windowTokens);
  const before = paddedContextPairs(kernel, tokens, context);
  const flops = 4 * sequences * (own + before) * kernel.numHeads * kernel.headDim;
  const visible = Math.min(context + tokens, kernel.windowTokens + tokens);
  const kvBytes = 2 * sequences * visible * kernel.numKvHeads * kernel.headDim * kernel.kvBytes;
  const queryBytes = 2 * sequences * tokens * kernel.numHeads * kernel.headDim * QUERY_BYTES;
  const rate = attentionRate(rates, kernel.math);
  const slowdown = softmaxSlowdown(rates, rate, 4 * kernel.headDim);
  const ms = rooflineMs(flops, rate / slowdown, kvBytes + queryBytes, rates.memoryBytesPerSecond);
  const blocks = sequences * kernel.numHeads * Math.max(1, tokens / QUERY_TILE);
  const idle = Math.sqrt(Math.max(1, BLOCKS_AT_ONCE / blocks)) - 1;
  return ms + (ms - KERNEL_FLOOR_MS) * (before / (own + before)) * idle;
}

/**
 * Coordinates: log2 of the length of a whole prompt with as many pairs, of sequences x heads, of queries per KV head, of the head size. The
 * heads of all sequences are independent blocks of work; the length sets the size of each. Windowed kernels have the window as a fifth.
 */
export function prefillAttentionCoordinates(
  out: Float64Array,
  kernel: AttentionKernel,
  sequences: number,
  tokens: number,
  context: number,
): void {
  const before = paddedContextPairs(kernel, tokens, context);
  // A whole prompt of n tokens has about n^2 / 2 pairs.
  out[0] = Math.log2(Math.sqrt(tokens * tokens + 2 * before));
  out[1] = Math.log2(sequences * kernel.numHeads);
  out[2] = Math.log2(kernel.numHeads / kernel.numKvHeads);
  out[3] = Math.log2(kernel.headDim);
  out[4] = Math.log2(kernel.windowTokens);
}

/** Roofline of one new token for each of `sequences`, which attends to `context` positions, its own included. */
export function decodeAttentionRooflineMs(
  rates: RooflineRates,
  kernel: AttentionKernel,
  sequences: number,
  context: number,
): number {
  const pairs = sequences * Math.min(context, kernel.windowTokens);
  const flops = 4 * pairs * kernel.numHeads * kernel.headDim;
  const kvBytes = decodeKvBytes(kernel, sequences, context);
  const queryBytes = 2 * sequences * kernel.numHeads * kernel.headDim * QUERY_BYTES;
  const rate = attentionRate(rates, kernel.math);
  return rooflineMs(flops, rate, kvBytes + queryBytes, rates.memoryBytesPerSecond);
}

/** Bytes of KV that decodes read. */
export function decodeKvBytes(kernel: AttentionKernel, sequences: number, context: number): number {
  const visible = Math.min(context, kernel.windowTokens);
  return 2 * sequences * visible * kernel.numKvHeads * kernel.headDim * kernel.kvBytes;
}

/**
 * Coordinates: log2 of the context, of sequences x KV heads, of queries per KV head, of the head size; windowed kernels have the
 * window as a fifth. Some of them pass over the whole context all the same.
 */
export function decodeAttentionCoordinates(
  out: Float64Array,
  kernel: AttentionKernel,
  sequences: number,
  context: number,
): void {
  out[0] = Math.log2(context);
  out[1] = Math.log2(sequences * kernel.numKvHeads);
  out[2] = Math.log2(kernel.numHeads / kernel.numKvHeads);
  out[3] = Math.log2(kernel.headDim);
  out[4] = Math.log2(kernel.windowTokens);
}
