import { describe, expect, test } from "vitest";
import { ConfigError } from "./config-error.ts";
import { parseScenarioFile } from "./scenario-file.ts";

const BASE = `name: small
model: llama-3.1-70b
fleets:
  aggregated:
    workers:
      - { name: main, role: both, count: 4, device: h100-sxm, parallelism: { tp: 2 } }
  split:
    workers:
      - { name: prefill, role: prefill, count: 2, device: h100-sxm }
      - name: decode
        role: decode
        device: h200-sxm
workload: { kind: requests, inputTokens: 9, outputTokens: 9, concurrency: 2 }
`;

function messageOf(text: string, overrides: readonly string[] = []): string {
  try {
    parseScenarioFile(text, "s.yaml", overrides);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  return "";
}

test("a scenario is read with its defaults, fleets in order", () => {
  const { values, seeds } = parseScenarioFile(BASE, "s.yaml");
  expect(Object.keys(values.fleets)).toEqual(["aggregated", "split"]);
  expect(seeds).toEqual([1]);
  expect(values.fleets.split?.workers[1]).toMatchObject({
    count: 1,
    parallelism: { tp: 1, pp: 1, ep: 1, dp: 1 },
    precision: { weights: "bf16", kv: "bf16" },
    policy: "chunked",
    memoryUtilisation: 0.9,
  });
});

test("seeds are counted from 1, or listed", () => {
  expect(parseScenarioFile(`${BASE}seeds: 3\n`, "s.yaml").seeds).toEqual([1, 2, 3]);
  expect(parseScenarioFile(`${BASE}seeds: [7, 5]\n`, "s.yaml").seeds).toEqual([7, 5]);
  expect(messageOf(`${BASE}seeds: [7, 7]\n`)).toContain("s.yaml:14:1: seeds: names a seed twice");
});

describe("bad input is refused with its place and what is allowed", () => {
  test.each([
    [
      "an unknown key of a pool",
      BASE.replace("role: decode", "rolle: decode"),
      /s\.yaml:11:9: fleets\.split\.workers\[1\]: unknown key "rolle" \(did you mean role\?\)/,
    ],
    [
      "an unknown key at the top",
      `${BASE}sloo: {}\n`,
      /s\.yaml:14:1: unknown key "sloo" \(did you mean slo\?\)/,
    ],
    [
      "a role that is none",
      BASE.replace("role: decode", "role: decoder"),
      /s\.yaml:11:9: .*"decoder" is not allowed \(did you mean decode\?\); allowed: prefill, decode, both/,
    ],
    [
      "a negative count",
      BASE.replace("count: 4", "count: -4"),
      /s\.yaml:6:35: fleets\.aggregated\.workers\[0\]\.count: -4 is out of range; allowed: 1 to 100000/,
    ],
    [
      "a fraction of a device",
      BASE.replace("tp: 2", "tp: 1.5"),
      /s\.yaml:6:78: .*parallelism\.tp: 1.5 is not a whole number from 1 to 4096/,
    ],
    ["a missing section", BASE.replace(/workload.*\n/, ""), /s\.yaml: workload: is missing/],
    ["broken YAML", BASE.replace("concurrency: 2 }", "concurrency: 2"), /s\.yaml:\d+:\d+: /],
    [
      "a fleet that cannot decode",
      BASE.replace("role: decode", "role: prefill"),
      /s\.yaml:8:5: fleets\.split\.workers: nothing decodes/,
    ],
    [
      "pools that cannot hand over",
      BASE.replace("role: decode", "blockTokens: 32\n        role: decode"),
      /s\.yaml:11:9: fleets\.split\.workers\[1\]\.blockTokens: 32 differs from the 16 of "prefill"; pools of a fleet hand KV over/,
    ],
    ["two pools of one name", BASE.replace("name: decode", "name: prefill"), /"prefill" is taken/],
    [
      "a service level of no known kind",
      `${BASE}slo:\n  a: { kind: request, ttftMs: 5 }\n`,
      /s\.yaml:15:8: slo\.a\.kind: "request" is not allowed \(did you mean requests\?\); allowed: requests, quantiles, splitwise, sarathi, mooncake/,
    ],
    [
      "a service level with an unknown bound",
      `${BASE}slo:\n  a: { kind: requests, tftMs: 5 }\n`,
      /s\.yaml:15:24: slo\.a: unknown key "tftMs" \(did you mean ttftMs\?\)/,
    ],
    [
      "a service level that bounds nothing",
      `${BASE}slo:\n  a: { kind: requests }\n`,
      /slo\.a: .*needs a bound/,
    ],
    [
      "slowdowns without a reference",
      `${BASE}slo:\n  a: { kind: splitwise }\n`,
      /s\.yaml:15:3: slo\.a: slowdowns need the section reference/,
    ],
    [
      "a fault of nobody",
      `${BASE}faults:\n  - { kind: crash, worker: decod-0, atSeconds: 5 }\n`,
      /s\.yaml:15:20: faults\[0\]\.worker: no fleet has a worker "decod-0" \(did you mean decode-0\?\)/,
    ],
    [
      "a model of a wrong form",
      BASE.replace("llama-3.1-70b", "[a]"),
      /s\.yaml:2:1: model: .*is not text or a mapping/,
    ],
    [
      "a model file of a wrong form",
      BASE.replace("llama-3.1-70b", "{ fiel: a }"),
      /s\.yaml:2:10: model: unknown key "fiel" \(did you mean file\?\)/,
    ],
  ])("%s", (_, text, expected) => {
    expect(messageOf(text)).toMatch(expected);
  });
});

describe("overrides", () => {
  test("set values by path, and problems name them", () => {
    const file = parseScenarioFile(BASE, "s.yaml", [
      "fleets.split.workers[1].count=6",
      "slo.fast={kind: requests, ttftMs: 9}",
    ]);
    expect(file.values.fleets.split?.workers[1]?.count).toBe(6);
    expect(file.values.slo.fast).toMatchObject({ ttftMs: 9 });
    expect(file.locate(["fleets", "split", "workers", 1, "count"])).toBe(
      "--set fleets.split.workers[1].count=6",
    );
    expect(messageOf(BASE, ["fleets.split.workers[1].count=-6"])).toBe(
      "--set fleets.split.workers[1].count=-6: fleets.split.workers[1].count: -6 is out of range; allowed: 1 to 100000",
    );
  });

  test.each([
    ["fleets", "is not PATH=VALUE"],
    ["=5", "is not PATH=VALUE"],
    ["name.x=5", '"name" holds a plain value'],
    ["fleets.split.workers[2].count=5", "2 is not an entry of a list of 2"],
    ["name={", "has a value that is not YAML"],
    ["__proto__.x=1", "has no usable path"],
  ])("%s is refused", (override, message) => {
    expect(messageOf(BASE, [override])).toContain(`--set ${override}: ${message}`);
  });
});
