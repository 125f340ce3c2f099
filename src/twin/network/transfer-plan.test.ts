import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { buildNetwork } from "./build-network.ts";
import { type TransferMode, transferPlan } from "./transfer-plan.ts";

/** Plays a plan on a real network whose only link gives `bytesPerMs`. Returns when everything has arrived. */
function playedEndMs(
  mode: TransferMode,
  stepMs: number,
  numLayers: number,
  bytes: number,
  bytesPerMs: number,
) {
  const plan = transferPlan(mode, stepMs, numLayers, bytes);
  expect(plan.earlyBytes + plan.lateBytes).toBe(bytes);
  const link = { bytesPerSecond: bytesPerMs * 1000, latencyMs: 0 };
  const { network } = buildNetwork({
    network: { preset: "single-node", groups: {}, tiers: {} },
    groups: [{ name: "part", device: { scaleUp: link, scaleUpDevices: 1, scaleOut: link, host: link } }],
    workers: [
      { name: "a", group: "part", numDevices: 1 },
      { name: "b", group: "part", numDevices: 1 },
    ],
  });
  let endMs = stepMs;
  const finish = (untilMs: number): void => {
    while (network.nextEndMs <= untilMs && network.numFlows > 0) {
      const nowMs = network.nextEndMs;
      while (network.takeEnded(nowMs) !== null) endMs = Math.max(endMs, nowMs);
    }
  };
  if (plan.earlyBytes > 0) network.start("a", "b", plan.earlyBytes, plan.firstByteMs);
  finish(stepMs);
  network.start("a", "b", plan.lateBytes, stepMs);
  finish(Number.POSITIVE_INFINITY);
  return endMs;
}

describe("transferPlan", () => {
  it("sends a chunk after its step, whole", () => {
    expect(transferPlan("chunk", 40, 80, 1000)).toEqual({ firstByteMs: 40, earlyBytes: 0, lateBytes: 1000 });
    expect(playedEndMs("chunk", 40, 80, 1000, 100)).toBe(50);
  });

  it("leaves one layer for the time after the step when the link is fast", () => {
    expect(transferPlan("layer", 40, 80, 8000)).toEqual({
      firstByteMs: 0.5,
      earlyBytes: 7900,
      lateBytes: 100,
    });
    expect(playedEndMs("layer", 40, 80, 8000, 1000)).toBeCloseTo(40.1, 9);
  });

  it("is held up by the link alone, from the first layer on, when the link is slow", () => {
    expect(playedEndMs("layer", 40, 80, 8000, 100)).toBeCloseTo(0.5 + 80, 9);
  });

  it("has nothing to overlap in a model of one layer", () => {
    expect(transferPlan("layer", 40, 1, 7)).toEqual({ firstByteMs: 40, earlyBytes: 0, lateBytes: 7 });
  });

  it("ends when its formula says, never after whole chunks, and never before the step and the last layer", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.1, max: 1000, noNaN: true }),
        fc.integer({ min: 2, max: 128 }),
        fc.integer({ min: 1, max: 1000 }),
        fc.double({ min: 1, max: 1e6, noNaN: true }),
        (stepMs, numLayers, bytesPerLayer, bytesPerMs) => {
          const bytes = numLayers * bytesPerLayer;
          const endMs = playedEndMs("layer", stepMs, numLayers, bytes, bytesPerMs);
          const fast = stepMs + bytes / numLayers / bytesPerMs;
          const slow = stepMs / numLayers + bytes / bytesPerMs;
          expect(Math.abs(endMs - Math.max(fast, slow))).toBeLessThanOrEqual(1e-9 * endMs);
          const chunkMs = playedEndMs("chunk", stepMs, numLayers, bytes, bytesPerMs);
          expect(endMs).toBeLessThanOrEqual(chunkMs * (1 + 1e-9));
        },
      ),
    );
  });
});
