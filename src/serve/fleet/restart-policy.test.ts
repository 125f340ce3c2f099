import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RESTART_LIMITS, RestartPolicy } from "./restart-policy.ts";

const LIMITS = {
  ...RESTART_LIMITS,
  baseDelayMs: 100,
  maxDelayMs: 1000,
  maxCrashes: 8,
  crashWindowMs: 60_000,
};

describe("RestartPolicy", () => {
  it("doubles the delay with each crash up to the bound, then gives up", () => {
    const policy = new RestartPolicy(LIMITS);
    const delays: number[] = [];
    for (let i = 0; i < 7; i++) {
      const decision = policy.onCrash(i * 1000, 0);
      if (decision.kind === "restart") delays.push(decision.delayMs);
    }
    expect(delays).toEqual([100, 200, 400, 800, 1000, 1000, 1000]);
    expect(policy.onCrash(8000, 0)).toEqual({ kind: "give-up", reason: "8 crashes within 60 s" });
  });

  it("shortens the delay by the drawn share of the jitter", () => {
    expect(new RestartPolicy(LIMITS).onCrash(0, 0.5)).toMatchObject({ kind: "restart", delayMs: 75 });
    expect(new RestartPolicy({ ...LIMITS, jitter: 0 }).onCrash(0, 0.9)).toMatchObject({ delayMs: 100 });
  });

  it("starts over once crashes have left the window", () => {
    const policy = new RestartPolicy(LIMITS);
    for (let i = 0; i < 100; i++) {
      policy.onReady();
      expect(policy.onCrash(i * 61_000, 0)).toMatchObject({ kind: "restart", delayMs: 100 });
    }
  });

  it("gives up on a child that never becomes ready, however long each start takes", () => {
    const policy = new RestartPolicy(LIMITS);
    const decisions = Array.from({ length: 8 }, (_, i) => policy.onCrash(i * 120_000, 0).kind);
    expect(decisions).toEqual([...Array(7).fill("restart"), "give-up"]);
  });

  it("forgets the past when it is reset", () => {
    const policy = new RestartPolicy({ ...LIMITS, maxCrashes: 2 });
    policy.onCrash(0, 0);
    policy.reset();
    expect(policy.onCrash(1, 0).kind).toBe("restart");
    expect(policy.onCrash(2, 0).kind).toBe("give-up");
  });

  it("never lets more crashes than the limit happen within any window", () => {
    const gaps = fc.array(fc.record({ gapMs: fc.nat(40_000), isReady: fc.boolean() }), { maxLength: 60 });
    fc.assert(
      fc.property(gaps, fc.double({ min: 0, max: 0.999, noNaN: true }), (steps, random) => {
        const policy = new RestartPolicy(LIMITS);
        const crashesMs: number[] = [];
        let nowMs = 0;
        for (const { gapMs, isReady } of steps) {
          nowMs += gapMs;
          if (isReady) policy.onReady();
          crashesMs.push(nowMs);
          const decision = policy.onCrash(nowMs, random);
          const recent = crashesMs.filter((crashMs) => crashMs > nowMs - LIMITS.crashWindowMs);
          if (decision.kind === "give-up") return;
          expect(recent.length).toBeLessThan(LIMITS.maxCrashes);
          expect(decision.delayMs).toBeGreaterThan(0);
          expect(decision.delayMs).toBeLessThanOrEqual(LIMITS.maxDelayMs);
        }
      }),
    );
  });
});
