import type { LinkSpec } from "../../core/perf/device-spec.ts";
import {
  type AttentionKernel,
  decodeAttentionCoordinates,
  decodeAttentionRooflineMs,
  prefillAttentionCoordinates,
  prefillAttentionRooflineMs,
} from "../../core/perf/operators/attention.ts";
import {
  type Collective,
  collectiveCoordinates,
  collectiveRooflineMs,
} from "../../core/perf/operators/collectives.ts";
import { MAX_COORDINATES } from "../../core/perf/operators/efficiency.ts";
import { type GemmFormat, gemmCoordinates, gemmRooflineMs } from "../../core/perf/operators/gemm.ts";
import {
  type MlaKernel,
  mlaCoordinates,
  mlaDecodeRooflineMs,
  mlaPrefillRooflineMs,
} from "../../core/perf/operators/mla.ts";
import { type MoeKernel, moeCoordinates, moeRooflineMs } from "../../core/perf/operators/moe.ts";
import type { RooflineRates } from "../../core/perf/operators/roofline.ts";
import type { TableRow } from "./parquet-rows.ts";

/** One measured kernel in the terms of the perf model. */
export interface KernelMeasurement {
  /** Operator class and variant, as the efficiencies are named. */
  readonly key: string;
  /** Name of the class for error tables: `gemm`, `context_attention`, … */
  readonly metric: string;
  readonly coordinates: readonly number[];
  readonly rooflineMs: number;
  readonly measuredMs: number;
  /** What was measured, apart from device and software: rows of one shape are left out together. */
  readonly shape: string;
}

/** Rates that rooflines are computed with. */
export type ReferenceRates = RooflineRates & { readonly scaleUp: LinkSpec };

/** A row in the perf model's terms, or the reason why it has none. */
export type RowResult = KernelMeasurement | { readonly reason: string };

type RowReader = (row: TableRow, rates: ReferenceRates) => RowResult;

/** Readers by the file's name without `_perf.parquet`. */
const READERS: Readonly<Record<string, RowReader>> = {
  gemm: readGemm,
  context_attention: readContextAttention,
  generation_attention: readGenerationAttention,
  mla_context_module: (row, rates) => readMla(row, rates, true),
  mla_generation_module: (row, rates) => readMla(row, rates, false),
  moe: readMoe,
  custom_allreduce: readCustomAllReduce,
  nccl: readNccl,
};

/** The reader of a table, by its operator's name, or null when the perf model has nothing to compare with. */
export function readerOf(operator: string): RowReader | null {
  return READERS[operator] ?? null;
}

/** Operators that have a reader. */
export const KNOWN_OPERATORS: readonly string[] = Object.keys(READERS);

/** GEMM formats by the names in the tables. */
const FORMATS: Readonly<Record<string, GemmFormat>> = {
  bfloat16: "bf16",
  float16: "bf16",
  fp8: "fp8",
  fp8_block: "fp8-block",
  nvfp4: "fp4",
  int8_wo: "int8",
  int4_wo: "int4",
  w4a16_mxfp4: "mxfp4-bf16",
};

const KV_BYTES: Readonly<Record<string, number>> = { bfloat16: 2, float16: 2, fp8: 1, int8: 1 };

/** DeepSeek-V3, whose sizes the latent modules are measured with. */
const MLA_SIZES = {
  hiddenSize: 7168,
  qLoraRank: 1536,
  kvLoraRank: 512,
  ropeHeadDim: 64,
  nopeHeadDim: 128,
  vHeadDim: 128,
} as const;

const scratch = new Float64Array(MAX_COORDINATES);

function readGemm(row: TableRow, rates: ReferenceRates): RowResult {
  const format = FORMATS[text(row, "gemm_dtype")];
  if (format === undefined) return { reason: `gemm_dtype ${text(row, "gemm_dtype")} is not known` };
  const [m, n, k] = [count(row, "m"), count(row, "n"), count(row, "k")];
  gemmCoordinates(scratch, m, n, k, true);
  return measurement(row, {
    key: `gemm/${format}`,
    metric: "gemm",
    coordinates: Array.from(scratch.subarray(0, 4)),
    rooflineMs: gemmRooflineMs(rates, format, m, n, k),
    shape: `${m} ${n} ${k}`,
  });
}

