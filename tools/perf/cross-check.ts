/**
 * Compares the fitted kernels with profiles that no coefficient was fitted on: Vidur's (another engine and year) and LLMServingSim's.
 *
 *   node --import tsx tools/perf/cross-check.ts ../shared/silicon
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { validationModel } from "../../src/catalog/models-validation.ts";
import { efficienciesOf } from "../../src/core/perf/efficiencies.ts";
import { KernelTimes } from "../../src/core/perf/kernel-times.ts";
import type { AttentionKernel } from "../../src/core/perf/operators/attention.ts";
import { readCsv } from "../../src/twin/csv-file.ts";
import { ErrorSample } from "../../src/twin/validate/error-stats.ts";
import { deviceOfSystem } from "../../src/twin/validate/systems.ts";

const [root = "../shared/silicon"] = process.argv.slice(2);

function kernelsOf(system: string): KernelTimes {
  const device = deviceOfSystem(system);
  if (device === null) throw new Error(`no system ${system}`);
  const { rates, lookup } = efficienciesOf(device, undefined);
  return new KernelTimes(rates, lookup);
}

/** Matrices of a layer by Vidur's names: columns and rows of a device's share. */
function vidurGemms(values: Readonly<Record<string, string>>): ReadonlyArray<[string, number, number]> {
  const [hidden, wide] = [Number(values.n_embd), Number(values.n_expanded_embd)];
  const tp = Number(values.num_tensor_parallel_workers);
  const headDim = hidden / Number(values.n_head);
  const gated = values.use_gated_mlp === "True" ? 2 : 1;
  const kv = Math.max(1, Number(values.n_kv_head) / tp) * headDim;
  return [
    ["attn_pre_proj", hidden / tp + 2 * kv, hidden],
    ["attn_post_proj", hidden, hidden / tp],
    ["mlp_up_proj", (gated * wide) / tp, hidden],
    ["mlp_down_proj", hidden, wide / tp],
  ];
}

async function vidur(device: string, system: string, model: string): Promise<void> {
  const kernels = kernelsOf(system);
  const errors = new ErrorSample();
  for (const { values } of readCsv(join(root, `vidur/compute/${device}/${model}/mlp.csv`), ["num_tokens"]))
    for (const [name, n, k] of vidurGemms(values)) {
      const measured = Number(values[`time_stats.${name}.median`]);
      if (measured > 0) errors.add(kernels.gemmMs("bf16", Number(values.num_tokens), n, k), measured);
    }
  console.log(`vidur ${device} ${model} gemm`, errors.stats());
}

async function servingSim(folder: string, path: string, tp: number): Promise<void> {
  const model = validationModel(path);
  const base = join(root, `llmservingsim/profiler/perf/RTXPRO6000/${folder}/bf16/tp${tp}`);
  if (model === null || model.attention.kind !== "gqa" || !existsSync(base)) return;
  const kernels = kernelsOf("rtx_pro_6000_server");
  const { numHeads, numKvHeads, headDim } = model.attention;
  const kernel: AttentionKernel = {
    numHeads: numHeads / tp,
    numKvHeads: Math.max(1, numKvHeads / tp),
    headDim,
    kvBytes: 2,
    windowTokens: Number.POSITIVE_INFINITY,
  };
  const hidden = model.hiddenSize;
  const width = model.ffn.kind === "dense" ? model.ffn.intermediateSize / tp : 0;
  const shapes: Readonly<Record<string, [number, number]>> = {
    qkv_proj: [(kernel.numHeads + 2 * kernel.numKvHeads) * headDim, hidden],
    o_proj: [hidden, kernel.numHeads * headDim],
    ...(width > 0 ? { gate_up_proj: [2 * width, hidden], down_proj: [hidden, width] } : {}),
  };
  const gemm = new ErrorSample();
  for (const { values } of readCsv(join(base, "dense.csv"), ["layer", "tokens", "time_us"])) {
    const shape = shapes[values.layer ?? ""];
    if (shape !== undefined)
      gemm.add(kernels.gemmMs("bf16", Number(values.tokens), ...shape), Number(values.time_us) / 1e3);
  }
  const [prefill, decode] = [new ErrorSample(), new ErrorSample()];
  for (const { values } of readCsv(join(base, "attention.csv"), ["prefill_chunk", "time_us"])) {
    const [chunk, cached] = [Number(values.prefill_chunk), Number(values.kv_prefill)];
    const [sequences, context] = [Number(values.n_decode), Number(values.kv_decode)];
    const measured = Number(values.time_us) / 1e3;
    if (sequences === 0 && chunk > 0)
      prefill.add(kernels.prefillAttentionMs(kernel, 1, chunk, cached), measured);
    if (chunk === 0 && sequences > 0)
      decode.add(kernels.decodeAttentionMs(kernel, sequences, context), measured);
  }
  for (const [name, errors] of Object.entries({ gemm, prefill, decode }))
    console.log(`llmservingsim RTX PRO 6000 ${folder} tp${tp} ${name}`, errors.stats());
}

await vidur("h100", "h100_sxm", "meta-llama/Llama-2-70b-hf");
await vidur("h100", "h100_sxm", "codellama/CodeLlama-34b-Instruct-hf");
await vidur("a100", "a100_sxm", "meta-llama/Meta-Llama-3-8B");
await vidur("a100", "a100_sxm", "meta-llama/Llama-2-70b-hf");
await servingSim("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B", 1);
await servingSim("Qwen/Qwen3-32B", "Qwen/Qwen3-32B", 2);
