import type { LinkSpec } from "../../core/perf/device-spec.ts";
import type { ModelShape } from "../../core/perf/model-shape.ts";
import type { PerfModel, StepTime } from "../../core/perf/perf-model.ts";
import type { StepLoad } from "../../core/perf/step-load.ts";
import type { LayerTables } from "./layer-tables.ts";

/** A deployment of the profiled model. */
export interface LayerTableOptions {
  readonly tables: LayerTables;
  readonly model: ModelShape;
  /** Devices that a layer is spread over; the tables are for one of them. */
  readonly tp: number;
  /** Attention groups that share the experts of mixtures. */
  readonly dp: number;
  readonly kvCapacityTokens: number;
  readonly kvBytesPerToken: number;
  /** Between the devices; profiles do not have their communication. */
  readonly link: LinkSpec;
}

/** How often a layer of the model runs each profiled part of it. */
const RUNS_PER_LAYER: Readonly<Record<string, number>> = {
  layernorm: 2,
  qkv_proj: 1,
  qk_norm: 1,
  rotary_emb: 1,
  o_proj: 1,
  gate_up_proj: 1,
  act_fn: 1,
  down_proj: 1,
};
/** The smallest chunk of a profile's grid. */
const SMALLEST_CHUNK = 16;
const ONCE = ["embedding", "final_layernorm"];
const MS_PER_US = 1e-3;

/** Bytes of an activation or logit between devices. */
const ACTIVATION_BYTES = 2;

/** Prices steps from profiled layers, and communication by its bytes and latency over the link. */
export class LayerTablePerf implements PerfModel {
  readonly host = { requestMs: 0, outputMs: 0 };
  readonly kvCapacityTokens: number;
  readonly kvBytesPerToken: number;
  readonly #options: LayerTableOptions;
  readonly #tokenMs = new Map<number, number>();

  constructor(options: LayerTableOptions) {
    this.#options = options;
    this.kvCapacityTokens = options.kvCapacityTokens;
    this.kvBytesPerToken = options.kvBytesPerToken;
  }

  stepTime(load: StepLoad, out: StepTime): void {
    const { tables, model, dp } = this.#options;
    const { numPrefills, numPrefillTokens } = load;
    const decodes = Math.ceil(load.numDecodes / dp);
    const context = load.numDecodes === 0 ? 0 : load.decodeContextTokens / load.numDecodes;
    const alone = decodes === 0 ? 0 : tables.attention.us(0, 0, decodes, context);
    // Beside any chunk, however small, decodes run in the kernel of chunks: at twice to three times their time, once for all chunks.
    const mixed = numPrefills === 0 ? alone : tables.attention.us(SMALLEST_CHUNK, 0, decodes, context);
    let chunksUs = 0;
    let largest = 0;
    for (let i = 0; i < numPrefills; i++) {
      const chunk = load.prefillTokens[i]!;
      chunksUs += Math.max(0, tables.attention.us(chunk, load.prefillContext[i]!, decodes, context) - mixed);
      if (chunk > largest) largest = chunk;
    }
    // Groups share chunks as evenly as whole chunks can be shared; the group with the most sets the pace.
    const chunkShare = numPrefills === 0 ? 0 : Math.ceil(numPrefills / dp) / numPrefills;
    const samples = Math.ceil(load.numSamples / dp);
    let sampleUs = 0;
    if (samples > 0) for (const curve of tables.perSequence.values()) sampleUs += curve.at(samples);
    out.deviceMs =
      this.#tokensMs(decodes + Math.max(Math.ceil(numPrefillTokens / dp), largest)) +
      ((mixed + chunksUs * chunkShare) * model.numLayers + sampleUs) * MS_PER_US +
      this.#gatherMs((samples * model.vocabSize * ACTIVATION_BYTES) / this.#options.tp, this.#options.tp);
    out.hostMs = 0;
    out.source = "table";
    out.isExtrapolated = false;
  }

  /** All that depends on the number of one group's tokens alone. */
  #tokensMs(tokens: number): number {
    const known = this.#tokenMs.get(tokens);
    if (known !== undefined) return known;
    const { tables, model, tp, dp } = this.#options;
    let layerUs = 0;
    let onceUs = 0;
    for (const [name, curve] of tables.dense) {
      if (ONCE.includes(name)) onceUs += curve.at(tokens);
      else layerUs += (RUNS_PER_LAYER[name] ?? 0) * curve.at(tokens);
    }
    const bytes = tokens * model.hiddenSize * ACTIVATION_BYTES;
    let communicationMs = 2 * this.#reduceMs(bytes, tp);
    if (tables.moe !== null && model.ffn.kind === "moe") {
      const { numExperts, expertsPerToken } = model.ffn;
      // Every device has its share of the experts, and of the pairs of all groups' tokens and experts.
      const touched = numExperts * (1 - (1 - expertsPerToken / numExperts) ** (tokens * dp));
      layerUs += tables.moe.us(tokens, Math.max(1, touched / dp));
      // Tokens come together before the experts, and their sums go back.
      communicationMs = this.#reduceMs(bytes, tp) + 2 * this.#gatherMs(bytes, tp * dp);
    }
    const ms = (layerUs * MS_PER_US + communicationMs) * model.numLayers + onceUs * MS_PER_US;
    this.#tokenMs.set(tokens, ms);
    return ms;
  }

  /** An all-gather of `bytes` from each device, by recursive doubling. A reduce-scatter takes as long. */
  #gatherMs(bytes: number, devices: number): number {
    const { latencyMs, bytesPerSecond } = this.#options.link;
    return Math.log2(devices) * latencyMs + ((devices - 1) * bytes * 1000) / bytesPerSecond;
  }

  /** An all-reduce of `bytes`: of two devices, each sends what it has and adds what comes. */
  #reduceMs(bytes: number, devices: number): number {
    const { latencyMs, bytesPerSecond } = this.#options.link;
    const sent = (2 * (devices - 1) * bytes) / devices;
    return Math.log2(devices) * latencyMs + (sent * 1000) / bytesPerSecond;
  }
}
