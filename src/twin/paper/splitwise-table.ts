import { SplitwisePerf, type SplitwiseRun } from "../../core/perf/paper/splitwise.ts";
import { readCsv } from "../csv-file.ts";
import { WorkloadError } from "../workload/workload.ts";

/** Memory of a machine of the paper: eight accelerators of 80 GiB. */
const MACHINE_BYTES = 8 * 80 * 2 ** 30;

/** What the paper's simulator knows of a model besides its times. */
const MODELS = {
  "bloom-176b": { weightBytes: 329e9, numLayers: 70, hiddenSize: 14_336 },
} as const;

export type SplitwiseModel = keyof typeof MODELS;

export const SPLITWISE_HARDWARE = ["a100-80gb", "h100-80gb", "h100-80gb-pcap"] as const;
export type SplitwiseHardware = (typeof SPLITWISE_HARDWARE)[number];

/** Bytes of KV per token: keys and values of 16 bits in every layer. */
export function splitwiseKvBytes(model: SplitwiseModel): number {
  const { numLayers, hiddenSize } = MODELS[model];
  return 2 * 2 * numLayers * hiddenSize;
}

/** KV that fits a machine beside the weights, in tokens; not a whole number. */
export function splitwiseKvTokens(model: SplitwiseModel): number {
  return (MACHINE_BYTES - MODELS[model].weightBytes) / splitwiseKvBytes(model);
}

/**
 * Reads the simulator's `perf_model.csv`: measured runs of one model on machines of eight accelerators, by hardware. Throws
 * `CsvError` for a file of another form, and `WorkloadError` when a machine is missing.
 */
export function readSplitwiseTable(
  file: string,
  model: SplitwiseModel,
): Map<SplitwiseHardware, SplitwisePerf> {
  const runs = new Map<string, SplitwiseRun[]>(SPLITWISE_HARDWARE.map((name) => [name, []]));
  const names = ["model", "hardware", "prompt_size", "batch_size", "prompt_time", "token_time"];
  for (const row of readCsv(file, [...names, "tensor_parallel"])) {
    if (row.text("model") !== model || row.count("tensor_parallel", 1) !== 8) continue;
    runs.get(row.text("hardware"))?.push({
      batchTokens: row.count("prompt_size", 1) * row.count("batch_size", 1),
      promptMs: row.number("prompt_time", { min: 0 }),
      tokenMs: row.number("token_time", { min: 0 }),
    });
  }
  const perfs = new Map<SplitwiseHardware, SplitwisePerf>();
  for (const hardware of SPLITWISE_HARDWARE) {
    const ofHardware = runs.get(hardware)!;
    const numSizes = new Set(ofHardware.map(({ batchTokens }) => batchTokens)).size;
    if (numSizes < 2)
      throw new WorkloadError(file, 1, `has fewer than two batch sizes of ${model} on ${hardware}, TP 8`);
    const kv = {
      kvCapacityTokens: Math.floor(splitwiseKvTokens(model)),
      kvBytesPerToken: splitwiseKvBytes(model),
    };
    perfs.set(hardware, new SplitwisePerf({ runs: ofHardware, ...kv }));
  }
  return perfs;
}
