import type { SamplingParams } from "../request.ts";
import type { SampledToken } from "../scheduler/step-plan.ts";
import type { Sequence } from "../sequence.ts";
import { uniformAt } from "./draw.ts";
import { adjustLogits, adjustsLogits, argmax, logprobsOf } from "./logits.ts";

/**
 * Tokens less likely than e^-32 (1.3e-14) of the most likely one are never drawn: below the resolution of the draw
 * for any vocabulary, and leaving them out spares most exponentials.
 */
const CUTOFF_NATS = 32;

/** Draws tokens from logits. Holds scratch memory only: equal arguments give equal tokens, on any worker. */
export interface Sampler {
  /**
   * Draws output token number `sequence.numOutputTokens`. `logits` has one entry per vocabulary token and is left as it
   * is. Order of the filters: penalties and bias, temperature, min-p, top-k, top-p (as in vLLM).
   */
  sample(logits: Float32Array, sequence: Sequence): SampledToken;
}

export function createSampler(vocabSize: number): Sampler {
  const adjusted = new Float32Array(vocabSize);
  const candidates = new CandidateSet(vocabSize);

  function choose(logits: Float32Array, sequence: Sequence): number {
    const params = sequence.request.sampling;
    let effective = logits;
    if (adjustsLogits(params)) {
      adjusted.set(logits);
      adjustLogits(adjusted, sequence);
      effective = adjusted;
    }
    if (params.temperature === 0 || params.topK === 1) return argmax(effective);
    candidates.collect(effective, params);
    return candidates.draw(uniformAt(params.seed, sequence.numOutputTokens));
  }

  return {
    sample(logits, sequence) {
      const token = choose(logits, sequence);
      const { topLogprobs } = sequence.request.sampling;
      if (topLogprobs === null) return { token };
      return { token, logprobs: logprobsOf(logits, token, topLogprobs) };
    },
  };
}

/** The tokens that may be drawn, with their unnormalised probabilities relative to the most likely one. */
class CandidateSet {
  readonly #tokens: Int32Array;
  readonly #weights: Float64Array;
  #count = 0;
  #total = 0;

  constructor(vocabSize: number) {
    this.#tokens = new Int32Array(vocabSize);
    this.#weights = new Float64Array(vocabSize);
  }

  collect(logits: Float32Array, params: SamplingParams): void {
    const max = logits[argmax(logits)]!;
    const depth = Math.min(CUTOFF_NATS, params.minP > 0 ? -Math.log(params.minP) : CUTOFF_NATS);
    this.#fill(logits, max, params.temperature, depth);
    const { topK, topP } = params;
    if (topK > 0 && topK < this.#count) {
      this.#narrow(logits, max, params.temperature, depth, () => this.#count >= topK);
      this.#sort();
      this.#truncate(topK);
      if (topP < 1) this.#truncateToMass(topP * this.#total);
    } else if (topP < 1) {
      const mass = topP * this.#total;
      this.#narrow(logits, max, params.temperature, depth, () => this.#total >= mass);
      this.#sort();
      this.#truncateToMass(mass);
    }
  }

  /** The candidate at share `u` in [0, 1) of the total weight. */
  draw(u: number): number {
    let rest = u * this.#total;
    for (let i = 0; i < this.#count; i++) {
      rest -= this.#weights[i]!;
      if (rest < 0) return this.#tokens[i]!;
    }
    return this.#tokens[this.#count - 1] ?? 0;
  }

  /** Takes every token within `depth` nats of the best, in order of id. */
  #fill(logits: Float32Array, max: number, temperature: number, depth: number): void {
    const floor = max - depth * temperature;
    let count = 0;
    let total = 0;
    for (let token = 0; token < logits.length; token++) {
      const logit = logits[token]!;
      if (!(logit >= floor)) continue;
      const weight = Math.exp((logit - max) / temperature);
      this.#tokens[count] = token;
      this.#weights[count++] = weight;
      total += weight;
    }
    this.#count = count;
    this.#total = total;
  }

  /** Shrinks the set to the shallowest depth that is `enough`, so that only a few tokens need sorting. */
  #narrow(
    logits: Float32Array,
    max: number,
    temperature: number,
    depth: number,
    enough: () => boolean,
  ): void {
    for (let trial = 1; trial < depth; trial *= 2) {
      this.#fill(logits, max, temperature, trial);
      if (enough()) return;
    }
    this.#fill(logits, max, temperature, depth);
  }

  /** Most likely first; equal weights by id. */
  #sort(): void {
    const order = Array.from({ length: this.#count }, (_, i) => i);
    const weights = this.#weights.slice(0, this.#count);
    const tokens = this.#tokens.slice(0, this.#count);
    order.sort((a, b) => weights[b]! - weights[a]! || a - b);
    for (let i = 0; i < order.length; i++) {
      this.#weights[i] = weights[order[i]!]!;
      this.#tokens[i] = tokens[order[i]!]!;
    }
  }

  #truncate(count: number): void {
    this.#count = Math.min(this.#count, count);
    this.#total = 0;
    for (let i = 0; i < this.#count; i++) this.#total += this.#weights[i]!;
  }

  /** Keeps the shortest prefix whose weight reaches `mass`. */
  #truncateToMass(mass: number): void {
    let total = 0;
    let count = 0;
    while (count < this.#count) {
      total += this.#weights[count++]!;
      if (total >= mass) break;
    }
    this.#count = count;
    this.#total = total;
  }
}
