/** What the rooflines of all operator classes need to know of a device. */
export interface RooflineRates {
  readonly denseFlops: Readonly<Partial<Record<string, number>>>;
  readonly memoryBytesPerSecond: number;
  /** Exponents that softmax needs; absent: not known, taken as part of attention's efficiency. */
  readonly softmax?: SoftmaxRates;
}

/** How fast a device, and the one that its efficiencies were measured on, compute exponents. */
export interface SoftmaxRates {
  readonly exponentsPerSecond: number;
  /** Null: not known of the measured device, whose matrix products then count as never waiting for exponents. */
  readonly measured: { readonly exponentsPerSecond: number; readonly flopsPerSecond: number } | null;
}

/**
 * How many times as long attention's matrix products take as on a device with unlimited exponents, over the same figure of the
 * measured device: its efficiency already holds that. Products and exponents overlap, so the slower of both sets the pace.
 */
export function softmaxSlowdown(
  rates: RooflineRates,
  flopsPerSecond: number,
  flopsPerExponent: number,
): number {
  const { softmax } = rates;
  if (softmax === undefined) return 1;
  const slowdown = (flops: number, exponents: number): number =>
    (1 + (flops / (flopsPerExponent * exponents)) ** SHARPNESS) ** (1 / SHARPNESS);
  const { measured } = softmax;
  const own = slowdown(flopsPerSecond, softmax.exponentsPerSecond);
  return measured === null ? own : own / slowdown(measured.flopsPerSecond, measured.exponentsPerSecond);
}

/** Shares of the peaks that large kernels reach, typically. What is left over is in the fitted efficiency. */
const FLOPS_SHARE = 0.75;
const BYTES_SHARE = 0.85;
/** Shortest time of a kernel on an accelerator, launch from a recorded graph included. */
export const KERNEL_FLOOR_MS = 0.004;
/** Sharpness of the transition from memory bound to compute bound. */
const SHARPNESS = 3;

/** Milliseconds of a kernel that computes and moves so much: a smooth maximum of both, on top of a floor. */
export function rooflineMs(
  flops: number,
  flopsPerSecond: number,
  bytes: number,
  bytesPerSecond: number,
): number {
  const computeMs = (flops * 1e3) / (flopsPerSecond * FLOPS_SHARE);
  const memoryMs = (bytes * 1e3) / (bytesPerSecond * BYTES_SHARE);
  return KERNEL_FLOOR_MS + (computeMs ** SHARPNESS + memoryMs ** SHARPNESS) ** (1 / SHARPNESS);
}
