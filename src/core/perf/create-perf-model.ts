import { checkDeployment, type PerfProblem } from "./deployment-check.ts";
import type { DeviceSpec, Parallelism } from "./device-spec.ts";
import type { KernelTables } from "./efficiencies.ts";
import type { EngineCalibration } from "./engine-calibration.ts";
import { kvCapacity } from "./kv-capacity.ts";
import { handoffTail, kvBytesPerToken, type ModelFormats } from "./model-bytes.ts";
import type { ModelShape } from "./model-shape.ts";
import type { AttentionMath } from "./operators/attention.ts";
import type { GemmFormat } from "./operators/gemm.ts";
import type { PerfModel } from "./perf-model.ts";
import { BYTES_PER_ELEMENT, type Precision } from "./precision.ts";
import { StepCosts } from "./step-costs.ts";
import { type HostCosts, StepPricer } from "./step-pricer.ts";

/** What a perf model is made from. */
export interface PerfModelOptions {
  readonly device: DeviceSpec;
  readonly model: ModelShape;
  readonly parallelism: Parallelism;
  /** Of all matrices. */
  readonly weightPrecision: Precision;
  readonly kvPrecision: Precision;
  /** Of activations: as the weights (default), or bf16 with FP4 weights, which are then widened in the kernel. */
  readonly activationPrecision?: Precision;
  /** What attention multiplies queries, keys and values in. Default bf16, as measured kernels do even where KV is FP8. */
  readonly attentionMath?: AttentionMath;
  /** FP8 weights have a scale per 128 x 128 block (DeepSeek's format) instead of one per channel. */
  readonly hasBlockScales?: boolean;
  /** Most tokens of one step: sizes the activations. */
  readonly tokenBudget: number;
  /** Most sequences at once: sizes logits, window caches and recurrent states. Default 256. */
  readonly maxRunning?: number;
  /** Share of device memory that weights, activations and KV may take together, as engines let one choose. */
  readonly memoryUtilisation: number;
  /** Bytes per device that the runtime, its graphs and communication buffers take. Default {@link RUNTIME_RESERVE_BYTES}. */
  readonly reserveBytes?: number;
  /** KV comes in blocks of so many tokens. Default 16. */
  readonly blockTokens?: number;
  readonly host: HostCosts;
  /** Exponent of the power law by which experts are chosen; 0: evenly. Default {@link ROUTING_SKEW}. */
  readonly routingSkew?: number;
  /** How the engine's steps differ from bare kernels. Default: not at all. */
  readonly calibration?: EngineCalibration;
  /** Measured tables of the device; what they lack is fitted. */
  readonly tables?: KernelTables;
}

/**
 * What a CUDA context, captured graphs and communication buffers take per device, by typical engine start-up logs. An assumption
 * where the engine's real block count is not known.
 */
export const RUNTIME_RESERVE_BYTES = 1.5e9;

/** The unevenness that AIConfigurator measures its expert tables with, next to an even load. */
export const ROUTING_SKEW = 1.2;

const DEFAULT_MAX_RUNNING = 256;
const DEFAULT_BLOCK_TOKENS = 16;

/** A perf model, or why there is none. */
export type PerfModelResult =
  | { readonly model: PerfModel; readonly problem: null }
  | { readonly model: null; readonly problem: PerfProblem };

/** Makes the perf model of one replica, or says why the deployment is impossible: parallelism, precision or memory. */
export function createPerfModel(options: PerfModelOptions): PerfModelResult {
  const { device, model, parallelism } = options;
  const { weightPrecision: weights, activationPrecision: activations = weights } = options;
  // FP4 weights can be widened in the kernel; no other pair of formats has a price.
  if (activations !== weights && !(weights === "fp4" && activations === "bf16")) {
    const message = `activations in ${activations} with weights in ${weights} have no price; allowed are ${weights}, and bf16 with fp4 weights`;
    return { model: null, problem: { code: "precision", message } };
  }
  const formats = formatsOf(options);
  const problem = checkDeployment(options, formats);
  if (problem !== null) return { model: null, problem };
  const maxRunning = options.maxRunning ?? DEFAULT_MAX_RUNNING;
  const capacity = kvCapacity({
    device,
    model,
    parallelism,
    formats,
    tokenBudget: options.tokenBudget,
    maxRunning,
    memoryUtilisation: options.memoryUtilisation,
    reserveBytes: options.reserveBytes ?? RUNTIME_RESERVE_BYTES,
    blockTokens: options.blockTokens ?? DEFAULT_BLOCK_TOKENS,
  });
  if (capacity.problem !== null) return { model: null, problem: capacity.problem };
  const costs = new StepCosts({
    device,
    model,
    parallelism,
    formats,
    routingSkew: options.routingSkew ?? ROUTING_SKEW,
    ...(options.calibration === undefined ? {} : { calibration: options.calibration }),
    ...(options.tables === undefined ? {} : { tables: options.tables }),
  });
  const pricer = new StepPricer({
    costs,
    parallelism,
    tokenBudget: options.tokenBudget,
    maxRunning,
    maxContextTokens: model.maxContextTokens,
    host: options.host,
    kvCapacityTokens: capacity.tokens,
    kvBytesPerToken: kvBytesPerToken(model, formats),
    handoffTail: handoffTail(model, formats),
  });
  return { model: pricer, problem: null };
}

/** The formats that kernels see, from the precisions of weights, activations and KV. */
function formatsOf(options: PerfModelOptions): ModelFormats {
  const { weightPrecision, activationPrecision, hasBlockScales } = options;
  const format = gemmFormat(weightPrecision, activationPrecision ?? weightPrecision, hasBlockScales === true);
  return {
    attention: format,
    ffn: format,
    kvBytes: BYTES_PER_ELEMENT[options.kvPrecision],
    attentionMath: options.attentionMath ?? "bf16",
  };
}

function gemmFormat(weights: Precision, activations: Precision, hasBlockScales: boolean): GemmFormat {
  switch (weights) {
    case "fp8":
      return hasBlockScales ? "fp8-block" : "fp8";
    case "fp4":
      return activations === "bf16" ? "mxfp4-bf16" : "fp4";
    default:
      return weights;
  }
}
