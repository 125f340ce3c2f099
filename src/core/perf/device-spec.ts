import type { Precision } from "./precision.ts";

/** A link as its two ends see it. */
export interface LinkSpec {
  /** Per direction and device. */
  readonly bytesPerSecond: number;
  readonly latencyMs: number;
}

/** What the perf model knows of an accelerator. The catalogue makes these, with a source for every figure. */
export interface DeviceSpec {
  /** Catalogue id, such as `h100-sxm`. */
  readonly id: string;
  /** Dense peak rates, FLOP/s. A missing precision is not supported in hardware. */
  readonly denseFlops: Readonly<Partial<Record<Precision, number>>>;
  readonly memoryBytes: number;
  readonly memoryBytesPerSecond: number;
  /** Between the accelerators of one node or scale-up domain (NVLink, PCIe). */
  readonly scaleUp: LinkSpec;
  /** Accelerators in one scale-up domain. */
  readonly scaleUpDevices: number;
  /** Between nodes, per accelerator (NIC). */
  readonly scaleOut: LinkSpec;
  /** To host memory. */
  readonly host: LinkSpec;
  /** Speed of softmax and exponent work against GB300 = 1; null: not known, taken as part of attention's efficiency. */
  readonly attentionAcceleration: number | null;
}

/** How one replica of a model is spread over accelerators. */
export interface Parallelism {
  /** Tensor parallelism: every layer over `tp` devices. */
  readonly tp: number;
  /** Pipeline parallelism: layers over `pp` stages. */
  readonly pp: number;
  /** Expert parallelism: experts over `ep` devices. 1: experts are split by tensor parallelism. */
  readonly ep: number;
  /** Attention data parallelism: groups of `tp` devices that each attend for their own sequences and share the experts. */
  readonly dp: number;
}
