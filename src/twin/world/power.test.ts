import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CoveredTime } from "./covered-time.ts";
import { installedWatts, PowerMeter, powerSpec, type RackOverhead } from "./power.ts";

/** The watts of the released Splitwise simulator. */
const A100 = powerSpec({ idle: 63, prefill: 400, decode: 250 }, "Splitwise simulator");
const H100 = powerSpec({ idle: 75, prefill: 700, decode: 380, transfer: 100 }, "Splitwise simulator");
const NO_OVERHEAD: RackOverhead = { kind: "factor", factor: 0, source: "test" };

describe("powerSpec", () => {
  it("takes the hungrier phase for mixed steps and idling for transfers unless told", () => {
    expect(A100.watts).toEqual({ idle: 63, prefill: 400, decode: 250, mixed: 400, transfer: 63 });
    expect(H100.watts.transfer).toBe(100);
  });
});

describe("PowerMeter", () => {
  it("integrates power over states: a worked example", () => {
    const meter = new PowerMeter([
      { name: "prefill-0", numDevices: 8, power: H100 },
      { name: "decode-0", numDevices: 8, power: A100 },
    ]);
    // Prefill for 2 s; its KV leaves from 1.5 s to 2.5 s, so 0.5 s of that are transfer alone.
    meter.stepDone(0, "prefill", 0, 2000);
    meter.transferDone(0, 1500, 2500);
    meter.transferDone(1, 1500, 2500);
    meter.stepDone(1, "decode", 2500, 6500);
    meter.stepDone(1, "mixed", 6500, 7500);
    const energy = meter.energy(10_000, { kind: "factor", factor: 0.25, source: "test" });
    const [prefill, decode] = energy.parts;
    expect(prefill!.stateMs).toEqual({ idle: 7500, prefill: 2000, decode: 0, mixed: 0, transfer: 500 });
    // 8 · (700 W · 2 s + 100 W · 0.5 s + 75 W · 7.5 s)
    expect(prefill!.joules).toBe(8 * (1400 + 50 + 562.5));
    expect(decode!.stateMs).toEqual({ idle: 4000, prefill: 0, decode: 4000, mixed: 1000, transfer: 1000 });
    expect(decode!.joules).toBe(8 * (250 * 4 + 400 + 63 + 63 * 4));
    expect(energy.deviceJoules).toBe(prefill!.joules + decode!.joules);
    expect(energy.itJoules).toBe(energy.deviceJoules * 1.25);
    expect(energy.meanItWatts).toBe(energy.itJoules / 10);
    expect(energy.stateJoules.decode).toBe(8000);
  });

  it("adds fixed rack power for the whole time, and says what it assumed", () => {
    const meter = new PowerMeter([{ name: "w", numDevices: 8, power: H100 }]);
    const overhead: RackOverhead = {
      kind: "fixed",
      wattsPerRack: 4600,
      numRacks: 2,
      source: "10.2 kW less 8 x 0.7",
    };
    const energy = meter.energy(1000, overhead);
    expect(energy.itJoules).toBe(8 * 75 + 2 * 4600);
    expect(energy.assumptions).toContainEqual({
      name: "rack overhead",
      value: 4600,
      unit: "W per rack",
      source: "10.2 kW less 8 x 0.7",
    });
    expect(energy.assumptions).toContainEqual({
      name: "power, prefill",
      value: 700,
      unit: "W per device",
      source: "Splitwise simulator",
    });
  });

  it("counts a transfer that spans steps only where no step ran, whenever it is reported", () => {
    const meter = new PowerMeter([{ name: "w", numDevices: 1, power: H100 }]);
    meter.stepDone(0, "decode", 100, 200);
    meter.stepDone(0, "decode", 300, 400);
    meter.transferDone(0, 50, 450);
    const [part] = meter.energy(500, NO_OVERHEAD).parts;
    expect(part!.stateMs).toEqual({ idle: 100, prefill: 0, decode: 200, mixed: 0, transfer: 200 });
  });

  it("refuses steps that overlap and an end before the last step", () => {
    const meter = new PowerMeter([{ name: "w", numDevices: 1, power: H100 }]);
    meter.stepDone(0, "decode", 0, 100);
    expect(() => meter.stepDone(0, "decode", 50, 150)).toThrow(/overlap/);
    expect(() => meter.energy(50, NO_OVERHEAD)).toThrow(/before the last step/);
  });
});

describe("installedWatts", () => {
  it("is the hungriest state or the TDP of every device, and the racks' overhead", () => {
    const part = { name: "w", numDevices: 8, power: H100 };
    const fixed: RackOverhead = { kind: "fixed", wattsPerRack: 4600, numRacks: 1, source: "test" };
    expect(installedWatts([part], fixed)).toBe(10_200);
    expect(
      installedWatts([{ ...part, wattsPerDevice: 1000 }], { kind: "factor", factor: 0.5, source: "test" }),
    ).toBe(12_000);
  });
});

describe("CoveredTime", () => {
  it("counts time once however intervals overlap, as counting each millisecond does", () => {
    const interval = fc.tuple(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 60 }));
    fc.assert(
      fc.property(fc.array(interval, { maxLength: 40 }), (list) => {
        const covered = new CoveredTime();
        const seen = new Set<number>();
        const intervals = list.map(([start, length]) => [start, start + length] as const);
        for (const [start, end] of intervals.sort((a, b) => a[1] - b[1])) {
          covered.add(start, end);
          for (let ms = start; ms < end; ms++) seen.add(ms);
        }
        expect(covered.coveredMs).toBe(seen.size);
      }),
    );
  });

  it("keeps counting when there are more separate intervals than it remembers", () => {
    const covered = new CoveredTime();
    for (let i = 0; i < 50_000; i++) covered.add(2 * i, 2 * i + 1);
    expect(covered.coveredMs).toBe(50_000);
    covered.add(99_000, 100_000);
    expect(covered.coveredMs).toBe(49_500 + 1000);
  });
});
