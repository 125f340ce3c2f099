import { describe, expect, it } from "vitest";
import { OnboardRule, PrefillSpeed } from "./onboard-rule.ts";

describe("PrefillSpeed", () => {
  it("learns what a token costs and what its position adds", () => {
    const speed = new PrefillSpeed();
    expect(speed.ms(0, 10)).toBeNull();
    for (let i = 0; i < 200; i++) {
      const [numTokens, position] = [16 + (i % 5) * 20, (i % 7) * 300];
      speed.learn(numTokens, position, numTokens * (0.5 + 0.001 * position));
    }
    expect(speed.ms(0, 100)).toBeCloseTo(100 * (0.5 + 0.001 * 49.5), 6);
    expect(speed.ms(4000, 4100)).toBeCloseTo(100 * (0.5 + 0.001 * 4049.5), 6);
  });

  it("puts everything on the tokens while it has seen one position only", () => {
    const speed = new PrefillSpeed();
    for (let i = 0; i < 5; i++) speed.learn(10, 100, 20);
    expect(speed.ms(0, 50)).toBeCloseTo(100, 6);
  });
});

describe("OnboardRule", () => {
  const piece = (tier: "host" | "disk", numTokens = 32) => ({ tier, numTokens });
  const learnt = (diskMsPerToken: number): OnboardRule => {
    const rule = new OnboardRule(16);
    rule.prefill.learn(100, 50, 100);
    rule.learn("host", 100, 1);
    rule.learn("disk", 100, 100 * diskMsPerToken);
    return rule;
  };

  it("takes what is stored before anything has been measured, but not less than its floor", () => {
    const rule = new OnboardRule(16);
    expect(rule.choose(0, [piece("disk"), piece("host")])).toBe(2);
    expect(rule.choose(0, [piece("host", 8)])).toBe(0);
    expect(rule.choose(0, [])).toBe(0);
  });

  it("stops where a slower tier would cost more than computing", () => {
    expect(learnt(0.5).choose(0, [piece("host"), piece("disk")])).toBe(2);
    expect(learnt(2).choose(0, [piece("host"), piece("disk")])).toBe(1);
    expect(learnt(2).choose(0, [piece("disk"), piece("host")])).toBe(0);
    // What lies behind it can make a dear piece worth its price.
    expect(learnt(1.5).choose(0, [piece("disk"), piece("host", 200)])).toBe(2);
  });

  it("tries a tier again after it has been found too slow for long", () => {
    const rule = learnt(2);
    let numRefusals = 0;
    while (rule.choose(0, [piece("disk")]) === 0) numRefusals++;
    expect(numRefusals).toBeGreaterThan(10);
    expect(numRefusals).toBeLessThan(100);
  });

  it("weighs a tier against being sent the KV, import included, and not against computing it", () => {
    const rule = learnt(0.5);
    // Computing takes 1 ms a token.
    expect(rule.choose(0, [piece("disk")], "sent")).toBe(1);
    rule.learn("link", 100, 20);
    expect(rule.choose(0, [piece("disk")], "sent")).toBe(0);
    expect(rule.choose(0, [piece("host"), piece("disk")], "sent")).toBe(1);
    rule.learnImport(60);
    expect(rule.choose(0, [piece("disk")], "sent")).toBe(1);
    expect(rule.choose(0, [piece("disk")])).toBe(1);
  });
});
