import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { FAKE_PARTS, FAKE_SCENARIO } from "../../../test/support/fake-parts.ts";
import { parseScenarioFile } from "../../protocol/scenario-file.ts";
import type { SimulationResult } from "../../protocol/simulation-schema.ts";
import { scenarioAssumptions } from "../assumptions.ts";
import { Simulation } from "../simulate.ts";
import { chromeTrace } from "./chrome-trace.ts";
import { formatEstimate, formatNumber } from "./format.ts";
import { type DetailedRun, renderPage } from "./html/page.ts";
import { makeSimulationResult } from "./result.ts";
import { renderSimulation } from "./terminal.ts";

function simulateAll(overrides: readonly string[] = []): { result: SimulationResult; runs: DetailedRun[] } {
  const file = parseScenarioFile(FAKE_SCENARIO, "s.yaml", ["workload.requests=60", ...overrides]);
  const simulation = new Simulation(file, FAKE_PARTS, "/");
  const runs: DetailedRun[] = [];
  const fleets = Object.keys(file.values.fleets).map((name) => {
    const results = file.seeds.map((seed) => {
      const { result, detail } = simulation.run(name, seed);
      if (seed === file.seeds[0]) runs.push({ fleet: name, seed, detail });
      return result;
    });
    return { ...simulation.plan(name), runs: results };
  });
  const { name, description } = file.values;
  const scenario = {
    name,
    description,
    file: "s.yaml",
    model: "tiny",
    paper: null,
    overrides: [],
    seeds: [...file.seeds],
  };
  const assumptions = scenarioAssumptions(file.values);
  return {
    result: makeSimulationResult(fleets, {
      twofoldVersion: "0",
      scenario,
      assumptions,
      isInterrupted: false,
    }),
    runs,
  };
}

test("the terminal shows what the result rests on before any figure", () => {
  const text = renderSimulation(simulateAll().result);
  const order = [
    "warnings",
    "assumptions",
    "step times",
    "fleets",
    "TTFT p50 [ms]",
    "goodput fast [/s]",
    "better:",
  ];
  const places = order.map((word) => text.indexOf(word));
  expect(places).not.toContain(-1);
  expect([...places].sort((a, b) => a - b)).toEqual(places);
  expect(
    Math.max(
      ...text
        .split("\n")
        .slice(-40)
        .map((line) => line.length),
    ),
  ).toBeLessThan(1000);
});

test("one seed gives no interval and no verdict", () => {
  const { result } = simulateAll(["seeds=1"]);
  const text = renderSimulation(result);
  expect(text).not.toContain("±");
  expect(text).toContain("One seed tells nothing about the spread");
  expect(renderPage(result, [])).not.toContain('class="n best"');
});

test("warnings that seeds share stand once", () => {
  const { result } = simulateAll();
  const few = result.warnings.filter((warning) => warning.includes("rests on few values"));
  expect(few).toEqual([
    expect.stringMatching(/^aggregated, seed 1: .* \(likewise 2 other seeds\)$/),
    expect.stringMatching(/^split, seed 1: .* \(likewise 2 other seeds\)$/),
  ]);
});

test("nothing that a scenario says becomes markup, and nothing is loaded from elsewhere", () => {
  const evil = `</script><img src=x onerror=alert(1)>`;
  const { result, runs } = simulateAll();
  const named = runs.map((run) => ({ ...run, fleet: run.fleet + evil }));
  const fleets = result.fleets.map((fleet) => ({ ...fleet, name: fleet.name + evil, description: evil }));
  const scenario = { ...result.scenario, name: evil, description: evil };
  const page = renderPage(
    { ...result, scenario, fleets, assumptions: [{ subject: evil, statement: evil }] },
    named,
  );
  expect(page).not.toContain("<img");
  expect(page.match(/<\/script>/g)?.length).toBe(3);
  expect(page).not.toMatch(/<[^>]*\b(src|href)=/);
  expect(page).toContain("default-src 'none'");
});

test("the page's scripts are whole, and its data is what they expect", () => {
  const { result, runs } = simulateAll();
  const page = renderPage(result, runs);
  const scripts = [...page.matchAll(/<script>([\s\S]*?)<\/script>/g)].map((match) => match[1] ?? "");
  expect(scripts.length).toBe(2);
  // Compiles without running: a browser is needed for that.
  for (const script of scripts) expect(() => runInNewContext(`() => {${script}\n}`)).not.toThrow();
  const data: unknown = JSON.parse(/id="data">([\s\S]*?)<\/script>/.exec(page)?.[1] ?? "");
  expect(data).toMatchObject({
    plots: expect.arrayContaining([
      expect.objectContaining({ id: "cdf-ttftMs" }),
      expect.objectContaining({ id: "power" }),
    ]),
    timelines: [{ fleet: "aggregated" }, { fleet: "split" }],
  });
});

test("a trace has every span with times in microseconds, on lanes with names", () => {
  const { runs } = simulateAll();
  const text = [...chromeTrace(runs.map(({ fleet, detail }) => ({ name: fleet, detail })))].join("");
  const { traceEvents } = JSON.parse(text) as {
    traceEvents: { ph: string; pid: number; tid?: number; name: string; ts: number; dur: number }[];
  };
  const spans = traceEvents.filter(({ ph }) => ph === "X");
  const numSpans = runs
    .flatMap(({ detail }) => detail.timelines)
    .reduce(
      (sum, lane) =>
        sum + lane.steps.startMs.length + lane.sends.startMs.length + lane.receives.startMs.length,
      0,
    );
  expect(spans.length).toBe(numSpans);
  const [first] = runs[0]!.detail.timelines;
  const event = spans.find(({ pid, tid }) => pid === 1 && tid === 1)!;
  expect(event.ts).toBe(first!.steps.startMs[0]! * 1000);
  expect(event.dur).toBeCloseTo((first!.steps.endMs[0]! - first!.steps.startMs[0]!) * 1000, 6);
  const named = new Set(
    traceEvents.filter(({ name }) => name === "thread_name").map(({ pid, tid }) => `${pid}/${tid}`),
  );
  expect(spans.every(({ pid, tid }) => named.has(`${pid}/${tid}`))).toBe(true);
});

test("numbers keep three digits", () => {
  expect([0, 0.00012, 0.1234, 1.234, 12.34, 123.4, 12345.6, 1.5e7].map(formatNumber)).toEqual([
    "0",
    "1.20e-4",
    "0.123",
    "1.23",
    "12.3",
    "123",
    "12,346",
    "1.50e+7",
  ]);
  expect(formatEstimate({ n: 3, mean: 0.5, low95: 0.4, high95: 0.6 }, "share")).toBe("50.0 % ±10.0");
  expect(formatEstimate({ n: 3, mean: 50, low95: 50, high95: 50 }, "ms")).toBe("50.0 ±0");
});
