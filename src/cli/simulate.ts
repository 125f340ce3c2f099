import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, resolve } from "node:path";
import type { Command } from "commander";
import { ConfigError } from "../protocol/config-error.ts";
import { parseScenarioFile, type ScenarioFile } from "../protocol/scenario-file.ts";
import type { SimulationResult } from "../protocol/simulation-schema.ts";
import type { TwinParts } from "../twin/parts.ts";
import { PRODUCTION_PARTS, partsWithTables } from "../twin/production-parts.ts";
import { type FleetRuns, makeSimulationResult } from "../twin/report/result.ts";
import { renderSimulation } from "../twin/report/terminal.ts";
import type { RunOutcome, RunTask, ScenarioText } from "../twin/run/messages.ts";
import { RunError, runTasks } from "../twin/run/run-pool.ts";
import { Simulation } from "../twin/simulate.ts";
import { CliError, type CliIo, EXIT, type ExitCode } from "./io.ts";
import { packageVersion } from "./package-root.ts";
import { checkOutputs, type SimulateOutputs, writeOutputs } from "./simulate-outputs.ts";
import { SimulateProgress } from "./simulate-progress.ts";
import { chooseFleets, loadSimulateOptions, type SimulateOptions } from "./simulate-settings.ts";

const EXAMPLES = `
Examples:
  twofold simulate examples/together-or-apart.yaml
  twofold simulate scenario.yaml --seeds 5 --html report.html
  twofold simulate scenario.yaml --fleet split --set fleets.split.workers[0].count=4 --json > result.json

Runs every fleet of the scenario with every seed, in parallel. Ctrl-C stops and reports the runs that are over.
Exit code 1: a run did not finish (demand over capacity, or nothing can take a request), or was interrupted.`;

/** What a test replaces. */
export interface SimulateWorld {
  readonly parts: TwinParts;
  /** The file that threads run; must use the same parts. */
  readonly threadEntry?: URL;
}

/** Adds `twofold simulate`. */
export function addSimulate(
  program: Command,
  io: CliIo,
  exit: (code: ExitCode) => void,
  world: SimulateWorld = { parts: PRODUCTION_PARTS },
): void {
  program
    .command("simulate")
    .summary("run fleets in the twin and compare them")
    .description(
      "Runs the decision code of the server on simulated fleets against one workload, and compares them.",
    )
    .argument("<scenario>", "YAML file; see docs/reference/scenario.md")
    .option("--fleet <name...>", "only these fleets (default: all)")
    .option(
      "--seeds <n|list>",
      "how many seeds from 1 on, or a list such as 1,2,5 (default: as the scenario says)",
    )
    .option("--set <path=value...>", "set a value of the scenario, such as workload.timeScale=0.5")
    .option("--tables <folder>", "price kernels by measured tables in AIConfigurator's layout")
    .option("--jobs <n>", "runs at once (default: one per core)")
    .option("--html <file>", "write a page with plots; it needs no network")
    .option("--chrome-trace <file>", "write timelines for Perfetto or chrome://tracing")
    .option("--record <file>", "write what the dispatcher of the one run was told and decided, for replay")
    .option("--json", "print one JSON object instead of tables")
    .addHelpText("after", EXAMPLES)
    .action(async (fileName: string, flags: Record<string, unknown>) => {
      const options = loadSimulateOptions(fileName, flags);
      exit(await simulate(options, io, world));
    });
}

