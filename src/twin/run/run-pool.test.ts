import { expect, test } from "vitest";
import { FAKE_PARTS, FAKE_SCENARIO } from "../../../test/support/fake-parts.ts";
import { parseScenarioFile } from "../../protocol/scenario-file.ts";
import { Simulation } from "../simulate.ts";
import type { RunTask } from "./messages.ts";
import { type PoolOptions, runTasks } from "./run-pool.ts";

/** Compiling TypeScript in a fresh thread takes seconds on a busy machine. */
const THREAD_TIMEOUT_MS = 60_000;

const ENTRY = new URL("../../../test/support/fake-thread.mjs", import.meta.url);
const SCENARIO = { text: FAKE_SCENARIO, fileName: "s.yaml", overrides: [], folder: "/", tables: null };
const TASKS: readonly RunTask[] = ["aggregated", "split"].flatMap((fleet) =>
  [1, 2].map((seed) => ({ fleet, seed, wantsDetail: seed === 1 })),
);

function options(more: Partial<PoolOptions> = {}): PoolOptions {
  return {
    scenario: SCENARIO,
    tasks: TASKS,
    jobs: 2,
    signal: new AbortController().signal,
    entry: ENTRY,
    ...more,
  };
}

test(
  "threads give what the same thread gives, in the order of the tasks",
  async () => {
    const done: number[] = [];
    const outcomes = await runTasks(options({ onDone: (index) => done.push(index) }));
    const here = new Simulation(parseScenarioFile(FAKE_SCENARIO, "s.yaml"), FAKE_PARTS, "/");
    expect(outcomes.map((outcome) => outcome?.result)).toEqual(
      TASKS.map(({ fleet, seed }) => here.run(fleet, seed).result),
    );
    expect(outcomes.map((outcome) => outcome?.detail !== null)).toEqual([true, false, true, false]);
    expect(outcomes[0]?.detail?.timelines.length).toBe(4);
    expect(done.sort()).toEqual([0, 1, 2, 3]);
  },
  THREAD_TIMEOUT_MS,
);

test(
  "a run that cannot be set up fails with its place, and ends the others",
  async () => {
    const text = FAKE_SCENARIO.replace("device: slow, tok", "device: slwo, tok");
    await expect(runTasks(options({ jobs: 1, scenario: { ...SCENARIO, text } }))).rejects.toMatchObject({
      name: "RunError",
      isBug: false,
      message: expect.stringContaining(
        "s.yaml:13:49: fleets.split.workers[1].device: there is no accelerator",
      ),
    });
  },
  THREAD_TIMEOUT_MS,
);

test(
  "an abort leaves what is done",
  async () => {
    const stop = new AbortController();
    const outcomes = await runTasks(options({ jobs: 1, signal: stop.signal, onDone: () => stop.abort() }));
    expect(outcomes.map((outcome) => outcome !== null)).toEqual([true, false, false, false]);
  },
  THREAD_TIMEOUT_MS,
);
