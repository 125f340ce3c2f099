import { describe, expect, it } from "vitest";
import { type FleetPrice, runEconomics, type StatedFigure } from "./economics.ts";

function stated(value: number): StatedFigure {
  return { value, source: "test" };
}

/** An hour of one DGX H100: 8 devices, 10.2 kW installed, 7.2 kW drawn on average, 40 % of the device time useful. */
const HOUR = {
  durationMs: 3_600_000,
  inputTokens: 90_000_000,
  outputTokens: 10_000_000,
  itJoules: 7200 * 3600,
  installedWatts: 10_200,
  usefulDeviceMs: 0.4 * 8 * 3_600_000,
};

describe("runEconomics", () => {
  it("works out a rented fleet: 8 devices at 2.95 USD for an hour", () => {
    const rent: FleetPrice = { kind: "rent", usdPerHour: stated(8 * 2.95) };
    const result = runEconomics(HOUR, rent, stated(1.25));
    expect(result.costUsd).toBeCloseTo(23.6, 9);
    expect(result.usdPerMillionOutputTokens).toBeCloseTo(2.36, 9);
    expect(result.usdPerMillionTokens).toBeCloseTo(0.236, 9);
    // 7.2 kW for an hour with a quarter on top: 32.4 MJ.
    expect(result.joulesPerOutputToken).toBeCloseTo(3.24, 9);
    expect(result.joulesPerToken).toBeCloseTo(0.324, 9);
    // 3.2 useful devices at every moment on 0.0102 MW.
    expect(result.usefulDeviceHoursPerMwHour).toBeCloseTo(3.2 / 0.0102, 6);
    expect(result.outputTokensPerSecondPerMw).toBeCloseTo(1e7 / 3600 / 0.0102, 6);
    expect(result.tokensPerSecondPerMw).toBeCloseTo(1e8 / 3600 / 0.0102, 6);
  });

  it("works out a purchased fleet: capital, upkeep and energy", () => {
    const purchase: FleetPrice = {
      kind: "purchase",
      capexUsd: stated(350_400),
      amortisationYears: stated(4),
      utilisation: stated(0.5),
      usdPerKwh: stated(0.1),
      upkeepPerYear: stated(0.05),
    };
    const result = runEconomics(HOUR, purchase, stated(1.25));
    // 350,400 USD is 40 USD for each hour of a year: 10 over four years, 2 upkeep, and half of the hours have to earn it.
    // 7.2 kWh at a PUE of 1.25 are 9 kWh: 0.90 USD.
    expect(result.costUsd).toBeCloseTo((10 + 2) / 0.5 + 0.9, 9);
    expect(result.assumptions.map(({ name, value, unit }) => [name, value, unit])).toEqual([
      ["price of the fleet", 350_400, "USD"],
      ["amortisation", 4, "years"],
      ["utilisation", 0.5, ""],
      ["upkeep per year over price", 0.05, ""],
      ["price of energy", 0.1, "USD/kWh"],
      ["power usage effectiveness", 1.25, ""],
      ["installed IT power", 10_200, "W"],
    ]);
    expect(result.assumptions.every(({ source }) => source !== "")).toBe(true);
  });

  it("has no cost per token without tokens", () => {
    const rent: FleetPrice = { kind: "rent", usdPerHour: stated(1) };
    const result = runEconomics({ ...HOUR, inputTokens: 0, outputTokens: 0 }, rent, stated(1));
    expect([result.usdPerMillionTokens, result.joulesPerOutputToken]).toEqual([null, null]);
    expect(result.tokensPerSecondPerMw).toBe(0);
  });

  it("scales: twice the load on twice the fleet costs the same per token and is the same per MW", () => {
    const rent = (usd: number): FleetPrice => ({ kind: "rent", usdPerHour: stated(usd) });
    const one = runEconomics(HOUR, rent(10), stated(1.2));
    const twice = {
      durationMs: HOUR.durationMs,
      inputTokens: 2 * HOUR.inputTokens,
      outputTokens: 2 * HOUR.outputTokens,
      itJoules: 2 * HOUR.itJoules,
      installedWatts: 2 * HOUR.installedWatts,
      usefulDeviceMs: 2 * HOUR.usefulDeviceMs,
    };
    const two = runEconomics(twice, rent(20), stated(1.2));
    expect(two.usdPerMillionTokens).toBeCloseTo(one.usdPerMillionTokens!, 12);
    expect(two.joulesPerToken).toBeCloseTo(one.joulesPerToken!, 12);
    expect(two.usefulDeviceHoursPerMwHour).toBeCloseTo(one.usefulDeviceHoursPerMwHour, 9);
  });

  it("refuses a utilisation of nothing and a PUE below 1", () => {
    const purchase: FleetPrice = {
      kind: "purchase",
      capexUsd: stated(1),
      amortisationYears: stated(4),
      utilisation: stated(0),
      usdPerKwh: stated(0.1),
      upkeepPerYear: stated(0),
    };
    expect(() => runEconomics(HOUR, purchase, stated(1.2))).toThrow(/utilisation/);
    expect(() => runEconomics(HOUR, { kind: "rent", usdPerHour: stated(1) }, stated(0.9))).toThrow(/PUE/);
  });
});
