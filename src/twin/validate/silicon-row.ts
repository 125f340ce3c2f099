import { validationModel } from "../../catalog/models-validation.ts";
import type { DeviceSpec, Parallelism } from "../../core/perf/device-spec.ts";
import type { ModelFormats } from "../../core/perf/model-bytes.ts";
import type { ModelShape } from "../../core/perf/model-shape.ts";
import type { GemmFormat } from "../../core/perf/operators/gemm.ts";
import type { CsvRow } from "../csv-file.ts";
import { deviceOfSystem } from "./systems.ts";

/** Columns of AIConfigurator's table of end-to-end measurements that are read. */
export const SILICON_COLUMNS: readonly string[] = [
  "id",
  "backend",
  "model_path",
  "system",
  "mode",
  "isl",
  "osl",
  "gemm_quant_mode",
  "moe_quant_mode",
  "batch_size",
  "tp_size",
  "attention_dp_size",
  "moe_tp_size",
  "moe_ep_size",
  "silicon_ttft_ms",
  "silicon_tpot_ms",
];

/** Workers of one kind. */
export interface Pool {
  readonly parallelism: Parallelism;
  readonly workers: number;
}

/** A measured deployment under a closed loop of clients. */
export interface SiliconRow {
  readonly id: string;
  readonly engine: string;
  /** Load generators differ in how they start and end a run, which shows in the time to the first token. */
  readonly loadGenerator: "inferencex" | "other";
  readonly system: string;
  readonly device: DeviceSpec;
  readonly model: ModelShape;
  readonly formats: ModelFormats;
  /** Mean lengths. */
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Requests in flight, over all workers. */
  readonly concurrency: number;
  /** Aggregated: `decode` alone. */
  readonly prefill: Pool | null;
  readonly decode: Pool;
  readonly ttftMs: number;
  readonly tpotMs: number;
}

/** Devices that one aggregated replica of these measurements has at most; larger figures add up the workers of a fleet. */
const MAX_REPLICA_DEVICES = 16;

/** Mean length as a share of the nominal one where lengths are drawn evenly from its last fifth, as InferenceX does. */
const INFERENCEX_LENGTH_SHARE = 0.9;

/** A row in the perf model's terms, or the reason why it cannot be predicted. */
export function siliconRow({ values }: Pick<CsvRow, "values">): SiliconRow | { readonly reason: string } {
  const model = validationModel(values.model_path ?? "");
  if (model === null) return { reason: `model ${values.model_path} is not known` };
  const device = deviceOfSystem(values.system ?? "");
  if (device === null) return { reason: `system ${values.system} is not known` };
  const formats = formatsOf(values, model, device);
  if ("reason" in formats) return formats;
  const ttftMs = Number(values.silicon_ttft_ms);
  const tpotMs = Number(values.silicon_tpot_ms);
  if (!(ttftMs > 0) || !(tpotMs > 0)) return { reason: "no measured silicon_ttft_ms and silicon_tpot_ms" };
  const isDisaggregated = values.mode === "disagg";
  if (!isDisaggregated && values.mode !== "agg")
    return { reason: `mode ${values.mode} is neither agg nor disagg` };
  const decode = poolOf(values, isDisaggregated ? "decode_" : "", model);
  if ("reason" in decode) return decode;
  const prefill = isDisaggregated ? poolOf(values, "prefill_", model) : null;
  if (prefill !== null && "reason" in prefill) return prefill;
  const loadGenerator = isInferenceX(values.silicon_data_source ?? "") ? "inferencex" : "other";
  const share = loadGenerator === "inferencex" ? INFERENCEX_LENGTH_SHARE : 1;
  const inputTokens = Math.round(Number(values.isl) * share);
  const outputTokens = Math.round(Number(values.osl) * share);
  if (!(inputTokens >= 1) || !(outputTokens >= 2))
    return { reason: `isl ${values.isl} and osl ${values.osl}` };
  const concurrency = concurrencyOf(values, isDisaggregated, decode);
  if (!(concurrency >= 1)) return { reason: "neither silicon_concurrency nor a batch size" };
  return {
    id: values.id ?? "",
    engine: values.backend ?? "",
    loadGenerator,
    system: values.system ?? "",
    device,
    model,
    formats,
    inputTokens,
    outputTokens,
    concurrency,
    prefill,
    decode,
    ttftMs,
    tpotMs,
  };
}

function isInferenceX(source: string): boolean {
  return source.startsWith("db-dump") || /^source_file=\d{4}-\d\d-\d\d\.csv/.test(source);
}

function concurrencyOf(values: CsvRow["values"], isDisaggregated: boolean, decode: Pool): number {
  const stated = /silicon_concurrency=([\d.]+)/.exec(values.silicon_data_source ?? "");
  if (stated !== null) return Number(stated[1]);
  const batch = Number(isDisaggregated ? values.decode_batch_size : values.batch_size);
  return batch * decode.parallelism.dp * decode.workers;
}