function readContextAttention(row: TableRow, rates: ReferenceRates): RowResult {
  const kernel = attentionKernel(row);
  if ("reason" in kernel) return kernel;
  const [sequences, tokens, context] = [count(row, "batch_size"), count(row, "isl"), Number(row.step ?? 0)];
  prefillAttentionCoordinates(scratch, kernel, sequences, tokens, context);
  return measurement(row, {
    ...attentionKey("prefill-attention", kernel),
    metric: "context_attention",
    rooflineMs: prefillAttentionRooflineMs(rates, kernel, sequences, tokens, context),
    shape: `${sequences} ${tokens} ${context} ${kernel.numHeads} ${kernel.numKvHeads} ${kernel.headDim} ${kernel.windowTokens}`,
  });
}

function readGenerationAttention(row: TableRow, rates: ReferenceRates): RowResult {
  const kernel = attentionKernel(row);
  if ("reason" in kernel) return kernel;
  const [sequences, context] = [count(row, "batch_size"), count(row, "isl") + Number(row.step ?? 0)];
  decodeAttentionCoordinates(scratch, kernel, sequences, context);
  return measurement(row, {
    ...attentionKey("decode-attention", kernel),
    metric: "generation_attention",
    rooflineMs: decodeAttentionRooflineMs(rates, kernel, sequences, context),
    shape: `${sequences} ${context} ${kernel.numHeads} ${kernel.numKvHeads} ${kernel.headDim} ${kernel.windowTokens}`,
  });
}

/** Key and coordinates, which stand in the scratch array. */
function attentionKey(
  operator: string,
  kernel: AttentionKernel,
): Pick<KernelMeasurement, "key" | "coordinates"> {
  const key = `${operator}/${kernel.kvBytes >= 2 ? "bf16" : "fp8"}`;
  const isWindowed = Number.isFinite(kernel.windowTokens);
  return {
    key: isWindowed ? `${key}/window` : key,
    coordinates: Array.from(scratch.subarray(0, isWindowed ? 5 : 4)),
  };
}

function attentionKernel(row: TableRow): AttentionKernel | { readonly reason: string } {
  const kvBytes = KV_BYTES[text(row, "kv_cache_dtype")];
  if (kvBytes === undefined) return { reason: `kv_cache_dtype ${text(row, "kv_cache_dtype")} is not known` };
  const window = Number(row.window_size ?? 0);
  return {
    numHeads: count(row, "num_heads"),
    numKvHeads: count(row, "num_key_value_heads"),
    headDim: count(row, "head_dim"),
    kvBytes,
    windowTokens: window > 0 ? window : Number.POSITIVE_INFINITY,
  };
}

function readMla(row: TableRow, rates: ReferenceRates, isContext: boolean): RowResult {
  const format = FORMATS[text(row, "gemm_type")];
  const kvBytes = KV_BYTES[text(row, "kv_cache_dtype")];
  if (format === undefined || kvBytes === undefined)
    return {
      reason: `gemm_type ${text(row, "gemm_type")} with kv_cache_dtype ${text(row, "kv_cache_dtype")} is not known`,
    };
  if (!text(row, "architecture").startsWith("DeepseekV3"))
    return { reason: `architecture ${text(row, "architecture")}: only DeepseekV3 has known sizes` };
  const kernel: MlaKernel = { ...MLA_SIZES, numHeads: count(row, "num_heads"), kvBytes, format };
  const sequences = count(row, "batch_size");
  const step = Number(row.step ?? 0);
  const length = isContext ? count(row, "isl") : Math.max(1, step);
  mlaCoordinates(scratch, length, sequences, kernel.numHeads);
  const kv = kvBytes >= 2 ? "bf16" : "fp8";
  // The attention itself in FP8 is a variant of its own.
  const suffix = text(row, "mla_dtype") === "fp8" ? "/fp8" : "";
  return measurement(row, {
    key: `${isContext ? "mla-prefill" : "mla-decode"}/${format}/${kv}${suffix}`,
    metric: isContext ? "mla_context_module" : "mla_generation_module",
    coordinates: Array.from(scratch.subarray(0, 3)),
    rooflineMs: isContext
      ? mlaPrefillRooflineMs(rates, kernel, sequences, length, step)
      : mlaDecodeRooflineMs(rates, kernel, sequences, length),
    shape: `${sequences} ${length} ${kernel.numHeads}`,
  });
}

