import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parseScenarioFile } from "../../protocol/scenario-file.ts";
import { type SimulationResult, simulationResultSchema } from "../../protocol/simulation-schema.ts";
import { PRODUCTION_PARTS } from "../production-parts.ts";
import { Simulation } from "../simulate.ts";
import { renderPage } from "./html/page.ts";
import { makeSimulationResult } from "./result.ts";
import { renderSimulation } from "./terminal.ts";

const FOLDER = fileURLToPath(new URL("../../../examples/twin/", import.meta.url));

/** The example with fewer and shorter sessions, on so little KV that it is brought up all the same. */
const SMALL = [
  ...["workload.requests=90", "workload.lanes=6", "workload.taskTokens=2000", "workload.systemTokens=1000"],
  ...["workload.toolMs.mean=4000", "workload.toolMs.deviation=100", "workload.outputTokens=40"],
  ...["workload.resultTokens=400", "limits.outputTokens=128", "seeds=1", "workload.cache.ttlSeconds=1"],
];

function simulate(
  fleets: readonly string[],
  overrides: readonly string[] = [],
  seeds = [1],
): SimulationResult {
  const kv = ["device-only", "on-demand", "ahead"].flatMap((fleet) => [
    `fleets.${fleet}.workers[0].count=1`,
    `fleets.${fleet}.workers[0].kvTokens=16384`,
  ]);
  const text = readFileSync(`${FOLDER}prefetch-agents.yaml`, "utf8");
  const file = parseScenarioFile(text, "s.yaml", [...SMALL, ...kv, ...overrides]);
  const simulation = new Simulation(file, PRODUCTION_PARTS, FOLDER);
  const results = fleets.map((name) => ({
    ...simulation.plan(name),
    runs: seeds.map((seed) => simulation.run(name, seed).result),
  }));
  const { name, description } = file.values;
  const scenario = { name, description, file: "s.yaml", model: "m", paper: null, overrides: [], seeds };
  const context = { twofoldVersion: "0", scenario, assumptions: [], isInterrupted: false };
  return makeSimulationResult(results, context);
}

describe("what caches did", () => {
  const result = simulate(["device-only", "on-demand", "ahead"]);
  const [deviceOnly, onDemand, ahead] = result.fleets.map(({ runs }) => runs[0]!.caches);

  it("adds up", () => {
    expect(simulationResultSchema.parse(JSON.parse(JSON.stringify(result)))).toEqual(result);
    const { tiers, prefetch, leases } = ahead![0]!;
    expect(tiers.map(({ tier }) => tier)).toEqual(["host", "disk"]);
    expect(tiers[0]!.hits).toBeGreaterThan(0);
    expect(prefetch!.turns).toBeGreaterThan(40);
    expect(prefetch!.came).toBeGreaterThan(40);
    expect(prefetch!.begun).toBeGreaterThan(0);
    const { started, used, wasted, gone } = prefetch!.bytes.device;
    expect(used).toBeGreaterThan(0);
    expect(used + wasted).toBeLessThanOrEqual(started);
    expect(gone).toBeLessThanOrEqual(wasted);
    for (const { blocks, renewed, ended, expired, lost } of Object.values(leases)) {
      expect(blocks).toBeGreaterThan(0);
      expect(renewed + ended + expired + lost).toBeLessThanOrEqual(blocks);
    }
    expect(onDemand![0]).toMatchObject({ prefetch: null, leases: { turns: { leases: 0 } } });
    expect(deviceOnly![0]).toMatchObject({ pool: "main", tiers: [], prefetch: null });
  });

  it("is shown for the fleets that have done it", () => {
    const text = renderSimulation(result);
    const row = (label: string) => text.split("\n").find((line) => line.startsWith(label))!;
    expect(row("turns waited for [turns]")).toMatch(/ - {2,}- +[\d.]+$/);
    expect(row("KV up from host [blocks]")).toMatch(/ - {2,}[\d,]+ +[\d,]+$/);
    expect(row("kept as wished [blocks]")).toMatch(/\d +\d.* +\d/);
    const page = renderPage(result, []);
    expect(page).toContain("ahead: KV brought up ahead of turns, seed 1");
    expect(page).toContain("on-demand: KV below the device, seed 1");
    expect(page).not.toContain("on-demand: KV brought up ahead of turns");
    expect(page).toContain("device-only: cached blocks kept after others, seed 1");
  });

  it("is not spoken of for those that have not", () => {
    const plain = simulate(["device-only"], ["workload.cache={}"]);
    expect(plain.fleets[0]!.runs[0]!.caches).toEqual([]);
    const words = `${renderSimulation(plain)}${renderPage(plain, [])}`;
    expect(words).not.toMatch(/KV up from|prefetched|turns waited for|kept as wished|KV below the device/);
  });

  it("is neither better nor worse for being more", () => {
    const { comparisons, ...rest } = simulate(["on-demand", "ahead"], [], [1, 2, 3, 4]);
    const neutral = Object.entries(comparisons[0]!.differences).filter(
      ([name, { isSignificant }]) => isSignificant && name.startsWith("tierHits."),
    );
    expect(neutral.length).toBeGreaterThan(0);
    const text = renderSimulation({ comparisons, ...rest });
    expect(text).toMatch(/better: .*TTFT/);
    expect(text).not.toMatch(/(better|worse):.*KV up/);
    expect(renderPage({ comparisons, ...rest }, [])).not.toMatch(
      /KV up from [^<]*<\/th><td><span class="n best"/,
    );
  });
});