async function simulate(options: SimulateOptions, io: CliIo, world: SimulateWorld): Promise<ExitCode> {
  const path = resolve(io.cwd, options.fileName);
  const scenario: ScenarioText = {
    text: readText(path, options.fileName),
    fileName: options.fileName,
    overrides: options.overrides,
    folder: dirname(path),
    tables: options.tables === null ? null : resolve(io.cwd, options.tables),
  };
  const file = parseScenarioFile(scenario.text, scenario.fileName, scenario.overrides);
  const fleets = chooseFleets(file, options.fleets);
  const { html, chromeTrace, record } = options;
  const outputs: SimulateOutputs = { html, chromeTrace, record };
  checkOutputs(outputs, io.cwd);
  const parts = scenario.tables === null ? world.parts : await partsWithTables(scenario.tables, file);
  const simulation = new Simulation(file, parts, scenario.folder);
  // Whatever is wrong is found before the first run begins.
  for (const fleet of fleets) simulation.check(fleet);
  const wantsDetail = options.html !== null || options.chromeTrace !== null;
  const [firstSeed] = file.seeds;
  const tasks = fleets.flatMap((fleet) =>
    file.seeds.map((seed): RunTask => ({ fleet, seed, wantsDetail: wantsDetail && seed === firstSeed })),
  );
  if (record !== null) recordOne(tasks, resolve(io.cwd, record));
  const { outcomes, isInterrupted } = await runAll(scenario, tasks, options, io, world);
  const runs = fleets.map((name): FleetRuns => {
    const { description, pools } = simulation.plan(name);
    const done = outcomes.filter((outcome, index) => outcome !== null && tasks[index]!.fleet === name);
    return { name, description, pools, runs: done.map((outcome) => outcome!.result) };
  });
  const result = makeSimulationResult(runs, {
    twofoldVersion: packageVersion(),
    scenario: describeScenario(file, options),
    assumptions: simulation.assumptions(fleets),
    isInterrupted,
  });
  const details = outcomes.flatMap((outcome, index) =>
    outcome?.detail ? [{ fleet: tasks[index]!.fleet, seed: tasks[index]!.seed, detail: outcome.detail }] : [],
  );
  writeOutputs(outputs, io, result, details);
  io.stdout.write(options.json ? `${JSON.stringify(result)}\n` : renderSimulation(result));
  const isComplete =
    !isInterrupted && runs.every((fleet) => fleet.runs.every((run) => run.end === "finished"));
  return isComplete ? EXIT.ok : EXIT.failure;
}

/** Has the only run recorded. Throws {@link ConfigError} when there are more. */
function recordOne(tasks: RunTask[], path: string): void {
  const [task] = tasks;
  if (task === undefined || tasks.length > 1) {
    const message = `takes one run, and there are ${tasks.length}; choose it with --fleet NAME --seeds 1`;
    throw new ConfigError([{ origin: "--record", message }]);
  }
  tasks[0] = { ...task, record: { path, twofoldVersion: packageVersion() } };
}

async function runAll(
  scenario: ScenarioText,
  tasks: readonly RunTask[],
  options: SimulateOptions,
  io: CliIo,
  world: SimulateWorld,
): Promise<{ outcomes: (RunOutcome | null)[]; isInterrupted: boolean }> {
  const interrupt = new AbortController();
  const subscription = io.onSignal(() => {
    if (interrupt.signal.aborted) io.exitNow(EXIT.failure);
    interrupt.abort();
  });
  const progress = new SimulateProgress(io, tasks);
  try {
    const outcomes = await runTasks({
      scenario,
      tasks,
      jobs: options.jobs ?? availableParallelism(),
      signal: interrupt.signal,
      onProgress: (index, state) => progress.show(index, state),
      onDone: (index) => progress.done(index),
      ...(world.threadEntry === undefined ? {} : { entry: world.threadEntry }),
    });
    return { outcomes, isInterrupted: outcomes.includes(null) };
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    if (error.isBug) throw new Error(error.message, { cause: error });
    throw new CliError(EXIT.usage, error.message, { cause: error });
  } finally {
    progress.clear();
    subscription.unsubscribe();
  }
}

function readText(path: string, fileName: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    const reason = code === "ENOENT" ? "there is no such file" : `cannot be read (${code})`;
    throw new CliError(EXIT.usage, `${fileName}: ${reason}; name a scenario`, { cause: error });
  }
}

function describeScenario(
  { values, seeds }: ScenarioFile,
  options: SimulateOptions,
): SimulationResult["scenario"] {
  return {
    name: values.name,
    description: values.description,
    file: options.fileName,
    model: typeof values.model === "string" ? values.model : values.model.file,
    paper: values.paper?.model ?? null,
    overrides: [...options.overrides],
    seeds: [...seeds],
  };
}
