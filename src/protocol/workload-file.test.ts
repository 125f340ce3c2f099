import { describe, expect, it } from "vitest";
import { ConfigError } from "./config-error.ts";
import { parseWorkloadFile } from "./workload-file.ts";

describe("a workload section", () => {
  it("stands alone or in a scenario, and has its defaults filled in", () => {
    const alone = parseWorkloadFile("kind: trace\npath: a.jsonl\n", "w.yaml");
    expect(alone).toEqual({
      kind: "trace",
      path: "a.jsonl",
      format: "auto",
      repeat: 1,
      repeatSharesBlocks: false,
      timeScale: 1,
    });
    expect(parseWorkloadFile("fleets: []\nworkload:\n  kind: trace\n  path: a.jsonl\n", "s.yaml")).toEqual(
      alone,
    );
  });

  it("takes lengths as a number, as text and as measured values", () => {
    const text = `
kind: requests
inputTokens: lognormal:800:400
outputTokens: { values: [1, 2], weights: [0.5, 1] }
arrivals: { kind: poisson, requestsPerSecond: 3 }
`;
    expect(parseWorkloadFile(text, "w.yaml")).toMatchObject({
      inputTokens: { kind: "lognormal", mean: 800, deviation: 400 },
      outputTokens: { kind: "empirical", values: Int32Array.of(1, 2), cumulative: Float64Array.of(0.5, 1.5) },
    });
  });

  it("takes cache wishes of every kind, and lets sessions tell them", () => {
    const plain =
      "kind: requests\ninputTokens: 1\noutputTokens: 1\nconcurrency: 1\ncache: { keep: long, ttlSeconds: 300, fanOut: 4, nextTurnSeconds: 2.5 }\n";
    expect(parseWorkloadFile(plain, "w.yaml").cache).toEqual({
      keep: "long",
      ttlSeconds: 300,
      fanOut: 4,
      nextTurnSeconds: 2.5,
    });
    const sessions = "kind: sessions\npath: x\nlanes: 1\ncache: { fanOut: told, nextTurnSeconds: told }\n";
    expect(parseWorkloadFile(sessions, "w.yaml").cache).toEqual({ fanOut: "told", nextTurnSeconds: "told" });
  });

  it.each([
    [
      "kind: trace\npath: x\ncache: { kep: long }\n",
      'w.yaml:3:10: cache: unknown key "kep" (did you mean keep?); allowed: keep, ttlSeconds, fanOut, nextTurnSeconds',
    ],
    [
      "kind: trace\npath: x\ncache:\n  keep: forever\n",
      'w.yaml:4:3: cache.keep: "forever" is not allowed; allowed: none, default, long',
    ],
    [
      "kind: trace\npath: x\ncache: { ttlSeconds: 0 }\n",
      "w.yaml:3:10: cache.ttlSeconds: 0 is out of range; allowed: 1 to 2592000",
    ],
    [
      "kind: trace\npath: x\ncache: { fanOut: told }\n",
      'w.yaml:3:10: cache.fanOut: "told" is not a whole number from 1 to 4096',
    ],
    [
      "kind: sessions\npath: x\nlanes: 1\ncache: { fanOut: 0 }\n",
      "w.yaml:4:10: cache.fanOut: 0 is out of range; allowed: 1 to 4096",
    ],
    [
      "kind: sessions\npath: x\nlanes: 1\ncache: { nextTurnSeconds: soon }\n",
      'w.yaml:4:10: cache.nextTurnSeconds: "soon" must be a number from 0 to 2592000, or told',
    ],
    [
      "workload:\n  kind: merge\n  parts:\n    a: { kind: trace, path: x, cache: { fanOut: 5000 } }\n",
      "w.yaml:4:41: parts.a.cache.fanOut: 5000 is out of range; allowed: 1 to 4096",
    ],
    [
      "kind: tracer\n",
      'w.yaml:1:1: kind: "tracer" is not allowed (did you mean trace?); allowed: trace, sessions, lengths,',
    ],
    ["path: x\n", "w.yaml: kind: is missing; allowed: trace, sessions"],
    [
      "kind: trace\npath: x\nformt: azure\n",
      'w.yaml:3:1: unknown key "formt" (did you mean format?); allowed: kind, path, format',
    ],
    [
      "kind: trace\npath: x\nformat: csv\n",
      'w.yaml:3:1: format: "csv" is not allowed; allowed: auto, mooncake',
    ],
    [
      "kind: trace\npath: x\ntimeScale: 0\n",
      "w.yaml:3:1: timeScale: 0 is out of range; allowed: 0.000001 to 1000000",
    ],
    ["kind: sessions\npath: x\n", "w.yaml: lanes: is missing; give lanes or arrivals"],
    [
      "kind: sessions\npath: x\nlanes: 2\narrivals: { kind: poisson, requestsPerSecond: 1 }\n",
      "w.yaml:3:1: lanes: 2 cannot stand beside arrivals",
    ],
    [
      "kind: requests\ninputTokens: 0\noutputTokens: 1\nconcurrency: 1\n",
      "w.yaml:2:1: inputTokens: 0 must be a whole number from 1 up",
    ],
    [
      "kind: requests\ninputTokens: 1\noutputTokens: 1\narrivals: { kind: poisson, rate: 1 }\n",
      'w.yaml:4:28: arrivals: unknown key "rate"; allowed: kind, requestsPerSecond',
    ],
    [
      "kind: requests\ninputTokens: 1\noutputTokens: 1\narrivals: { kind: poison, requestsPerSecond: 1 }\n",
      'w.yaml:4:13: arrivals.kind: "poison" is not allowed (did you mean poisson?)',
    ],
    [
      "kind: merge\nparts: { a/b: { kind: trace, path: x } }\n",
      'w.yaml:2:10: parts.a/b: "a/b" is not 1 to 64 of A-Z a-z 0-9 . _ -',
    ],
    [
      "kind: merge\nparts: { a: { kind: merge, parts: {} } }\n",
      'w.yaml:2:15: parts.a.kind: "merge" is not allowed; allowed: trace',
    ],
    [
      "workload:\n  kind: video\n  frames: 1\n",
      "w.yaml:1:1: tokensPerFrame: is missing; expected a whole number from 1 to 65536",
    ],
    [
      "kind: merge\nparts:\n  a:\n    kind: trace\n    pth: x\n",
      'w.yaml:5:5: parts.a: unknown key "pth" (did you mean path?)',
    ],
  ])("is refused where it is wrong: %#", (text, message) => {
    const parse = (): unknown => parseWorkloadFile(text, "w.yaml");
    expect(parse).toThrow(ConfigError);
    expect(parse).toThrow(message);
  });
});
