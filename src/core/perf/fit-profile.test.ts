import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Rng } from "../util/rng.ts";
import { fitLinear, StepFit } from "./fit-profile.ts";
import { emptyStepTime } from "./perf-model.ts";
import { type EngineProfile, ProfileModel, type StepCoefficients } from "./profile-model.ts";
import { StepLoad } from "./step-load.ts";

const TRUE_STEP: StepCoefficients = {
  stepMs: 1.2,
  tokenMs: [0.5, 0.6, 0.1, 0.3, 0.3, 0.25, 0.2],
  sequenceMs: 0.05,
  sampleMs: 0.1,
  decodeContextMs: 0.0012,
  prefillPairMs: 0.0009,
  cellPairMs: 0.00002,
};

function profileOf(step: StepCoefficients): EngineProfile {
  return {
    step,
    host: { requestMs: 3, outputMs: 1, stepMs: 0.1, sequenceMs: 0.02 },
    handoff: { export: { callMs: 0.2, tokenMs: 0.001 }, import: { callMs: 0.3, tokenMs: 0.002 } },
    range: { stepTokens: 256, decodes: 16, contextTokens: 1024 },
    kvCapacityTokens: 16_384,
    kvBytesPerToken: 816,
  };
}

function deviceMs(step: StepCoefficients, load: StepLoad): number {
  const time = emptyStepTime();
  new ProfileModel(profileOf(step)).stepTime(load, time);
  return time.deviceMs;
}

/** Steps of every kind, as a server shows them. */
function drawLoad(stream: ReturnType<Rng["stream"]>, load: StepLoad): StepLoad {
  load.clear();
  const kind = stream.nextBelow(3);
  const numDecodes = kind === 1 ? 0 : 1 + stream.nextBelow(16);
  for (let i = 0; i < numDecodes; i++) load.addDecode(1 + stream.nextBelow(1000));
  if (kind > 0) {
    const context = 256 * stream.nextBelow(4);
    load.addPrefill(context, 1 + stream.nextBelow(240), stream.nextBelow(2) === 0);
  }
  return load;
}

function fitOf(noise: (stream: ReturnType<Rng["stream"]>) => number, numSteps: number): StepCoefficients {
  const stream = new Rng(7).stream("loads");
  const fit = new StepFit();
  const load = new StepLoad();
  for (let i = 0; i < numSteps; i++)
    fit.add(drawLoad(stream, load), deviceMs(TRUE_STEP, load) * noise(stream));
  return fit.solve().coefficients;
}

/** Largest relative error of prices over new loads. */
function worstError(fitted: StepCoefficients): number {
  const stream = new Rng(8).stream("loads");
  const load = new StepLoad();
  let worst = 0;
  for (let i = 0; i < 300; i++) {
    drawLoad(stream, load);
    worst = Math.max(worst, Math.abs(deviceMs(fitted, load) / deviceMs(TRUE_STEP, load) - 1));
  }
  return worst;
}

describe("the fit of a profile", () => {
  it("prices loads that it has not seen as the steps that it was fitted to", () => {
    expect(worstError(fitOf(() => 1, 600))).toBeLessThan(0.01);
  });

  it("is of medians: a third of the steps that take five times as long moves it by some percent", () => {
    const fitted = fitOf((stream) => (stream.nextBelow(3) === 0 ? 5 : 0.9 + 0.2 * stream.nextFloat()), 3000);
    expect(worstError(fitted)).toBeLessThan(0.15);
  });

  it("does not favour steps that came out short over those that came out long by the same factor", () => {
    const fitted = fitOf(
      (stream) => (stream.nextBelow(2) === 0 ? 0.5 : 2) * (0.97 + 0.06 * stream.nextFloat()),
      4000,
    );
    const load = new StepLoad();
    load.addDecode(500);
    // Between the two there is nothing; what counts is that it does not sink to the lower one.
    expect(deviceMs(fitted, load) / deviceMs(TRUE_STEP, load)).toBeGreaterThan(0.6);
  });

  it("has no negative coefficient, whatever was measured", () => {
    const arbitrary = fc.array(
      fc.record({
        context: fc.nat(2000),
        tokens: fc.integer({ min: 1, max: 300 }),
        ms: fc.double({ min: 0.01, max: 1e4, noNaN: true }),
      }),
      { minLength: 1, maxLength: 40 },
    );
    fc.assert(
      fc.property(arbitrary, (rows) => {
        const fit = new StepFit();
        const load = new StepLoad();
        for (const { context, tokens, ms } of rows) {
          load.clear();
          load.addPrefill(context, tokens, true);
          load.addDecode(context + 1);
          fit.add(load, ms);
        }
        const { tokenMs, ...rest } = fit.solve().coefficients;
        for (const value of [...tokenMs, ...Object.values(rest)]) expect(value).toBeGreaterThanOrEqual(0);
      }),
    );
  });

  it("of a call with a fixed and a proportional part finds both", () => {
    const samples = [16, 64, 100, 256, 512].map((tokens) => ({ tokens, ms: 0.3 + 0.002 * tokens }));
    const cost = fitLinear([...samples, { tokens: 256, ms: 40 }]);
    expect(cost.callMs).toBeCloseTo(0.3, 2);
    expect(cost.tokenMs).toBeCloseTo(0.002, 3);
    expect(fitLinear([])).toEqual({ callMs: 0, tokenMs: 0 });
  });
});

describe("a profile's model", () => {
  const model = new ProfileModel(profileOf(TRUE_STEP));
  const timeOf = (fill: (load: StepLoad) => void) => {
    const load = new StepLoad();
    fill(load);
    const time = emptyStepTime();
    model.stepTime(load, time);
    return time;
  };

  it("adds the parts of a step up, and the host's beside them", () => {
    const time = timeOf((load) => {
      load.addDecode(100);
      load.addPrefill(50, 10, false);
    });
    const tokens = 1 * 0.5 + 2 * 0.6 + 4 * 0.1 + 3 * 0.3;
    const pairs = 10 * (50 + 5.5);
    const expected = 1.2 + tokens + 2 * 0.05 + 0.1 + 100 * 0.0012 + pairs * 0.0009 + 11 * 160 * 0.00002;
    expect(time.deviceMs).toBeCloseTo(expected, 9);
    expect(time.hostMs).toBeCloseTo(0.1 + 2 * 0.02, 9);
    expect(time.source).toBe("profile");
  });

  it("says when a load is beyond what was measured", () => {
    expect(timeOf((load) => load.addDecode(1024)).isExtrapolated).toBe(false);
    expect(timeOf((load) => load.addDecode(1025)).isExtrapolated).toBe(true);
    expect(timeOf((load) => load.addPrefill(768, 256, true)).isExtrapolated).toBe(false);
    expect(timeOf((load) => load.addPrefill(800, 256, true)).isExtrapolated).toBe(true);
    expect(timeOf((load) => load.addPrefill(0, 257, true)).isExtrapolated).toBe(true);
    const many = timeOf((load) => {
      for (let i = 0; i < 17; i++) load.addDecode(10);
    });
    expect(many.isExtrapolated).toBe(true);
  });

  it("knows how long a handoff holds the engine", () => {
    expect(model.handoff?.exportMs(256)).toBeCloseTo(0.456, 9);
    expect(model.handoff?.importMs(256)).toBeCloseTo(0.812, 9);
    expect(new ProfileModel({ ...profileOf(TRUE_STEP), handoff: null }).handoff).toBeUndefined();
  });
});
