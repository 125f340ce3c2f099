import { readdirSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parseScenarioFile } from "../protocol/scenario-file.ts";
import { PRODUCTION_PARTS } from "./production-parts.ts";
import { Simulation } from "./simulate.ts";

const FOLDER = fileURLToPath(new URL("../../examples/", import.meta.url));

/** Files that have fleets; the others are fleet files of the server. */
const scenarios = readdirSync(FOLDER, { recursive: true, encoding: "utf8" }).filter(
  (name) => name.endsWith(".yaml") && /^fleets:/m.test(readFileSync(FOLDER + name, "utf8")),
);

test("there are scenarios among the examples", () => {
  expect(scenarios).toContain("together-or-apart.yaml");
});

test.each(scenarios)("the fleets of examples/%s can be built", (name) => {
  const file = parseScenarioFile(readFileSync(FOLDER + name, "utf8"), name);
  const simulation = new Simulation(file, PRODUCTION_PARTS, dirname(FOLDER + name));
  for (const fleet of Object.keys(file.values.fleets)) {
    const { workers } = simulation.plan(fleet);
    expect(workers.length).toBeGreaterThan(0);
    for (const worker of workers) expect(worker.numBlocks).toBeGreaterThan(0);
  }
});

test("a run of the real parts is recorded whole, and twice the same", () => {
  const text = readFileSync(`${FOLDER}together-or-apart.yaml`, "utf8");
  const run = () => {
    const file = parseScenarioFile(text, "s.yaml", ["workload.requests=60"]);
    return new Simulation(file, PRODUCTION_PARTS, FOLDER).run("split", 7).result;
  };
  const result = run();
  expect(result).toMatchObject({ end: "finished", requests: { arrived: 60, completed: 60 } });
  expect(result.latency.itlMs?.count).toBe(result.tokens.output - 60);
  expect(result.transfers.count).toBeGreaterThanOrEqual(60);
  expect(result.workers.reduce((sum, worker) => sum + worker.prefillTokens, 0)).toBe(
    result.tokens.computedPrefill,
  );
  expect(run()).toEqual(result);
});
