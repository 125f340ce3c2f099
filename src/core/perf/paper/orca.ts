import type { HostTimes, PerfModel, StepTime } from "../perf-model.ts";
import type { StepLoad } from "../step-load.ts";

/** GPT-3 175B (Brown et al., 2020): parameters, layers, hidden size; weights and KV of 16 bits. */
const NUM_PARAMETERS = 175e9;
const KV_BYTES_PER_TOKEN = 2 * 2 * 96 * 12_288;
const WEIGHT_BYTES = 2 * NUM_PARAMETERS;

/** Sixteen A100 of 40 GB, the paper's machines, by their data sheet. */
const NUM_DEVICES = 16;
const DEVICE_BYTES = 40e9;
const DEVICE_BYTES_PER_SECOND = 1.555e12;
const DEVICE_FLOPS = 312e12;
/** Shares of the peaks that kernels of that time reached: assumptions. */
const COMPUTE_EFFICIENCY = 0.5;
const MEMORY_EFFICIENCY = 0.7;
/** Share of memory for weights and KV. */
const MEMORY_SHARE = 0.9;

/**
 * A roofline of GPT-3 175B on the cluster of ORCA's evaluation (Yu et al., OSDI 2022), as one worker, with one fitted term: the time of a
 * step that is neither compute nor memory traffic. Only where static batching and iteration-level scheduling stand to each other is
 * meant to be read from it.
 */
export class OrcaPerf implements PerfModel {
  readonly host: HostTimes = { requestMs: 0, outputMs: 0 };
  readonly kvBytesPerToken = KV_BYTES_PER_TOKEN;
  readonly kvCapacityTokens = Math.floor(
    (NUM_DEVICES * DEVICE_BYTES * MEMORY_SHARE - WEIGHT_BYTES) / KV_BYTES_PER_TOKEN,
  );
  readonly #fixedMs: number;

  /** `fixedMs` per step. */
  constructor(fixedMs: number) {
    this.#fixedMs = fixedMs;
  }

  stepTime(load: StepLoad, out: StepTime): void {
    const tokens = load.numPrefillTokens + load.numDecodes;
    const flops = 2 * NUM_PARAMETERS * tokens;
    const computeMs = (1000 * flops) / (NUM_DEVICES * DEVICE_FLOPS * COMPUTE_EFFICIENCY);
    const bytes = WEIGHT_BYTES + load.decodeContextTokens * KV_BYTES_PER_TOKEN;
    const memoryMs = (1000 * bytes) / (NUM_DEVICES * DEVICE_BYTES_PER_SECOND * MEMORY_EFFICIENCY);
    out.deviceMs = this.#fixedMs + Math.max(computeMs, memoryMs);
    out.hostMs = 0;
    out.source = "paper";
    out.isExtrapolated = false;
  }
}
