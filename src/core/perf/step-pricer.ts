import type { Parallelism } from "./device-spec.ts";
import type { HandoffTail } from "./handoff-bytes.ts";
import type { OperatorClass } from "./layer-costs.ts";
import { CostCurve, CostSurface, GRID_LIMIT, type Priced } from "./octave-grid.ts";
import type { DecodeRow, HostTimes, PerfModel, StepTime, TimeSource } from "./perf-model.ts";
import type { StepCosts } from "./step-costs.ts";
import type { StepLoad } from "./step-load.ts";

/** Host time in milliseconds that no accelerator work hides. */
export interface HostCosts extends HostTimes {
  /** Per step: scheduling, preparing inputs, launching. */
  readonly stepMs: number;
  /** Per sequence in a step. */
  readonly sequenceMs: number;
  /** Per prefill token in a step. */
  readonly prefillTokenMs: number;
}

/** A host that costs nothing: for kernels alone. */
export const NO_HOST_COSTS: HostCosts = {
  requestMs: 0,
  outputMs: 0,
  stepMs: 0,
  sequenceMs: 0,
  prefillTokenMs: 0,
};

/**
 * A vLLM front end, where nothing better is known. The request's share is the constant of the mean time to the first token that was
 * fitted for vLLM (`coefficients/engines.ts`, 8 to 9 ms); the token's is the published figure of BLIS (inference-sim), 46 µs. Time
 * per step is part of an engine's calibration.
 */
export const DEFAULT_HOST_COSTS: HostCosts = { ...NO_HOST_COSTS, requestMs: 8, outputMs: 0.046 };

export interface StepPricerOptions {
  readonly costs: StepCosts;
  readonly parallelism: Parallelism;
  readonly tokenBudget: number;
  readonly maxRunning: number;
  readonly maxContextTokens: number;
  readonly host: HostCosts;
  readonly kvCapacityTokens: number;
  readonly kvBytesPerToken: number;
  readonly handoffTail: HandoffTail | undefined;
}

/** Chunk counts that prefill attention is priced for: further chunks cost as much as each of so many. */
const PREFILL_BATCHES = [1, 2, 4, 8, 16, 32];

/**
 * Prices steps from curves that are computed once: pricing a decode-only step reads three of them and allocates nothing.
 *
 * Attention groups share a step evenly; the one with the largest share sets the pace. A step is cut into as many micro-batches as
 * there are pipeline stages, all of which are busy at once: it takes the time of one micro-batch through all stages, and the next
 * step follows without a gap. Filling an idle pipeline is not priced.
 */
export class StepPricer implements PerfModel {
  readonly host: HostTimes;
  readonly kvCapacityTokens: number;
  readonly kvBytesPerToken: number;
  readonly handoffTail: HandoffTail | undefined;
  readonly source: TimeSource;
  readonly #hostCosts: HostCosts;
  readonly #groups: number;
  readonly #tokens: CostCurve;
  readonly #samples: CostCurve;
  readonly #decodes: CostSurface;
  readonly #prefills: readonly CostSurface[];
  readonly #costs: StepCosts;
  readonly #parallelism: Parallelism;
  #isChunkExtrapolated = false;
  readonly #fixedMs: number;
  readonly #sequenceMs: number;

