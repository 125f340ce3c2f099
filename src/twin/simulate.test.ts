import { expect, test } from "vitest";
import { z } from "zod";
import { FAKE_PARTS, FAKE_SCENARIO } from "../../test/support/fake-parts.ts";
import { ConfigError } from "../protocol/config-error.ts";
import { parseScenarioFile } from "../protocol/scenario-file.ts";
import { simulationResultSchema } from "../protocol/simulation-schema.ts";
import { scenarioAssumptions } from "./assumptions.ts";
import { PRODUCTION_PARTS } from "./production-parts.ts";
import { makeSimulationResult } from "./report/result.ts";
import { estimate, studentT975 } from "./report/statistics.ts";
import { Simulation } from "./simulate.ts";

function simulation(text = FAKE_SCENARIO, overrides: readonly string[] = []): Simulation {
  return new Simulation(parseScenarioFile(text, "s.yaml", overrides), FAKE_PARTS, "/");
}

function problemOf(text: string, fleet = "split"): string {
  try {
    simulation(text).check(fleet);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  return "";
}

test("the result of a run adds up", () => {
  const { result } = simulation().run("split", 1);
  expect(result.end).toBe("finished");
  expect(result.requests).toEqual({ arrived: 400, completed: 400, failed: 0, unfinished: 0 });
  expect(result.latency.ttftMs?.count).toBe(400);
  expect(result.latency.itlMs?.count).toBe(result.tokens.output - 400);
  expect(result.byClass.map(({ name, requests }) => [name, requests.arrived])).toEqual([
    ["chat", 320],
    ["code", 80],
  ]);
  expect(result.byTenant.reduce((sum, group) => sum + group.outputTokens, 0)).toBe(result.tokens.output);
  for (const worker of result.workers) {
    expect(worker.prefillMs + worker.decodeMs + worker.mixedMs + worker.idleMs).toBeCloseTo(
      worker.readyMs,
      6,
    );
    expect(worker.meanBatch).toBeGreaterThan(0);
  }
  const [prefill, , decode] = result.workers;
  expect(prefill).toMatchObject({ pool: "prefill", receivedBytes: 0 });
  expect(decode).toMatchObject({ pool: "decode", sentBytes: 0, prefillMs: 0 });
  expect(result.workers.reduce((sum, worker) => sum + worker.sentBytes, 0)).toBe(result.transfers.bytes);
  const shares = Object.values(result.provenance.sources).reduce((sum, share) => sum + share, 0);
  expect(shares).toBeCloseTo(1, 9);
  expect(result.prefixHitRate).toBeCloseTo(result.tokens.cachedInput / result.tokens.input, 12);
});

test("energy, cost and useful time follow their definitions", () => {
  const { result } = simulation().run("aggregated", 1);
  const hours = result.endMs / 3_600_000;
  const busyMs = result.workers.reduce((sum, worker) => sum + worker.prefillMs + worker.mixedMs, 0);
  const decodeMs = result.workers.reduce((sum, worker) => sum + worker.decodeMs, 0);
  const joules = (4 * 250 * result.endMs + 600 * busyMs + 300 * decodeMs) / 1000;
  expect(result.energy?.itJoules).toBeCloseTo(joules, 4);
  expect(result.energy?.facilityJoules).toBeCloseTo(joules * 1.2, 4);
  expect(result.energy?.installedWatts).toBe(4 * 950);
  expect(result.cost?.deviceDollars).toBeCloseTo(4 * 4 * hours, 9);
  expect(result.cost?.energyDollars).toBeCloseTo((joules * 1.2 * 0.1) / 3_600_000, 9);
  expect(result.useful.slo).toBe("fast");
  expect(result.useful.usefulShare).toBeLessThanOrEqual(result.useful.occupancy);
  expect(result.useful.usefulAcceleratorHoursPerMwh).toBeCloseTo(
    result.useful.usefulAcceleratorHours / ((4 * 950 * hours) / 1e6),
    6,
  );
});

test("a missing watt leaves energy out instead of guessing it", () => {
  const parts = {
    ...FAKE_PARTS,
    device: (...query: Parameters<typeof FAKE_PARTS.device>) => ({
      ...FAKE_PARTS.device(...query),
      decodeWatts: null,
    }),
  };
  const { result } = new Simulation(parseScenarioFile(FAKE_SCENARIO, "s.yaml"), parts, "/").run("split", 1);
  expect(result.energy).toBeNull();
  expect(result.cost?.energyDollars).toBeNull();
  expect(result.cost?.deviceDollars).toBeGreaterThan(0);
});

test("service levels count what keeps them, and say when a metric was not recorded", () => {
  const { result } = simulation().run("aggregated", 2);
  const [fast, tail, nine] = result.slos;
  expect(fast).toMatchObject({ kind: "requests", bounds: { ttftMs: 200, tpotMs: 20 }, attainment: 0.9 });
  expect(tail).toMatchObject({
    isMet: false,
    rules: [{ metric: "itlMs" }, { metric: "queuedMs", value: null, isMet: false }],
  });
  expect(nine?.kind === "quantiles" && nine.rules.length).toBe(9);
  expect(nine?.kind === "quantiles" && nine.rules.every(({ value }) => value !== null)).toBe(true);
});

test("a run out of virtual time says that it did not finish, and one over capacity that it did not keep up", () => {
  const cut = simulation(FAKE_SCENARIO, ["limits.virtualSeconds=5"]).run("split", 1).result;
  expect(cut.end).toBe("time");
  expect(cut.requests.unfinished).toBeGreaterThan(0);
  expect(cut.warnings[0]).toMatch(
    /^DID NOT FINISH: \d+ of \d+ requests were not over after 5\.000 s of virtual time/,
  );
  const flooded = simulation(FAKE_SCENARIO, ["workload.arrivals.requestsPerSecond=400"]).run(
    "aggregated",
    1,
  ).result;
  expect(flooded.end).toBe("finished");
  expect(flooded.warnings[0]).toMatch(/^DEMAND OVER CAPACITY: \d+ of 400 requests were in flight/);
});

test("a workload without an end needs a limit, so that no run goes on for ever", () => {
  const endless = FAKE_SCENARIO.replace(" requests: 400,", "");
  expect(problemOf(endless)).toMatch(/^s\.yaml:14:1: workload: has no end; give it requests or durationMs/);
  expect(problemOf(`${endless}limits: { virtualSeconds: 60 }\n`)).toBe("");
  expect(problemOf(`${endless}limits: { requests: 60 }\n`)).toBe("");
});

test("KV whose blocks cannot be kept in memory, or are none, is refused with its place", () => {
  const kv = (tokens: number, blockTokens: number): string =>
    problemOf(FAKE_SCENARIO.replaceAll("role: ", `kvTokens: ${tokens}, blockTokens: ${blockTokens}, role: `));
  expect(kv(1e9, 1)).toBe(
    "s.yaml:11:5: fleets.split.workers: worker prefill-0 has 1000000000 blocks of KV; allowed: 16777216; use larger blocks or less KV",
  );
  expect(kv(1e9, 128)).toBe("");
  expect(kv(15, 16)).toContain("worker prefill-0 has no room for a block of KV");
});

test("requests after the limit never arrive", () => {
  expect(simulation(FAKE_SCENARIO, ["limits.requests=7"]).run("split", 1).result.requests.arrived).toBe(7);
});

test("what parts refuse is named with its line", () => {
  expect(problemOf(FAKE_SCENARIO.replace("model: tiny", "model: tinny"))).toBe(
    's.yaml:4:1: model: there is no model "tinny"; known: tiny',
  );
  expect(problemOf(FAKE_SCENARIO.replace("device: slow, tok", "device: slwo, tok"))).toMatch(
    /^s\.yaml:13:49: fleets\.split\.workers\[1\]\.device: there is no accelerator "slwo"/,
  );
  expect(
    problemOf(FAKE_SCENARIO.replace("device: slow, tok", "device: slow, parallelism: { tp: 3 }, tok")),
  ).toMatch(
    /^s\.yaml:13:78: fleets\.split\.workers\[1\]\.parallelism\.tp: tp 3 does not divide its 8 attention heads/,
  );
  const video =
    "kind: video, frames: 1, tokensPerFrame: 1, encodeMsPerFrame: 1, textTokens: 1, outputTokens: 1, arrivals: { kind: poisson, requestsPerSecond: 1 }, requests: 1";
  expect(problemOf(FAKE_SCENARIO.replace(/workload: .*/, `workload: { ${video} }`))).toBe(
    "s.yaml:14:13: workload.kind: is not requests, the only kind here",
  );
  expect(problemOf(FAKE_SCENARIO.replace("kind: requests, requests", "kind: request, requests"))).toContain(
    's.yaml:14:13: workload.kind: "request" is not allowed (did you mean requests?)',
  );
});

test("the same seed gives the same result, and fleets are compared seed by seed", () => {
  const fleets = ["aggregated", "split"].map((name) => {
    const run = simulation();
    const { description, pools } = run.plan(name);
    return { name, description, pools, runs: [1, 2, 3].map((seed) => run.run(name, seed).result) };
  });
  expect(simulation().run("split", 2).result).toEqual(fleets[1]!.runs[1]);
  const file = parseScenarioFile(FAKE_SCENARIO, "s.yaml");
  const result = makeSimulationResult(fleets, {
    twofoldVersion: "0.0.0",
    scenario: {
      name: "n",
      description: "",
      file: "s.yaml",
      model: "tiny",
      paper: null,
      overrides: [],
      seeds: [1, 2, 3],
    },
    assumptions: scenarioAssumptions(file.values),
    isInterrupted: false,
  });
  expect(simulationResultSchema.parse(JSON.parse(JSON.stringify(result)))).toEqual(result);
  expect(result.assumptions.map(({ statement }) => statement)).toContain(
    "power.idle is taken as 90: measured on a similar card",
  );
  const difference = result.comparisons[0]!.differences["ttftMs.p50"]!;
  const values = [0, 1, 2].map(
    (index) => fleets[1]!.runs[index]!.latency.ttftMs!.p50 - fleets[0]!.runs[index]!.latency.ttftMs!.p50,
  );
  expect(difference.mean).toBeCloseTo(values.reduce((sum, value) => sum + value, 0) / 3, 9);
  expect(difference.n).toBe(3);
});

const TWO_NETWORKS = `name: Two networks
model: llama-3.1-8b
fleets:
  near: { workers: [{ name: both, role: both, count: 2, device: h100-sxm }] }
  far:
    network: { preset: ethernet-25g, rackOversubscription: 2 }
    workers: [{ name: both, role: both, count: 2, device: h100-sxm }]
workload: { kind: requests, requests: 1, inputTokens: 10, outputTokens: 10, arrivals: { kind: poisson, requestsPerSecond: 1 } }
`;

test("what networks rest on is stated, and for which fleet where they differ", () => {
  const file = parseScenarioFile(TWO_NETWORKS, "s.yaml");
  const both = new Simulation(file, PRODUCTION_PARTS, "/");
  for (const fleet of ["near", "far"]) both.check(fleet);
  const stated = both.assumptions(["near", "far"]).map((entry) => `${entry.subject}: ${entry.statement}`);
  expect(stated).toContain("network: both: host link is 64 GB/s per device (device of both)");
  expect(stated).toContain(
    "network of far: both: NIC is 3.13 GB/s per node (network section, preset ethernet-25g)",
  );
  expect(stated).toContain(
    "network of far: rack oversubscription is 2 (network section, preset ethernet-25g)",
  );
  expect(stated.filter((text) => text.includes("host link"))).toHaveLength(1);
});

test("intervals follow Student's t", () => {
  expect(estimate([])).toBeNull();
  expect(estimate([5])).toEqual({ n: 1, mean: 5, low95: null, high95: null });
  const three = estimate([1, 2, 3])!;
  expect(three.high95! - three.mean).toBeCloseTo(4.303 / Math.sqrt(3), 9);
  expect(studentT975(30)).toBeCloseTo(2.042, 3);
  expect(studentT975(31)).toBeCloseTo(2.0395, 3);
  expect(studentT975(100)).toBeCloseTo(1.984, 3);
});

test("the schema of the result changes only together with its version", async () => {
  const schema = JSON.stringify(z.toJSONSchema(simulationResultSchema), null, 2);
  await expect(`${schema}\n`).toMatchFileSnapshot("report/simulation-schema.snap");
});