/** Parallelism of a pool; its columns start with `prefix`. */
function poolOf(
  values: CsvRow["values"],
  prefix: string,
  model: ModelShape,
): Pool | { readonly reason: string } {
  const sizes = ["tp_size", "attention_dp_size", "moe_ep_size", "moe_tp_size", "pp_size"];
  const bad = sizes.find((column) => !/^(\d{1,4}(\.0)?)?$/.test(values[`${prefix}${column}`] ?? ""));
  if (bad !== undefined) return { reason: `${prefix}${bad} is ${values[`${prefix}${bad}`]}` };
  // Empty and 0 both mean that the work is not split that way.
  const positive = (column: string): number => Math.max(1, Number(values[`${prefix}${column}`] || 1));
  const workersText = values[`${prefix}num_workers`];
  if (prefix !== "" && !(Number(workersText) > 0))
    return { reason: `${prefix}num_workers is missing: how many workers share the load is not known` };
  if (prefix !== "" && (values[`${prefix}tp_size`] ?? "") === "")
    return { reason: `${prefix}tp_size is missing` };
  let [tp, dp] = [positive("tp_size"), positive("attention_dp_size")];
  let ep = positive("moe_ep_size");
  const moeTp = positive("moe_tp_size");
  const pp = positive("pp_size");
  // Some rows count the same devices twice: as tensor parallel and as expert parallel. Their ids state the true number.
  if (ep > 1 && moeTp === ep && tp * dp === ep * ep) {
    if (tp > 1) tp = ep;
    else dp = ep;
  } else if (dp > 1 && tp === dp && ep === tp * dp && moeTp === 1) {
    tp = 1;
    ep = dp;
  } else if (model.ffn.kind === "moe" && moeTp * ep > tp * dp && (moeTp * ep) % tp === 0) {
    dp = (moeTp * ep) / tp;
  }
  if (model.ffn.kind === "dense") ep = 1;
  if (prefix === "" && tp * dp > MAX_REPLICA_DEVICES)
    return { reason: `${tp * dp} devices in one aggregated replica: they are those of a whole fleet` };
  if (model.attention.numHeads % tp !== 0)
    return { reason: `tp ${tp} does not divide ${model.attention.numHeads} attention heads` };
  if ((tp * dp) % ep !== 0) return { reason: `ep ${ep} does not divide ${tp * dp} devices` };
  return { parallelism: { tp, pp, ep, dp }, workers: prefix === "" ? 1 : Number(workersText) };
}

const GEMM_MODES: Readonly<Record<string, GemmFormat>> = {
  "": "bf16",
  bfloat16: "bf16",
  fp8: "fp8",
  fp8_block: "fp8-block",
  nvfp4: "fp4",
  int4_wo: "int4",
  int8_wo: "int8",
  w4a16_mxfp4: "mxfp4-bf16",
};

/** Models whose public FP8 weights have block scales. */
const BLOCK_SCALED = /DeepSeek|MiniMax|Qwen3\.5|Qwen3-235B|GLM-5|Kimi/;

/** What the quantised checkpoints leave in BF16, and which KV the engines choose, beyond what the columns say. */
function formatsOf(
  values: CsvRow["values"],
  model: ModelShape,
  device: DeviceSpec,
): ModelFormats | { readonly reason: string } {
  let attention = GEMM_MODES[values.gemm_quant_mode ?? ""];
  let ffn = model.ffn.kind === "moe" ? GEMM_MODES[values.moe_quant_mode ?? ""] : attention;
  if (attention === undefined || ffn === undefined)
    return { reason: `gemm_quant_mode ${values.gemm_quant_mode}, moe_quant_mode ${values.moe_quant_mode}` };
  if (ffn === "fp8" && BLOCK_SCALED.test(model.name)) ffn = "fp8-block";
  if (attention === "fp8" && BLOCK_SCALED.test(model.name)) attention = "fp8-block";
  // On devices with FP4, engines multiply MXFP4 weights by narrow activations too.
  const hasFp4 = device.denseFlops.fp4 !== undefined;
  if (model.name.startsWith("gpt-oss")) [attention, ffn] = ["bf16", hasFp4 ? "fp4" : "mxfp4-bf16"];
  // Checkpoints with 4-bit experts keep attention in BF16.
  if (model.ffn.kind === "moe" && (ffn === "fp4" || ffn === "int4")) attention = "bf16";
  const isQuantised = (values.gemm_quant_mode ?? "") !== "";
  const kvBytes = values.backend === "trtllm" && isQuantised ? 1 : 2;
  if (ffn === "fp4" && device.denseFlops.fp4 === undefined)
    return { reason: `nvfp4 on ${values.system}, which has no FP4` };
  return { attention, ffn, kvBytes };
}
