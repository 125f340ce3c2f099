import { computeRate, GEMM_FORMATS, type GemmFormat } from "./gemm.ts";
import { type RooflineRates, rooflineMs } from "./roofline.ts";

/** The routed experts of one layer, as one device sees them. */
export interface MoeKernel {
  readonly hiddenSize: number;
  /** Intermediate size of an expert on this device, after tensor parallelism. */
  readonly intermediateSize: number;
  readonly numExperts: number;
  readonly expertsPerToken: number;
  /** Devices that the experts are spread over. */
  readonly expertParallel: number;
  readonly format: GemmFormat;
}

/** Experts of a device that at least one of `tokens` tokens is routed to, when all are equally likely. */
export function expectedDistinctExperts(kernel: MoeKernel, tokens: number): number {
  const local = kernel.numExperts / kernel.expertParallel;
  return local * (1 - (1 - kernel.expertsPerToken / kernel.numExperts) ** tokens);
}

/**
 * Roofline of the gated experts (three matrices) for `tokens` tokens of the whole expert-parallel group, evenly routed. The
 * unevenness of real routing is in the efficiency.
 */
export function moeRooflineMs(rates: RooflineRates, kernel: MoeKernel, tokens: number): number {
  const { hiddenSize, intermediateSize, format } = kernel;
  const pairs = (tokens * kernel.expertsPerToken) / kernel.expertParallel;
  const weightBytes =
    3 *
    hiddenSize *
    intermediateSize *
    expectedDistinctExperts(kernel, tokens) *
    GEMM_FORMATS[format].weightBytes;
  // Read and written per routed pair: input, the two halves of the gate, its product, output.
  const activationBytes = pairs * (2 * hiddenSize + 3 * intermediateSize) * 2;
  return rooflineMs(
    6 * pairs * hiddenSize * intermediateSize,
    computeRate(rates, format),
    weightBytes + activationBytes,
    rates.memoryBytesPerSecond,
  );
}

/**
 * Coordinates: log2 of the tokens per expert, of the experts per device, of the size of a matrix on this device, of the expert
 * parallelism; and the exponent of the power law by which experts are chosen, 0 when all are equally likely.
 */
export function moeCoordinates(out: Float64Array, kernel: MoeKernel, skew: number, tokens: number): void {
  out[0] = Math.log2((tokens * kernel.expertsPerToken) / kernel.numExperts);
  out[1] = Math.log2(kernel.numExperts / kernel.expertParallel);
  out[2] = Math.log2(kernel.hiddenSize * kernel.intermediateSize);
  out[3] = Math.log2(kernel.expertParallel);
  out[4] = skew;
}
