import type { PerfModelOptions } from "./create-perf-model.ts";
import type { ModelFormats } from "./model-bytes.ts";
import { GEMM_FORMATS, type GemmFormat } from "./operators/gemm.ts";
import type { RooflineRates } from "./operators/roofline.ts";

/** Why a deployment cannot be. `message` says what is allowed. */
export interface PerfProblem {
  readonly code: "parallelism" | "precision" | "memory" | "device";
  readonly message: string;
}

/** Checks parallelism and precision against model and device; memory is checked by `kvCapacity`. */
export function checkDeployment(options: PerfModelOptions, formats: ModelFormats): PerfProblem | null {
  const { device, model, parallelism } = options;
  const { tp, pp, ep, dp } = parallelism;
  const bad = (message: string): PerfProblem => ({
    code: "parallelism",
    message: `${model.name}: ${message}`,
  });
  for (const [name, value] of Object.entries({ tp, pp, ep, dp }))
    if (!Number.isInteger(value) || value < 1)
      return bad(`${name} is ${value}; allowed are whole numbers from 1`);
  if (model.attention.numHeads % tp !== 0)
    return bad(`tp ${tp} does not divide its ${model.attention.numHeads} attention heads`);
  if (pp > model.numLayers) return bad(`pp ${pp} is more than its ${model.numLayers} layers`);
  if (model.ffn.kind === "dense" && ep > 1) return bad(`ep ${ep}, but it has no experts; allowed is 1`);
  if (model.ffn.kind === "moe" && (tp * dp) % ep !== 0)
    return bad(`ep ${ep} does not divide the ${tp * dp} devices of a stage (tp x dp)`);
  if (!(device.memoryBytesPerSecond > 0) || !(device.memoryBytes > 0) || !((device.denseFlops.bf16 ?? 0) > 0))
    return {
      code: "device",
      message: `${device.id}: memory size, memory bandwidth and BF16 rate must be known to price steps`,
    };
  for (const format of [formats.attention, formats.ffn]) {
    const problem = checkFormat(device.id, device, format);
    if (problem !== null) return problem;
  }
  if (formats.attentionMath === "fp8" && device.denseFlops.fp8 === undefined)
    return { code: "precision", message: `${device.id} has no known fp8 rate, which attention in fp8 needs` };
  return null;
}

function checkFormat(
  id: string,
  rates: Pick<RooflineRates, "denseFlops">,
  format: GemmFormat,
): PerfProblem | null {
  const needed = GEMM_FORMATS[format].computesIn;
  if (rates.denseFlops[needed] !== undefined) return null;
  const known = Object.keys(rates.denseFlops).join(", ");
  return {
    code: "precision",
    message: `${id} has no known ${needed} rate, which ${format} weights need; it has ${known}`,
  };
}