function readMoe(row: TableRow, rates: ReferenceRates): RowResult {
  const format = FORMATS[text(row, "moe_dtype")];
  if (format === undefined) return { reason: `moe_dtype ${text(row, "moe_dtype")} is not known` };
  const skew = skewOf(text(row, "distribution"));
  if (skew === null) return { reason: `distribution ${text(row, "distribution")} is not known` };
  const tp = count(row, "moe_tp_size");
  const kernel: MoeKernel = {
    hiddenSize: count(row, "hidden_size"),
    intermediateSize: count(row, "inter_size") / tp,
    numExperts: count(row, "num_experts"),
    expertsPerToken: count(row, "topk"),
    expertParallel: count(row, "moe_ep_size"),
    format,
  };
  const tokens = count(row, "num_tokens");
  moeCoordinates(scratch, kernel, skew, tokens);
  return measurement(row, {
    key: `moe/${format}`,
    metric: "moe",
    coordinates: Array.from(scratch.subarray(0, 5)),
    rooflineMs: moeRooflineMs(rates, kernel, tokens),
    shape: `${tokens} ${kernel.hiddenSize} ${kernel.intermediateSize} ${kernel.numExperts} ${kernel.expertsPerToken} ${kernel.expertParallel}`,
  });
}

/** The exponent in `power_law_1.2`; 0 for `balanced`. */
function skewOf(distribution: string): number | null {
  if (distribution === "balanced" || distribution === "uniform") return 0;
  const exponent = Number(/^power_law_([\d.]+)$/.exec(distribution)?.[1] ?? Number.NaN);
  return Number.isFinite(exponent) ? exponent : null;
}

function readCustomAllReduce(row: TableRow, rates: ReferenceRates): RowResult {
  const isEager = String(row.backend ?? row.kernel_source ?? "").includes("eager");
  const key = isEager ? "all-reduce/eager" : "all-reduce";
  return readCollective(row, rates, key, "all-reduce", isEager ? "allreduce_eager" : "allreduce", 2);
}

const NCCL_COLLECTIVES: Readonly<Record<string, Collective>> = {
  all_reduce: "all-reduce",
  all_gather: "all-gather",
  reduce_scatter: "reduce-scatter",
  alltoall: "all-to-all",
};

function readNccl(row: TableRow, rates: ReferenceRates): RowResult {
  const collective = NCCL_COLLECTIVES[text(row, "op_name")];
  if (collective === undefined) return { reason: `op_name ${text(row, "op_name")} is not known` };
  const key = collective === "all-reduce" ? "all-reduce/nccl" : collective;
  const elementBytes = text(row, "nccl_dtype") === "int8" ? 1 : 2;
  return readCollective(row, rates, key, collective, `nccl_${text(row, "op_name")}`, elementBytes);
}

/** Message sizes in the tables are elements. */
function readCollective(
  row: TableRow,
  rates: ReferenceRates,
  key: string,
  collective: Collective,
  metric: string,
  elementBytes: number,
): RowResult {
  const [devices, bytes] = [count(row, "num_gpus"), count(row, "message_size") * elementBytes];
  collectiveCoordinates(scratch, devices, bytes);
  return measurement(row, {
    key,
    metric,
    coordinates: Array.from(scratch.subarray(0, 2)),
    rooflineMs: collectiveRooflineMs(rates.scaleUp, collective, devices, bytes),
    shape: `${devices} ${bytes}`,
  });
}

function measurement(row: TableRow, rest: Omit<KernelMeasurement, "measuredMs">): RowResult {
  const measuredMs = Number(row.latency);
  if (!(measuredMs > 0) || !Number.isFinite(measuredMs)) return { reason: `latency ${String(row.latency)}` };
  if (!rest.coordinates.every(Number.isFinite) || !(rest.rooflineMs > 0))
    return { reason: "a size is missing, zero or no number" };
  return { ...rest, measuredMs };
}

function text(row: TableRow, column: string): string {
  return String(row[column] ?? "");
}

function count(row: TableRow, column: string): number {
  return Number(row[column] ?? Number.NaN);
}
