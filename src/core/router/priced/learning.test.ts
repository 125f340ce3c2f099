import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Rng } from "../../util/rng.ts";
import { LearnedSteps } from "./learned-steps.ts";
import { LinkPrices } from "./link-prices.ts";
import { RobustRatio } from "./robust-ratio.ts";
import { StepPrices, WARM_UP_STEPS } from "./step-prices.ts";
import { Traffic } from "./traffic.ts";

describe("RobustRatio", () => {
  it("converges to what is seen, and forgets it when nothing is seen any more", () => {
    const ratio = new RobustRatio(0.2);
    for (let i = 0; i < 40; i++) ratio.observe(3, 100 * i);
    expect(ratio.at(4000)).toBeCloseTo(3, 1);
    expect(ratio.at(4000 + 60_000)).toBeCloseTo(Math.sqrt(3), 1);
    expect(ratio.at(4000 + 3_600_000)).toBeCloseTo(1, 3);
  });

  it("is hardly moved by one outlier, and not at all by what is no ratio", () => {
    const ratio = new RobustRatio(0.1);
    for (let i = 0; i < 100; i++) ratio.observe(1, i);
    ratio.observe(1e9, 100);
    expect(ratio.at(100)).toBeLessThan(1.08);
    const before = ratio.at(100);
    for (const bad of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) ratio.observe(bad, 100);
    expect(ratio.at(100)).toBe(before);
  });

  it("stays bounded whatever is seen", () => {
    const seen = fc.array(fc.double({ min: 1e-12, max: 1e12, noNaN: true }), { maxLength: 300 });
    fc.assert(
      fc.property(seen, (ratios) => {
        const ratio = new RobustRatio(1);
        for (const [i, one] of ratios.entries()) ratio.observe(one, i);
        expect(ratio.at(ratios.length)).toBeGreaterThanOrEqual(1 / 32.001);
        expect(ratio.at(ratios.length)).toBeLessThanOrEqual(32.001);
      }),
    );
  });
});

/** A step of a worker with these prices, and a little noise. */
function step(random: () => number, scale = 1) {
  const numPrefillTokens = random() < 0.5 ? 0 : Math.floor(256 * random());
  const prefillAttention = numPrefillTokens * 4000 * random();
  const numDecodes = Math.floor(16 * random());
  const decodeContextTokens = numDecodes * 2000 * random();
  const exact =
    4 + 0.8 * numPrefillTokens + 2e-5 * prefillAttention + 0.6 * numDecodes + 1e-4 * decodeContextTokens;
  const ms = scale * exact * (1 + 0.02 * (random() - 0.5));
  return { numPrefillTokens, prefillAttention, numDecodes, decodeContextTokens, ms };
}

function randomOf(seed: number): () => number {
  const stream = new Rng(seed).stream("steps");
  return () => stream.nextFloat();
}

