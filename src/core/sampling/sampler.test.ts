import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GREEDY, type Request, type SamplingParams } from "../request.ts";
import { Sequence } from "../sequence.ts";
import { uniformAt } from "./draw.ts";
import { createSampler } from "./sampler.ts";

function sequenceWith(sampling: Partial<SamplingParams>, output: number[] = []): Sequence {
  const request: Request = {
    id: "r",
    epoch: 0,
    promptTokens: Int32Array.of(1, 2),
    resumedTokens: Int32Array.from(output),
    maxOutputTokens: 10_000,
    minOutputTokens: 0,
    ignoreEndOfGeneration: false,
    sampling: { ...GREEDY, ...sampling },
    cacheSalt: "",
    priority: 0,
  };
  return new Sequence(request, { order: 0 });
}

/** The textbook definition, by sorting everything. */
function naiveSupport(
  logits: number[],
  p: { temperature: number; topK: number; topP: number; minP: number },
): Map<number, number> {
  const max = Math.max(...logits);
  let entries = logits.map((logit, token) => ({ token, weight: Math.exp((logit - max) / p.temperature) }));
  entries = entries.filter((entry) => entry.weight >= Math.max(p.minP, Math.exp(-32)) * (1 - 1e-12));
  entries.sort((a, b) => b.weight - a.weight || a.token - b.token);
  if (p.topK > 0) entries = entries.slice(0, p.topK);
  const total = entries.reduce((sum, entry) => sum + entry.weight, 0);
  let mass = 0;
  const kept: typeof entries = [];
  for (const entry of entries) {
    kept.push(entry);
    mass += entry.weight;
    if (p.topP < 1 && mass >= p.topP * total) break;
  }
  const keptTotal = kept.reduce((sum, entry) => sum + entry.weight, 0);
  return new Map(kept.map((entry) => [entry.token, entry.weight / keptTotal]));
}

