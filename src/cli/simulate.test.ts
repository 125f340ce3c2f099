import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeIo } from "../../test/support/cli-io.ts";
import { FAKE_PARTS, FAKE_SCENARIO } from "../../test/support/fake-parts.ts";
import { simulationResultSchema } from "../protocol/simulation-schema.ts";
import { runCli } from "./program.ts";
import type { Product } from "./serving.ts";
import { addSimulate } from "./simulate.ts";
import { loadSimulateOptions } from "./simulate-settings.ts";

/** Compiling TypeScript in a fresh thread takes seconds on a busy machine. */
const THREAD_TIMEOUT_MS = 60_000;

const THREAD_ENTRY = new URL("../../test/support/fake-thread.mjs", import.meta.url);

const nothing: Product = {
  startServing: () => Promise.reject(new Error("not part of this test")),
  runWorker: () => Promise.reject(new Error("not part of this test")),
};

let folder = "";

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "twofold-simulate-"));
  writeFileSync(join(folder, "s.yaml"), FAKE_SCENARIO);
});

afterEach(() => rmSync(folder, { recursive: true }));

async function simulate(io: FakeIo, ...args: string[]): Promise<number> {
  let code = -1;
  const program = new Command("twofold").exitOverride();
  addSimulate(
    program,
    io,
    (exitCode) => {
      code = exitCode;
    },
    { parts: FAKE_PARTS, threadEntry: THREAD_ENTRY },
  );
  await program.parseAsync(["simulate", ...args], { from: "user" });
  return code;
}

test("flags become overrides, seeds among them", () => {
  const flags = { fleet: ["a", "b"], seeds: "4", set: ["x=1"], jobs: "2", json: true };
  expect(loadSimulateOptions("s.yaml", flags)).toEqual({
    fileName: "s.yaml",
    fleets: ["a", "b"],
    overrides: ["x=1", "seeds=4"],
    jobs: 2,
    tables: null,
    html: null,
    chromeTrace: null,
    record: null,
    json: true,
  });
  expect(loadSimulateOptions("s.yaml", { seeds: "3,1" }).overrides).toEqual(["seeds=[3,1]"]);
});

test(
  "a run writes JSON, page and trace, and ends well",
  async () => {
    const io = new FakeIo({ cwd: folder });
    const outputs = ["--html", "r.html", "--chrome-trace", "t.json"];
    expect(await simulate(io, "s.yaml", "--json", "--seeds", "2", "--jobs", "1", ...outputs)).toBe(0);
    const result = simulationResultSchema.parse(JSON.parse(io.outText));
    expect(result.fleets.map(({ name, runs }) => [name, runs.map(({ seed }) => seed)])).toEqual([
      ["aggregated", [1, 2]],
      ["split", [1, 2]],
    ]);
    const page = readFileSync(join(folder, "r.html"), "utf8");
    expect(page).not.toMatch(/(src|href)="?https?:/);
    expect(page.indexOf("What this rests on")).toBeLessThan(page.indexOf("Fleets side by side"));
    const trace: unknown = JSON.parse(readFileSync(join(folder, "t.json"), "utf8"));
    expect(trace).toMatchObject({
      traceEvents: expect.arrayContaining([expect.objectContaining({ ph: "X", name: "prefill" })]),
    });
    expect(io.errText).toBe("Wrote r.html\nWrote t.json\n");
    expect(io.numSignalListeners).toBe(0);
  },
  THREAD_TIMEOUT_MS,
);

test(
  "a run that does not finish says so and ends with 1",
  async () => {
    const io = new FakeIo({ cwd: folder });
    const limit = ["--set", "limits.virtualSeconds=4", "seeds=1"];
    expect(await simulate(io, "s.yaml", "--fleet", "split", "--jobs", "1", ...limit)).toBe(1);
    expect(io.outText).toContain("DID NOT FINISH");
    expect(io.outText).toMatch(/finished +NO \(1 of 1\)/);
    expect(io.outText).not.toContain("aggregated");
  },
  THREAD_TIMEOUT_MS,
);

test(
  "an interrupt reports the runs that are over and ends with 1",
  async () => {
    const io = new FakeIo({ cwd: folder });
    Object.assign(io.stderr, { isTTY: true });
    const running = simulate(io, "s.yaml", "--json", "--jobs", "1");
    await io.wrote("done");
    io.signal("SIGINT");
    expect(await running).toBe(1);
    const result = simulationResultSchema.parse(JSON.parse(io.outText));
    expect(result.isInterrupted).toBe(true);
    expect(result.fleets.flatMap(({ runs }) => runs).length).toBeLessThan(6);
  },
  THREAD_TIMEOUT_MS,
);

describe("bad input ends before a run begins", () => {
  test.each([
    [["missing.yaml"], "missing.yaml: there is no such file; name a scenario"],
    [
      ["s.yaml", "--fleet", "splitt"],
      '--fleet: the scenario has no fleet "splitt" (did you mean split?); it has aggregated, split',
    ],
    [["s.yaml", "--seeds", "many"], '--seeds: "many" is not a number of seeds'],
    [["s.yaml", "--jobs", "0"], '--jobs: "0" is out of range; allowed: 1 to 256'],
    [["s.yaml", "--html", "no/where.html"], "--html: there is no folder "],
    [
      ["s.yaml", "--set", "fleets.split.workers[0].device=quick"],
      '--set fleets.split.workers[0].device=quick: fleets.split.workers[0].device: there is no accelerator "quick"; known: fast, slow',
    ],
    [["s.yaml", "--set", "fleets.split.workers[0].count=-1"], "-1 is out of range; allowed: 1 to 100000"],
  ])("%j", async (args, message) => {
    await expect(simulate(new FakeIo({ cwd: folder }), ...args)).rejects.toThrow(message);
  });

  test("the command line prints it and returns 2", async () => {
    const io = new FakeIo({ cwd: folder });
    writeFileSync(join(folder, "bad.yaml"), FAKE_SCENARIO.replace("workload:", "worklaod:"));
    expect(await runCli(["simulate", "bad.yaml"], io, nothing)).toBe(2);
    expect(io.errText).toContain('twofold: bad.yaml:14:1: unknown key "worklaod" (did you mean workload?)');
  });
});
