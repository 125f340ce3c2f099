import { describe, expect, it } from "vitest";
import { BUILT_IN_CATALOG as CATALOG } from "./catalog.ts";
import { toDevicePower, toDeviceSpec } from "./device-spec.ts";
import { describeFigure, needsStating, specOf } from "./resolve.ts";

const device = (id: string) => CATALOG.get("accelerator", id);

describe("device spec", () => {
  it("is in bytes, FLOP/s and milliseconds", () => {
    expect(specOf(toDeviceSpec(device("h100-sxm"))).spec).toEqual({
      id: "h100-sxm",
      denseFlops: { bf16: 989e12, fp8: 1979e12 },
      memoryBytes: 80e9,
      memoryBytesPerSecond: 3350e9,
      scaleUp: { bytesPerSecond: 450e9, latencyMs: 0.01 },
      scaleUpDevices: 8,
      scaleOut: { bytesPerSecond: 50e9, latencyMs: 0.015 },
      host: { bytesPerSecond: 64e9, latencyMs: 0.01 },
      attentionAcceleration: null,
    });
  });

  it("states every figure that it used, and the estimates among them need stating", () => {
    const { used } = specOf(toDeviceSpec(device("h100-sxm")));
    expect(used.map(({ key }) => key)).toContain("memory.bandwidth");
    expect(used.filter(needsStating).map(({ key }) => key)).toEqual([
      "scaleOut.latency",
      "scaleUp.latency",
      "host.latency",
    ]);
  });

  it("is refused with the unknown figures that block it", () => {
    const conversion = toDeviceSpec(device("groq3-lp30"));
    expect(conversion).toHaveProperty("missing");
    expect(() => specOf(conversion)).toThrow(
      /^groq3-lp30: the catalogue does not know scaleOut.bandwidth .*scaleUp.latency .*state them as assumptions/,
    );
  });

  it("takes an assumption for an unknown figure and repeats it", () => {
    const assumptions = {
      "scaleOut.bandwidth": 25,
      "scaleOut.latency": 5,
      "scaleUp.latency": 1,
    };
    const { spec, used } = specOf(toDeviceSpec(device("groq3-lp30"), { assumptions }));
    expect(spec.scaleOut).toEqual({ bytesPerSecond: 25e9, latencyMs: 0.005 });
    expect(used.find(({ key }) => key === "scaleUp.latency")).toMatchObject({
      entry: "groq3-lp30",
      value: 1,
      unit: "µs",
      confidence: "assumed",
      catalogValue: null,
    });
  });

  it("repeats what the catalogue says where an assumption overrides it", () => {
    const { used } = specOf(toDeviceSpec(device("h100-sxm"), { assumptions: { "memory.bandwidth": 3000 } }));
    expect(used.find(({ key }) => key === "memory.bandwidth")).toMatchObject({
      value: 3000,
      confidence: "assumed",
      catalogValue: 3350,
    });
    expect(
      used.filter(({ confidence }) => confidence === "assumed").map((figure) => describeFigure(figure)),
    ).toEqual([
      "memory.bandwidth of h100-sxm is 3000 GB/s (assumed by the scenario; in the catalogue: 3350 GB/s)",
    ]);
    const bandwidth = used.find(({ key }) => key === "memory.bandwidth")!;
    expect(describeFigure(bandwidth, "h100-sxm")).toMatch(/^memory\.bandwidth is 3000 GB\/s/);
  });

  it("tells an unknown precision from one that the part does not have", () => {
    const cpx = device("rubin-cpx-2025");
    expect(specOf(toDeviceSpec(cpx)).spec.denseFlops).toEqual({ fp4: 20_000e12 });
    expect(toDeviceSpec(cpx, { precisions: ["fp8"] })).toMatchObject({
      missing: [{ entry: "rubin-cpx-2025", key: "dense.fp8" }],
    });
    const a100 = specOf(toDeviceSpec(device("a100-80g-sxm"), { precisions: ["fp8"] }));
    expect(a100.spec.denseFlops.fp8).toBeUndefined();
  });

  it("takes sparse rates only when told, and says so", () => {
    const rubin = device("rubin-r200");
    expect(specOf(toDeviceSpec(rubin)).spec.denseFlops.fp4).toBe(35_000e12);
    const { spec, used } = specOf(toDeviceSpec(rubin, { isSparse: true }));
    expect(spec.denseFlops).toMatchObject({ fp4: 50_000e12, fp8: 17_500e12 });
    expect(used.map(({ key }) => key)).toContain("sparse.fp4");
    expect(used.map(({ key }) => key)).not.toContain("dense.fp4");
  });

  it("refuses assumptions about figures that do not exist or cannot be", () => {
    const assume = (assumptions: Record<string, number>) => () =>
      toDeviceSpec(device("h100-sxm"), { assumptions });
    expect(assume({ "memory.bandwith": 1 })).toThrow("did you mean memory.bandwidth?");
    expect(assume({ "memory.bandwidth": -1 })).toThrow("memory.bandwidth cannot be -1 GB/s; allowed: 0 to");
    expect(assume({ "memory.bandwidth": 3.35e12 })).toThrow("cannot be 3350000000000 GB/s");
    expect(assume({ "memory.bandwidth": Number.NaN })).toThrow("cannot be NaN");
    expect(assume({ toString: 1 })).toThrow('no figure "toString"');
  });

  it.each(CATALOG.all("accelerator").map((entry) => [entry.id, entry] as const))(
    "%s converts to finite numbers or is refused for figures that the catalogue does not have",
    (_, entry) => {
      const conversion = toDeviceSpec(entry);
      if ("missing" in conversion) {
        for (const { key } of conversion.missing) {
          const figure = Object.entries(entry.figures).find(([name]) => name === key)?.[1];
          expect(figure?.value ?? null, key).toBeNull();
        }
        return;
      }
      const { scaleUp, scaleOut, host, ...spec } = conversion.spec;
      for (const value of [spec.memoryBytes, spec.memoryBytesPerSecond, spec.scaleUpDevices]) {
        expect(value).toBeGreaterThan(0);
      }
      for (const link of [scaleUp, scaleOut, host]) {
        expect(link.bytesPerSecond).toBeGreaterThan(0);
        expect(link.latencyMs).toBeGreaterThanOrEqual(0);
      }
      expect(Object.keys(spec.denseFlops).length).toBeGreaterThan(0);
    },
  );

  it("can be made of every part that today's comparisons need", () => {
    const ids = [
      "gb300",
      "rubin-r200",
      "rubin-cpx-2025",
      "h800-sxm",
      "h20-sxm",
      "rtx-pro-6000-bse",
      "h200-sxm",
    ];
    for (const id of ids) {
      expect(toDeviceSpec(device(id)), id).toHaveProperty("spec");
      expect(toDevicePower(device(id)), id).toHaveProperty("spec");
    }
  });
});