describe("sampler", () => {
  it("takes the lowest id of the largest logits when greedy", () => {
    const sampler = createSampler(4);
    expect(sampler.sample(Float32Array.of(0, 3, 3, 1), sequenceWith({})).token).toBe(1);
  });

  it("draws with the frequencies of the textbook definition", () => {
    const logits = [0.3, 2.1, 1.7, -0.4, 1.1, 0.9, -3, 1.69];
    const sampler = createSampler(logits.length);
    for (const p of [
      { temperature: 1, topK: 0, topP: 1, minP: 0 },
      { temperature: 0.7, topK: 3, topP: 1, minP: 0 },
      { temperature: 1.3, topK: 0, topP: 0.6, minP: 0 },
      { temperature: 1, topK: 5, topP: 0.8, minP: 0 },
      { temperature: 1, topK: 0, topP: 1, minP: 0.3 },
    ]) {
      const expected = naiveSupport(logits, p);
      const counts = new Map<number, number>();
      const draws = 4000;
      for (let seed = 0; seed < draws; seed++) {
        const { token } = sampler.sample(Float32Array.from(logits), sequenceWith({ ...p, seed }));
        counts.set(token, (counts.get(token) ?? 0) + 1);
      }
      expect([...counts.keys()].every((token) => expected.has(token))).toBe(true);
      for (const [token, probability] of expected) {
        const deviation = Math.sqrt((probability * (1 - probability)) / draws);
        expect(Math.abs((counts.get(token) ?? 0) / draws - probability)).toBeLessThan(5 * deviation + 1e-9);
      }
    }
  });

  it("never draws outside the support, whatever the parameters", () => {
    fc.assert(
      fc.property(
        // Quarters, so that two different logits never round to the same probability.
        fc.array(
          fc.integer({ min: -80, max: 80 }).map((quarters) => quarters / 4),
          { minLength: 1, maxLength: 200 },
        ),
        fc.record({
          temperature: fc.float({ min: Math.fround(0.05), max: 2, noNaN: true }),
          topK: fc.integer({ min: 0, max: 50 }),
          topP: fc.float({ min: Math.fround(0.01), max: 1, noNaN: true }),
          minP: fc.constantFrom(0, 0.01, 0.2, 1),
        }),
        fc.integer(),
        (logits, p, seed) => {
          const exact = Array.from(Float32Array.from(logits));
          const support = naiveSupport(exact, p);
          const { token } = createSampler(exact.length).sample(
            Float32Array.from(exact),
            sequenceWith({ ...p, seed }),
          );
          // Rounding may move the border of top-p by one token; a drawn token is in the support or next to its edge.
          const looser = naiveSupport(exact, {
            ...p,
            topP: Math.min(1, p.topP + 1e-6),
            minP: p.minP * 0.999999,
          });
          expect(support.has(token) || looser.has(token)).toBe(true);
        },
      ),
    );
  });

  it("depends on seed and output index alone, not on what was drawn before", () => {
    const logits = Float32Array.from({ length: 50 }, (_, i) => Math.sin(i));
    const warm = createSampler(50);
    for (let i = 0; i < 20; i++) warm.sample(logits, sequenceWith({ temperature: 1, seed: i }));
    const a = warm.sample(logits, sequenceWith({ temperature: 1, seed: 7 }, [4, 5, 6]));
    const b = createSampler(50).sample(logits, sequenceWith({ temperature: 1, seed: 7 }, [9, 9, 9]));
    expect(a).toEqual(b);
  });

  it("applies bias, presence, frequency and repetition penalties to the right tokens", () => {
    const logits = Float32Array.of(1, 1.5, 2, 0);
    const sampler = createSampler(4);
    const pick = (sampling: Partial<SamplingParams>, output: number[] = []) =>
      sampler.sample(logits, sequenceWith(sampling, output)).token;
    expect(pick({ logitBias: [[3, 5]] })).toBe(3);
    expect(pick({ presencePenalty: 0.4 }, [2])).toBe(2);
    expect(pick({ presencePenalty: 0.6 }, [2])).toBe(1);
    expect(pick({ frequencyPenalty: 0.2 }, [2, 2])).toBe(2);
    expect(pick({ frequencyPenalty: 0.2 }, [2, 2, 2])).toBe(1);
    // The prompt is [1, 2]: both are divided by 4, so token 0 is ahead.
    expect(pick({ repetitionPenalty: 4 })).toBe(0);
    expect(Array.from(logits)).toEqual([1, 1.5, 2, 0]);
  });

  it("reports log probabilities of the unmodified distribution, most likely first", () => {
    const logits = Float32Array.of(0, Math.log(2), Math.log(5));
    const { token, logprobs } = createSampler(3).sample(
      logits,
      sequenceWith({ topLogprobs: 2, logitBias: [[0, 50]] }),
    );
    expect(token).toBe(0);
    expect(logprobs!.logprob).toBeCloseTo(Math.log(1 / 8), 5);
    expect(logprobs!.top.map(([id]) => id)).toEqual([2, 1]);
    expect(logprobs!.top[0]![1]).toBeCloseTo(Math.log(5 / 8), 5);
  });

  it("survives logits that are not numbers", () => {
    const logits = new Float32Array(4).fill(Number.NaN);
    expect(createSampler(4).sample(logits, sequenceWith({ temperature: 1 })).token).toBe(0);
  });
});

describe("uniformAt", () => {
  it("is uniform over indices and over seeds", () => {
    for (const of of [(i: number) => uniformAt(42, i), (i: number) => uniformAt(i, 3)]) {
      const buckets = new Array<number>(16).fill(0);
      const draws = 32_000;
      for (let i = 0; i < draws; i++) {
        const u = of(i);
        expect(u >= 0 && u < 1).toBe(true);
        buckets[Math.floor(u * 16)]!++;
      }
      const chiSquare = buckets.reduce((sum, n) => sum + (n - draws / 16) ** 2 / (draws / 16), 0);
      // 15 degrees of freedom: 44 is beyond the 99.99th percentile.
      expect(chiSquare).toBeLessThan(44);
    }
  });
});
