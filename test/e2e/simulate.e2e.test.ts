import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import type { SimulationResult } from "../../src/protocol/simulation-schema.ts";
import { runCli, runCliHere } from "../support/server-process.ts";

const SCENARIO = `
name: Two ways
model: llama-3.1-8b
seeds: 2
fleets:
  aggregated:
    workers: [{ name: both, role: both, count: 2, device: h100-sxm }]
  split:
    workers:
      - { name: prefill, role: prefill, device: h100-sxm, tokenBudget: 8192 }
      - { name: decode, role: decode, device: h100-sxm }
workload:
  kind: requests
  requests: 200
  inputTokens: lognormal:800:600
  outputTokens: lognormal:100:80
  arrivals: { kind: poisson, requestsPerSecond: 6 }
faults:
  - { kind: slow-worker, worker: decode-0, atSeconds: 5, factor: 2 }
`;

describe("twofold simulate", () => {
  const folder = mkdtempSync(join(tmpdir(), "twofold-simulate-"));
  const scenario = join(folder, "scenario.yaml");
  beforeEach(() => writeFileSync(scenario, SCENARIO));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it("makes the same decisions in any process, however many threads it has", async () => {
    const outputs = [];
    for (const jobs of ["1", "2"]) {
      const { code, stdout, stderr } = await runCli(["simulate", scenario, "--json", "--jobs", jobs]);
      expect(stderr).toBe("");
      expect(code).toBe(0);
      outputs.push(JSON.parse(stdout) as SimulationResult);
    }
    const hashes = outputs.map(({ fleets }) =>
      fleets.map(({ name, runs }) => [name, runs.map(({ seed, traceHash }) => [seed, traceHash])]),
    );
    expect(hashes[1]).toEqual(hashes[0]);
    const distinct = new Set(JSON.stringify(hashes[0]).match(/[0-9a-f]{16}/g));
    expect(distinct.size).toBe(4);
    expect(outputs[1]!.fleets).toEqual(outputs[0]!.fleets);
  });

  it("writes a page and a trace that stand alone", async () => {
    const [page, trace] = [join(folder, "report.html"), join(folder, "trace.json")];
    const { code } = await runCliHere([
      "simulate",
      scenario,
      "--html",
      page,
      "--chrome-trace",
      trace,
      "--seeds",
      "1",
    ]);
    expect(code).toBe(0);
    const html = readFileSync(page, "utf8");
    expect(html).toContain("Two ways");
    expect(html).not.toMatch(/<(script|link|img)[^>]+(src|href)=/);
    expect(
      (JSON.parse(readFileSync(trace, "utf8")) as { traceEvents: unknown[] }).traceEvents.length,
    ).toBeGreaterThan(100);
  });

  it.each([
    ["an unknown part", "device: h100-sxm }", "device: h100-smx }", /scenario\.yaml:7:\d+: .*h100-sxm/],
    ["an unknown key", "requests: 200", "reqests: 200", /scenario\.yaml:\d+:\d+: .*did you mean requests/],
    ["negative lengths", "lognormal:800:600", "uniform:-5:10", /scenario\.yaml:\d+:\d+: .*inputTokens/],
    [
      "a model that does not fit",
      "model: llama-3.1-8b",
      "model: llama-3.1-405b",
      /scenario\.yaml:7:\d+: .*GB/,
    ],
    [
      "parallelism that does not divide",
      "count: 2, device: h100-sxm }",
      "count: 2, device: h100-sxm, parallelism: { tp: 3 } }",
      /scenario\.yaml:7:\d+: .*tp 3/,
    ],
  ])("refuses %s with its line", async (_, from, to, message) => {
    writeFileSync(scenario, SCENARIO.replace(from, to));
    const { code, stdout, stderr } = await runCliHere(["simulate", scenario, "--json"]);
    expect(stdout).toBe("");
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  });
});
