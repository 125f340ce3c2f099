import type { Precision } from "../precision.ts";
import { type RooflineRates, rooflineMs } from "./roofline.ts";

/**
 * How the operands of a matrix product are stored: weights and activations in one format, except int4, whose weights are
 * widened to BF16 in the kernel, and mxfp4 of the same kind. `fp8` has a scale per tensor or channel, `fp8-block` one per 128 x 128 block.
 */
export type GemmFormat = "bf16" | "fp8" | "fp8-block" | "fp4" | "int8" | "int4" | "mxfp4-bf16";

/** Bytes per weight, its share of the scale factors included, and bytes per activation. */
interface FormatTraits {
  readonly weightBytes: number;
  readonly activationBytes: number;
  /** Precision that the tensor cores multiply in. */
  readonly computesIn: Precision;
}

/** NVFP4 has one byte of scale per 16 elements, MXFP4 one per 32; int4 two bytes per 128. */
export const GEMM_FORMATS: Readonly<Record<GemmFormat, FormatTraits>> = {
  bf16: { weightBytes: 2, activationBytes: 2, computesIn: "bf16" },
  fp8: { weightBytes: 1, activationBytes: 1, computesIn: "fp8" },
  "fp8-block": { weightBytes: 1, activationBytes: 1, computesIn: "fp8" },
  fp4: { weightBytes: 0.5625, activationBytes: 0.5625, computesIn: "fp4" },
  int8: { weightBytes: 1, activationBytes: 1, computesIn: "int8" },
  int4: { weightBytes: 0.516, activationBytes: 2, computesIn: "bf16" },
  "mxfp4-bf16": { weightBytes: 0.531, activationBytes: 2, computesIn: "bf16" },
};

/** Bytes per element of what a GEMM writes. */
const OUTPUT_BYTES = 2;

/** Roofline of [m, k] x [k, n]. */
export function gemmRooflineMs(
  rates: RooflineRates,
  format: GemmFormat,
  m: number,
  n: number,
  k: number,
): number {
  const { weightBytes, activationBytes } = GEMM_FORMATS[format];
  const bytes = n * k * weightBytes + m * k * activationBytes + m * n * OUTPUT_BYTES;
  return rooflineMs(2 * m * n * k, computeRate(rates, format), bytes, rates.memoryBytesPerSecond);
}

/** Rows that FP8 kernels with block scales want in multiples; others are padded by a copy. */
const ROW_ALIGNMENT = 4;
/** Decodes run as recorded graphs, for which engines pad batches to round sizes up to this one. */
const PADDED_ROWS = 512;

/**
 * Coordinates of a GEMM's efficiency: log2 of m, n, k, and how likely m is not aligned. Without `isExact`, m stands for the
 * token counts near it, as they occur in steps; with it, for itself.
 */
export function gemmCoordinates(out: Float64Array, m: number, n: number, k: number, isExact: boolean): void {
  out[0] = Math.log2(m);
  out[1] = Math.log2(n);
  out[2] = Math.log2(k);
  if (isExact) out[3] = m % ROW_ALIGNMENT === 0 ? 0 : 1;
  else out[3] = m <= PADDED_ROWS ? 0 : 1 - 1 / ROW_ALIGNMENT;
}

/** FLOP/s in the format's precision, or in the next wider one that the device has. */
export function computeRate(rates: RooflineRates, format: GemmFormat): number {
  const flops = rates.denseFlops;
  const wanted = GEMM_FORMATS[format].computesIn;
  return flops[wanted] ?? (wanted === "fp4" ? flops.fp8 : undefined) ?? flops.bf16 ?? 0;
}
