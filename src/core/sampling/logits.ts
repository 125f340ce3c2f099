import type { SamplingParams, TokenLogprobs } from "../request.ts";
import type { Sequence } from "../sequence.ts";

const NO_MAXIMA: readonly [number, number, number, number] = [-Infinity, -Infinity, -Infinity, -Infinity];

/** The largest logit's index, the lowest on a tie. NaN never wins. */
export function argmax(logits: Float32Array): number {
  // Four lanes, so that comparisons need not wait for each other: this loop is most of what greedy sampling costs.
  const numLaned = logits.length - (logits.length % 4);
  let [m0, m1, m2, m3] = NO_MAXIMA;
  let [i0, i1, i2, i3] = [0, 0, 0, 0];
  for (let token = 0; token < numLaned; token += 4) {
    const a = logits[token]!;
    const b = logits[token + 1]!;
    const c = logits[token + 2]!;
    const d = logits[token + 3]!;
    if (a > m0) {
      m0 = a;
      i0 = token;
    }
    if (b > m1) {
      m1 = b;
      i1 = token + 1;
    }
    if (c > m2) {
      m2 = c;
      i2 = token + 2;
    }
    if (d > m3) {
      m3 = d;
      i3 = token + 3;
    }
  }
  let best = i0;
  let max = m0;
  if (m1 > max || (m1 === max && i1 < best)) [max, best] = [m1, i1];
  if (m2 > max || (m2 === max && i2 < best)) [max, best] = [m2, i2];
  if (m3 > max || (m3 === max && i3 < best)) [max, best] = [m3, i3];
  for (let token = numLaned; token < logits.length; token++) {
    if (logits[token]! > max) [max, best] = [logits[token]!, token];
  }
  return best;
}

/** Whether the request changes logits before drawing, so that they must be copied first. */
export function adjustsLogits(params: SamplingParams): boolean {
  return (
    params.logitBias.length > 0 ||
    params.frequencyPenalty !== 0 ||
    params.presencePenalty !== 0 ||
    params.repetitionPenalty !== 1
  );
}

/**
 * Applies penalties and bias in place. Frequency and presence count the output alone (OpenAI API reference);
 * repetition counts prompt and output (Keskar et al. 2019, CTRL, as vLLM applies it).
 */
export function adjustLogits(logits: Float32Array, sequence: Sequence): void {
  const params = sequence.request.sampling;
  const { numPromptTokens, numKnownTokens } = sequence;
  if (params.repetitionPenalty !== 1) {
    const seen = new Set<number>();
    for (let i = 0; i < numKnownTokens; i++) seen.add(sequence.tokenAt(i));
    for (const token of seen) {
      const logit = logits[token]!;
      logits[token] = logit > 0 ? logit / params.repetitionPenalty : logit * params.repetitionPenalty;
    }
  }
  if (params.frequencyPenalty !== 0 || params.presencePenalty !== 0) {
    const seen = new Set<number>();
    for (let i = numPromptTokens; i < numKnownTokens; i++) {
      const token = sequence.tokenAt(i);
      logits[token] = logits[token]! - params.frequencyPenalty;
      seen.add(token);
    }
    for (const token of seen) logits[token] = logits[token]! - params.presencePenalty;
  }
  for (const [token, bias] of params.logitBias) logits[token] = logits[token]! + bias;
}

/** Log probabilities of `token` and the `count` most likely tokens under the unmodified logits. */
export function logprobsOf(logits: Float32Array, token: number, count: number): TokenLogprobs {
  const max = logits[argmax(logits)]!;
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += Math.exp(logits[i]! - max);
  const logNormalizer = max + Math.log(total);
  const top: Array<[number, number]> = [];
  // Insertion into a short list: count is at most 20, so nearly every token fails the first comparison.
  for (let i = 0; count > 0 && i < logits.length; i++) {
    const logprob = logits[i]! - logNormalizer;
    if (top.length === count && !(logprob > top[count - 1]![1])) continue;
    let at = top.length;
    while (at > 0 && logprob > top[at - 1]![1]) at--;
    top.splice(at, 0, [i, logprob]);
    if (top.length > count) top.pop();
  }
  return { logprob: logits[token]! - logNormalizer, top };
}
