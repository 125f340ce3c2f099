/** What a figure's key means. The bounds catch wrong units, such as bytes where gigabytes are meant. */
export interface FigureKind {
  readonly unit: string;
  readonly label: string;
  readonly min: number;
  readonly max: number;
}

function kind(unit: string, label: string, max: number, min = 0): FigureKind {
  return { unit, label, min, max };
}

const TFLOPS_MAX = 1_000_000;

/** Decimal units; link bandwidths per direction. A rate of 0 means that the part has no such path. */
export const ACCELERATOR_FIGURES = {
  "dense.bf16": kind("TFLOPS", "dense BF16", TFLOPS_MAX),
  "dense.fp8": kind("TFLOPS", "dense FP8", TFLOPS_MAX),
  "dense.fp4": kind("TFLOPS", "dense FP4", TFLOPS_MAX),
  "dense.int8": kind("TFLOPS", "dense INT8", TFLOPS_MAX),
  "dense.int4": kind("TFLOPS", "dense INT4", TFLOPS_MAX),
  "sparse.bf16": kind("TFLOPS", "sparse or conditional BF16", TFLOPS_MAX),
  "sparse.fp8": kind("TFLOPS", "sparse or conditional FP8", TFLOPS_MAX),
  "sparse.fp4": kind("TFLOPS", "sparse or conditional FP4", TFLOPS_MAX),
  "memory.capacity": kind("GB", "memory", 100_000),
  "memory.bandwidth": kind("GB/s", "memory bandwidth", 1_000_000),
  "scaleUp.bandwidth": kind("GB/s", "scale-up bandwidth", 100_000),
  "scaleUp.latency": kind("µs", "scale-up latency", 10_000),
  "scaleUp.devices": kind("devices", "scale-up domain", 100_000, 1),
  "scaleOut.bandwidth": kind("GB/s", "scale-out bandwidth", 100_000),
  "scaleOut.latency": kind("µs", "scale-out latency", 100_000),
  "host.bandwidth": kind("GB/s", "host bandwidth", 100_000),
  "host.latency": kind("µs", "host latency", 100_000),
  "power.tdp": kind("W", "thermal design power", 100_000),
  "power.idle": kind("W", "idle power", 100_000),
  "power.prefill": kind("W", "power in prefill", 100_000),
  "power.decode": kind("W", "power in decode", 100_000),
  "power.transfer": kind("W", "power while only moving KV", 100_000),
  "price.hour": kind("USD/h", "rent", 10_000),
  "price.purchase": kind("USD", "purchase", 10_000_000),
  "attention.acceleration": kind("x", "softmax rate against GB300", 1_000),
  "video.encoders": kind("engines", "video encoders", 1_000),
  "video.decoders": kind("engines", "video decoders", 1_000),
} as const satisfies Record<string, FigureKind>;

/** Of a whole system. `memory` counts the accelerators' memory alone. */
export const RACK_FIGURES = {
  "power.rack": kind("kW", "power", 10_000),
  "compute.fp4Dense": kind("PFLOPS", "dense FP4", 1_000_000),
  "compute.fp4Sparse": kind("PFLOPS", "sparse or headline FP4", 1_000_000),
  "compute.fp8Dense": kind("PFLOPS", "dense FP8", 1_000_000),
  "memory.capacity": kind("TB", "accelerator memory", 100_000),
  "memory.bandwidth": kind("TB/s", "accelerator memory bandwidth", 1_000_000),
  "memory.cpu": kind("TB", "CPU memory", 100_000),
  "memory.fast": kind("TB", "memory, as the vendor adds it up", 100_000),
  "scaleUp.bandwidth": kind("TB/s", "scale-up bandwidth, both directions", 1_000_000),
  "scaleOut.bandwidth": kind("TB/s", "scale-out bandwidth, both directions", 100_000),
  "price.purchase": kind("USD", "purchase", 1_000_000_000),
} as const satisfies Record<string, FigureKind>;

export const LINK_FIGURES = {
  bandwidth: kind("GB/s", "bandwidth per direction", 100_000),
  latency: kind("µs", "latency", 100_000),
} as const satisfies Record<string, FigureKind>;

/** Published sizes of a model; the shape itself is not a figure. */
export const MODEL_FIGURES = {
  "params.total": kind("billion", "parameters", 1_000_000),
  "params.active": kind("billion", "parameters that one token uses", 1_000_000),
} as const satisfies Record<string, FigureKind>;

export type AcceleratorFigureKey = keyof typeof ACCELERATOR_FIGURES;
export type RackFigureKey = keyof typeof RACK_FIGURES;
export type LinkFigureKey = keyof typeof LINK_FIGURES;
export type ModelFigureKey = keyof typeof MODEL_FIGURES;