describe("power", () => {
  it("gives watts by state", () => {
    expect(specOf(toDevicePower(device("a100-80g-sxm"))).spec).toMatchObject({
      idleW: 63,
      prefillW: 400,
      decodeW: 250,
    });
    expect(toDevicePower(device("groq3-lp30"))).toHaveProperty("missing");
  });
});

describe("names", () => {
  it("are found by alias, whatever the case", () => {
    expect(CATALOG.get("model", "meta-llama/llama-3.1-8B-instruct").id).toBe("llama-3.1-8b");
    expect(CATALOG.get("accelerator", "A100-80GB").id).toBe("a100-80g-sxm");
    expect(CATALOG.find("GB300-NVL72").kind).toBe("rack");
  });

  it("get a hint when they are close to one, and the list of what is known", () => {
    expect(() => CATALOG.get("accelerator", "h100-smx")).toThrow(
      "(did you mean h100-sxm?); known: a100-80g-sxm,",
    );
    expect(() => CATALOG.get("accelerator", "rtx-pro")).toThrow("did you mean rtx-pro-6000-bse?");
    expect(() => CATALOG.get("rack", "h100-sxm")).toThrow('no rack "h100-sxm"');
    expect(() => CATALOG.find("")).toThrow('no entry ""');
  });

  it("of a family ask for the variant", () => {
    expect(() => CATALOG.find("Rubin-CPX")).toThrow(
      '"Rubin-CPX" has several variants; choose one: rubin-cpx-2025 (2025-09-09), rubin-cpx-2025-newsletter (2025-09), rubin-cpx-2027-rumour (2026-09-01)',
    );
  });
});