  constructor(options: StepPricerOptions) {
    const { costs, parallelism, host } = options;
    this.host = { requestMs: host.requestMs, outputMs: host.outputMs };
    this.kvCapacityTokens = options.kvCapacityTokens;
    this.kvBytesPerToken = options.kvBytesPerToken;
    this.handoffTail = options.handoffTail;
    this.#hostCosts = host;
    this.#costs = costs;
    this.#fixedMs = costs.fixedMs;
    this.#sequenceMs = costs.sequenceMs / (parallelism.pp * parallelism.dp);
    this.#parallelism = parallelism;
    // A micro-batch of a pipeline gets its share of the sequences of a group.
    this.#groups = parallelism.dp * parallelism.pp;
    const { provenance } = costs;
    let source: TimeSource = "table";
    const priced = (
      fill: (add: (operator: OperatorClass, ms: number) => void) => void,
      out: Priced,
    ): void => {
      provenance.clear();
      let sum = 0;
      fill((_, ms) => {
        sum += ms;
      });
      out.ms = sum;
      out.isExtrapolated = provenance.isExtrapolated;
      provenance.add(source, false);
      source = provenance.source;
    };
    const maxTokens = options.tokenBudget + options.maxRunning;
    const maxContext = Math.min(options.maxContextTokens, GRID_LIMIT);
    const { dp } = parallelism;
    this.#tokens = new CostCurve(maxTokens, (x, out) =>
      priced((add) => costs.addTokens(x, x * dp, add), out),
    );
    this.#samples = new CostCurve(options.maxRunning, (x, out) =>
      priced((add) => costs.addSamples(x, add), out),
    );
    this.#decodes = new CostSurface(options.maxRunning, maxContext, (x, y, out) =>
      priced((add) => costs.addDecodeAttention(x, y, add), out),
    );
    this.#prefills = PREFILL_BATCHES.map(
      (batch) =>
        new CostSurface(options.tokenBudget, maxContext, (x, y, out) =>
          priced((add) => costs.addPrefillAttention(batch, x, y, add), out),
        ),
    );
    // One price of each kind shows the weakest source, which does not depend on the load.
    this.#decodes.msAt(1, 1);
    this.#prefills[0]!.msAt(1, 0);
    this.source = source;
  }

  stepTime(load: StepLoad, out: StepTime): void {
    const groups = this.#groups;
    const { numDecodes, numPrefills, numPrefillTokens } = load;
    const decodes = Math.ceil(numDecodes / groups);
    let deviceMs = 0;
    let isExtrapolated = false;
    let tokens = decodes;
    if (numDecodes > 0) {
      const context = load.decodeContextTokens / numDecodes;
      deviceMs += this.#decodes.msAt(decodes, context);
      isExtrapolated = this.#decodes.isExtrapolated;
    }
    if (numPrefills > 0) {
      let largest = 0;
      for (let i = 0; i < numPrefills; i++) {
        const chunk = load.prefillTokens[i]!;
        if (chunk > largest) largest = chunk;
      }
      // Pipeline stages can cut a chunk in pieces, attention groups cannot. Each piece reads the context before it again.
      const { pp, dp } = this.#parallelism;
      tokens += Math.max(Math.ceil(numPrefillTokens / groups), Math.ceil(largest / pp));
      const chunksPerGroup = Math.ceil(numPrefills / dp);
      const pieces = Math.max(1, Math.floor(pp / chunksPerGroup));
      let attentionMs = 0;
      for (let i = 0; i < numPrefills; i++) {
        const chunk = load.prefillTokens[i]!;
        const middle = load.prefillContext[i]! + (chunk - chunk / pieces) / 2;
        attentionMs += pieces * this.#chunkMs(chunksPerGroup, chunk / pieces, middle);
        isExtrapolated ||= this.#isChunkExtrapolated;
      }
      deviceMs += (attentionMs * chunksPerGroup) / numPrefills / pp;
    }
    if (tokens > 0) {
      deviceMs += this.#tokens.msAt(tokens) + this.#fixedMs + this.#sequenceMs * (numDecodes + numPrefills);
      isExtrapolated ||= this.#tokens.isExtrapolated;
    }
    if (load.numSamples > 0) {
      deviceMs += this.#samples.msAt(Math.ceil(load.numSamples / groups));
      isExtrapolated ||= this.#samples.isExtrapolated;
    }
    const host = this.#hostCosts;
    out.deviceMs = deviceMs;
    out.hostMs =
      host.stepMs + host.sequenceMs * (numDecodes + numPrefills) + host.prefillTokenMs * numPrefillTokens;
    out.source = this.source;
    out.isExtrapolated = isExtrapolated;
  }

  rowTime(load: StepLoad, { numSteps, addedContextTokens, deviceMs }: DecodeRow, out: StepTime): void {
    const { decodeContextTokens, numDecodes } = load;
    // The last step says what holds for all but the time of its attention.
    load.decodeContextTokens = decodeContextTokens + (numSteps - 1) * numDecodes + addedContextTokens;
    this.stepTime(load, out);
    load.decodeContextTokens = decodeContextTokens;
    for (let step = 0; step < numSteps; step++)
      deviceMs[step] = (decodeContextTokens + step * numDecodes + addedContextTokens) / numDecodes;
    const decodes = Math.ceil(numDecodes / this.#groups);
    this.#decodes.replace(decodes, deviceMs, numSteps);
    const tokensMs = this.#tokens.msAt(decodes) + this.#fixedMs + this.#sequenceMs * numDecodes;
    const { numSamples } = load;
    const samplesMs = numSamples > 0 ? this.#samples.msAt(Math.ceil(numSamples / this.#groups)) : 0;
    for (let step = 0; step < numSteps; step++) deviceMs[step] = deviceMs[step]! + tokensMs + samplesMs;
  }

  /**
   * Device milliseconds of a step by operator class, priced anew and not from the curves, to check these: without what an engine's
   * calibration adds to each step, and as if groups shared prompts evenly.
   */
  breakdown(load: StepLoad): Map<OperatorClass, number> {
    const sums = new Map<OperatorClass, number>();
    const add = (operator: OperatorClass, ms: number): void => {
      sums.set(operator, (sums.get(operator) ?? 0) + ms);
    };
    const groups = this.#groups;
    const decodes = Math.ceil(load.numDecodes / groups);
    const tokens = decodes + Math.ceil(load.numPrefillTokens / groups);
    this.#costs.addTokens(tokens, tokens * this.#parallelism.dp, add);
    this.#costs.addSamples(Math.ceil(load.numSamples / groups), add);
    if (decodes > 0) this.#costs.addDecodeAttention(decodes, load.decodeContextTokens / load.numDecodes, add);
    for (let i = 0; i < load.numPrefills; i++)
      this.#costs.addPrefillAttention(1, load.prefillTokens[i]!, load.prefillContext[i]!, (operator, ms) =>
        add(operator, ms / groups),
      );
    return sums;
  }

  /** Attention of one of `chunks` prefill chunks that are computed together. */
  #chunkMs(chunks: number, tokens: number, context: number): number {
    let at = 0;
    while (at < PREFILL_BATCHES.length - 1 && PREFILL_BATCHES[at + 1]! <= chunks) at++;
    const batch = PREFILL_BATCHES[at]!;
    const prefills = this.#prefills[at]!;
    const low = prefills.msAt(tokens, context);
    this.#isChunkExtrapolated = prefills.isExtrapolated;
    const next = PREFILL_BATCHES[at + 1];
    if (batch === chunks || next === undefined) return low / batch;
    const high = this.#prefills[at + 1]!.msAt(tokens, context);
    return (low + ((chunks - batch) / (next - batch)) * (high - low)) / chunks;
  }
}
