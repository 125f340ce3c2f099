import type { HandoffTail } from "./handoff-bytes.ts";
import { type DecodeRow, type HostTimes, type PerfModel, priceRow, type StepTime } from "./perf-model.ts";
import type { StepLoad } from "./step-load.ts";

/**
 * What a serving engine adds to the kernels of its steps, in milliseconds. Fitted to measurements of whole servers; see
 * `src/catalog/host-overheads.ts` for values.
 */
export interface EngineOverheads {
  /** From a request's arrival until the scheduler has it: receiving it, tokenisation, handing it to the engine. */
  readonly requestMs: number;
  /** From the end of a step until its tokens are at the client. */
  readonly outputMs: number;
  /** Of every step: scheduling, preparing inputs, the gap between two graphs. */
  readonly stepMs: number;
  /** Of every step that draws tokens, per thousand entries of the vocabulary: logits are prepared row by row on few processors. */
  readonly vocabularyMs: number;
  /** Per sequence in a step. */
  readonly sequenceMs: number;
  /** Per prompt token in a step. */
  readonly prefillTokenMs: number;
  /** Per layer of a step that has a prefill chunk: attention then runs outside recorded graphs and waits for its launches. */
  readonly mixedLayerMs: number;
  /**
   * How much the longest context of a step holds up its decodes: 0, attention takes as long as with all contexts at their mean;
   * 1, as with all as long as the longest.
   */
  readonly contextSkew: number;
}

/** A perf model of kernels, and the engine around them. */
export class EngineModel implements PerfModel {
  readonly plansAhead = true;
  readonly host: HostTimes;
  readonly kvCapacityTokens: number;
  readonly kvBytesPerToken: number;
  readonly handoffTail: HandoffTail | undefined;
  readonly #kernels: PerfModel;
  readonly #overheads: EngineOverheads;
  readonly #mixedMs: number;
  readonly #sampleMs: number;

  constructor(
    kernels: PerfModel,
    model: { readonly numLayers: number; readonly vocabSize: number },
    overheads: EngineOverheads,
  ) {
    this.#kernels = kernels;
    this.#overheads = overheads;
    this.host = {
      requestMs: kernels.host.requestMs + overheads.requestMs,
      outputMs: kernels.host.outputMs + overheads.outputMs,
    };
    this.kvCapacityTokens = kernels.kvCapacityTokens;
    this.kvBytesPerToken = kernels.kvBytesPerToken;
    this.handoffTail = kernels.handoffTail;
    this.#mixedMs = overheads.mixedLayerMs * model.numLayers;
    this.#sampleMs = (overheads.vocabularyMs * model.vocabSize) / 1000;
  }

  stepTime(load: StepLoad, out: StepTime): void {
    const { decodeContextTokens } = load;
    load.decodeContextTokens = decodeContextTokens + this.#skewTokens(load);
    this.#kernels.stepTime(load, out);
    load.decodeContextTokens = decodeContextTokens;
    this.#add(load, out);
  }

  rowTime(load: StepLoad, row: DecodeRow, out: StepTime): void {
    const { numSteps, deviceMs } = row;
    // How uneven contexts are stays the same when all grow alike.
    const addedContextTokens = row.addedContextTokens + this.#skewTokens(load);
    priceRow(this.#kernels, load, { numSteps, addedContextTokens, deviceMs }, out);
    this.#add(load, out);
    if (load.numSamples === 0) return;
    for (let step = 0; step < numSteps; step++) deviceMs[step] = deviceMs[step]! + this.#sampleMs;
  }

  /** Tokens of context that the longest one of a step costs besides. */
  #skewTokens({ numDecodes, maxDecodeContextTokens, decodeContextTokens }: StepLoad): number {
    return this.#overheads.contextSkew * (numDecodes * maxDecodeContextTokens - decodeContextTokens);
  }

  #add(load: StepLoad, out: StepTime): void {
    const { stepMs, sequenceMs, prefillTokenMs } = this.#overheads;
    const { numDecodes } = load;
    out.hostMs += stepMs + sequenceMs * (numDecodes + load.numPrefills);
    out.hostMs += prefillTokenMs * load.numPrefillTokens;
    if (load.numPrefills > 0) out.hostMs += this.#mixedMs;
    if (load.numSamples > 0) out.deviceMs += this.#sampleMs;
  }
}
