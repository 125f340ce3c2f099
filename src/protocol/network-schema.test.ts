import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { NETWORK_PRESET_NAMES, networkSchema } from "./network-schema.ts";

function messages(section: unknown): string[] {
  const result = networkSchema.safeParse(section);
  return result.success
    ? []
    : result.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
}

describe("networkSchema", () => {
  it("needs nothing, and takes every preset alone", () => {
    expect(networkSchema.parse({})).toEqual({ preset: "dgx-cluster", groups: {}, tiers: {} });
    for (const preset of NETWORK_PRESET_NAMES) expect(messages({ preset })).toEqual([]);
  });

  it("refuses unknown keys, unknown presets and figures that no link has", () => {
    expect(messages({ prest: "nvl72" })[0]).toMatch(/prest/);
    expect(messages({ preset: "nvl73" })[0]).toMatch(/nvl72/);
    expect(messages({ nic: { bytesPerSecond: 0, latencyMs: 0 } })[0]).toMatch(/^nic.bytesPerSecond/);
    expect(messages({ nic: { bytesPerSecond: Number.POSITIVE_INFINITY, latencyMs: 0 } })).toHaveLength(1);
    expect(messages({ rackOversubscription: 0.5 })[0]).toMatch(/^rackOversubscription/);
    expect(
      messages({ tiers: { host: { capacityBytes: 0, readBytesPerSecond: 1e9, writeBytesPerSecond: 1e9 } } }),
    ).toHaveLength(1);
  });

  it("refuses settings that the preset would ignore", () => {
    const pair = { bytesPerSecond: 1e9, latencyMs: 0 };
    expect(messages({ pair })).toEqual(["pair: goes only with preset: uncontended"]);
    expect(messages({ preset: "uncontended", pair, nodesPerRack: 4 })).toEqual([
      "nodesPerRack: means nothing with preset: uncontended, which takes only pair",
    ]);
  });

  it("knows what its reference page shows, and the page names every key and preset", () => {
    const page = readFileSync(new URL("../../docs/reference/twin-world.md", import.meta.url), "utf8");
    const examples = [...page.matchAll(/```yaml\n(.*?)```/gs)].map(([, text]) => parse(text!) as unknown);
    expect(examples.length).toBeGreaterThan(0);
    for (const example of examples) {
      const { network } = example as { network: unknown };
      expect(messages(network)).toEqual([]);
    }
    const words = [...Object.keys(networkSchema.shape), ...NETWORK_PRESET_NAMES];
    expect(words.filter((word) => !page.includes(`\`${word}\``))).toEqual([]);
  });
});