describe("LearnedSteps", () => {
  it("finds the prices of a linear worker, outliers or not", () => {
    for (const outliers of [false, true]) {
      const learned = new LearnedSteps();
      const random = randomOf(1);
      for (let i = 0; i < 600; i++) {
        const seen = step(random);
        learned.observe(outliers && i > 50 && i % 20 === 0 ? { ...seen, ms: seen.ms * 50 } : seen);
      }
      for (let i = 0; i < 50; i++) {
        const { ms, ...load } = step(random);
        const { numPrefillTokens, prefillAttention, numDecodes, decodeContextTokens } = load;
        const predicted = learned.ms(numPrefillTokens, prefillAttention, numDecodes, decodeContextTokens);
        expect(Math.abs(predicted / ms - 1)).toBeLessThan(outliers ? 0.25 : 0.05);
      }
    }
  });

  it("stays right, fast machine or slow, when traffic that was all alike for long changes", () => {
    for (const scale of [0.5, 1, 100]) {
      const learned = new LearnedSteps();
      const random = randomOf(3);
      /** Decodes alone, whole chunks of long prompts, both of one size, and everything. */
      const kinds = [
        () => ({ numPrefillTokens: 0, prefillAttention: 0, numDecodes: 1, decodeContextTokens: 500 }),
        () => ({
          numPrefillTokens: 2048,
          prefillAttention: 2048e5 * random(),
          numDecodes: 0,
          decodeContextTokens: 0,
        }),
        () => ({
          numPrefillTokens: 256,
          prefillAttention: 32_768,
          numDecodes: 16,
          decodeContextTokens: 1600,
        }),
        () => step(random),
      ];
      let worst = 0;
      for (let phase = 0; phase < 12; phase++) {
        for (let i = 0; i < 2000; i++) {
          const load = kinds[phase % 4]!();
          const { numPrefillTokens, prefillAttention, numDecodes, decodeContextTokens } = load;
          const prompt = 0.02 * numPrefillTokens + 1e-7 * prefillAttention;
          const ms = scale * (4 + prompt + 0.1 * numDecodes + 1e-6 * decodeContextTokens);
          const predicted = learned.ms(numPrefillTokens, prefillAttention, numDecodes, decodeContextTokens);
          if (i > 50) worst = Math.max(worst, Math.abs(predicted / ms - 1));
          learned.observe({ ...load, ms: ms * (1 + 0.02 * (random() - 0.5)) });
        }
      }
      expect(worst).toBeLessThan(0.25);
    }
  });

  it("never gives a price below nothing or without end, whatever it is shown", () => {
    const amount = (max: number) => fc.oneof(fc.double({ min: 0, max, noNaN: true }), fc.double({ min: 0 }));
    const steps = fc.array(
      fc.record({
        numPrefillTokens: fc.nat(100_000),
        prefillAttention: amount(1e12),
        numDecodes: fc.nat(1000),
        decodeContextTokens: fc.nat(1e8),
        ms: amount(1e9),
      }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(steps, (shown) => {
        const learned = new LearnedSteps();
        for (const one of shown) learned.observe(one);
        for (const { numPrefillTokens, numDecodes, decodeContextTokens } of shown) {
          const ms = learned.ms(numPrefillTokens, 1e5 * numPrefillTokens, numDecodes, decodeContextTokens);
          expect(ms).toBeGreaterThan(0);
          expect(Number.isFinite(ms)).toBe(true);
        }
      }),
    );
  });
});

describe("StepPrices", () => {
  it("tells a slow worker from its fleet within some tens of steps, and not by its first ones", () => {
    const learned = new LearnedSteps();
    const random = randomOf(2);
    const usual = new StepPrices(null, learned);
    const slow = new StepPrices(null, learned);
    for (let i = 0; i < 400; i++) usual.observe(step(random), i);
    for (let i = 0; i < WARM_UP_STEPS; i++) slow.observe(step(random, 50), 400);
    expect(slow.prefillFactor(400)).toBe(1);
    for (let i = 0; i < 40; i++) {
      usual.observe(step(random), 401 + i);
      slow.observe(step(random, 2), 401 + i);
    }
    const base = usual.baseMs(0, 128, 4, 4000);
    const ratio =
      (slow.prefillFactor(441) * slow.baseMs(0, 128, 4, 4000)) / (usual.prefillFactor(441) * base);
    expect(ratio).toBeGreaterThan(1.5);
    expect(ratio).toBeLessThan(2.5);
    expect(usual.baseMs(0, 0, 0, 0)).toBe(0);
  });
});

describe("LinkPrices", () => {
  it("goes by the pair, else by the slower end, else by the fleet", () => {
    const links = new LinkPrices();
    expect(12.5e6 * links.msPerByte("a", "b", 0)).toBeCloseTo(1, 6);
    for (let i = 0; i < 50; i++) {
      links.observe("a", "b", 1e8, 10, i);
      links.observe("c", "b", 1e8, 10, i);
      links.observe("a", "d", 1e8, 40, i);
    }
    expect(1e8 * links.msPerByte("a", "b", 50)).toBeLessThan(14);
    expect(1e8 * links.msPerByte("a", "d", 50)).toBeGreaterThan(30);
    expect(1e8 * links.msPerByte("c", "d", 50)).toBeGreaterThan(30);
    // Of x and y nothing is known but what the fleet is like.
    expect(1e8 * links.msPerByte("x", "y", 50)).toBeGreaterThan(8);
    expect(1e8 * links.msPerByte("x", "y", 50)).toBeLessThan(40);
    links.forget("d");
    expect(1e8 * links.msPerByte("c", "d", 50)).toBeLessThan(30);
  });

  it("does not take a first transfer that waited for an hour for the fleet's rate", () => {
    const links = new LinkPrices();
    links.observe("a", "b", 1e8, 3_600_000, 0);
    expect(1e8 * links.msPerByte("x", "y", 0)).toBeLessThan(8 * 64 * 2);
    for (let i = 0; i < 100; i++) links.observe("a", "b", 1e8, 8, i);
    expect(1e8 * links.msPerByte("x", "y", 100)).toBeLessThan(16);
  });

  it("learns nothing from transfers of next to nothing, or without a time", () => {
    const links = new LinkPrices();
    links.observe("a", "b", 100, 500, 0);
    for (const ms of [0, -1, 5e-324, Number.NaN, Number.POSITIVE_INFINITY])
      links.observe("a", "b", 1e8, ms, 0);
    links.observe("a", "b", Number.POSITIVE_INFINITY, 1, 0);
    expect(12.5e6 * links.msPerByte("a", "b", 0)).toBeCloseTo(1, 6);
  });
});

describe("Traffic", () => {
  it("follows rate, load and output length", () => {
    const traffic = new Traffic();
    expect(traffic.load(4, 0)).toBe(0);
    for (let i = 1; i <= 1000; i++) {
      traffic.arrived(200, i * 100);
      traffic.ended(50);
    }
    expect(traffic.arrivalsPerMs(100_000)).toBeCloseTo(0.01, 3);
    expect(traffic.load(4, 100_000)).toBeCloseTo(0.5, 1);
    expect(traffic.load(1, 100_000)).toBe(0.95);
    expect(traffic.load(4, 300_000)).toBeLessThan(0.01);
    expect(traffic.outputTokens(1000)).toBeCloseTo(50, 0);
    expect(traffic.outputTokens(20)).toBe(20);
    traffic.ended(Number.NaN);
    expect(traffic.outputTokens(1000)).toBeCloseTo(50, 0);
  });
});
