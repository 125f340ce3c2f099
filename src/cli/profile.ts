import { mkdirSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Command } from "commander";
import { z } from "zod";
import type { WorkerRole } from "../core/request.ts";
import type { ServeConfig } from "../protocol/fleet-file.ts";
import type { Profile } from "../protocol/profile-file.ts";
import { RUN_FILES } from "../protocol/run-record.ts";
import { readRun, replayRecorded } from "../twin/validate/own.ts";
import { type ComparedMetric, compareRun } from "../twin/validate/run-comparison.ts";
import { CliError, type CliIo, EXIT, type ExitCode } from "./io.ts";
import { busyMsOf, recordLiveRun } from "./live-run.ts";
import { checkOutputFile } from "./output-file.ts";
import { ProfileRun } from "./profile-run.ts";
import { renderComparison, renderProfile } from "./profile-table.ts";
import { ProgressLine } from "./progress-line.ts";
import { fleetValuesOf } from "./serve-child.ts";
import { loadServeConfig, SERVE_SETTINGS } from "./serve-settings.ts";
import { addSettings, readSettings, type Setting } from "./settings.ts";

const EXAMPLES = `
Examples:
  twofold profile --out laptop.json
  twofold profile fleet.yaml --quick --json
  twofold profile fleet.yaml --validate runs/today      # profile, live load, replay in the twin, comparison

Starts servers of its own on free ports and stops them. Leave the machine alone meanwhile: what else runs is measured too.`;

/** Settings of a server that times depend on. */
const SERVER_KEYS: ReadonlySet<string> = new Set([
  "model.path",
  "engine",
  "contextTokens",
  "kvTokensPerWorker",
  "blockSizeTokens",
  "chunkTokens",
  "policy",
  "maxRunning",
  "prefixCacheTokens",
  "threads",
  "stub.stepBaseMs",
  "stub.prefillMsPerToken",
  "stub.decodeMsPerSequence",
]);
const SERVER_SETTINGS = SERVE_SETTINGS.filter(({ key }) => SERVER_KEYS.has(key));

/** Longest measuring, in seconds. */
const MAX_SECONDS = 3600;

const OWN_SETTINGS: readonly Setting[] = [
  {
    key: "seconds",
    flag: "--seconds <s>",
    schema: z.number().min(5).max(MAX_SECONDS),
    help: "measure no longer than this; it ends earlier when nothing changes any more (default: 50)",
  },
  {
    key: "requests",
    flag: "--requests <n>",
    schema: z.int().min(10).max(100_000),
    help: "with --validate: requests of the live run (default: 200)",
  },
  {
    key: "seed",
    flag: "--seed <n>",
    schema: z.int().min(0),
    help: "seed of lengths and prompts (default: 1)",
  },
];

const DEFAULT_SECONDS = 50;
const QUICK_SECONDS = 15;
const DEFAULT_REQUESTS = 200;
/** Load of the live run: share of its time in which the busier worker computes. */
const UTILISATION = 0.4;
const PROMPT_SHARE = { min: 1 / 16, max: 1 };
const MAX_PROMPT_TOKENS = 800;
const OUTPUT_TOKENS = { min: 20, max: 100 };

/** Adds `twofold profile`. */
export function addProfile(program: Command, io: CliIo, exit: (code: ExitCode) => void): void {
  const command = program
    .command("profile")
    .summary("measure this machine's engine for the twin")
    .description(
      "Measures what steps, handoffs and the server around them take on this machine, and fits a profile that the twin prices steps with.",
    )
    .argument("[fleet]", "fleet file of the server to measure (default: the built-in model)");
  addSettings(command, SERVER_SETTINGS);
  addSettings(command, OWN_SETTINGS);
  command
    .option("--quick", `measure ${QUICK_SECONDS} s at most`)
    .option("--no-handoff", "do not measure handoffs: the profile is for workers that do both")
    .option("--out <file>", "write the profile there")
    .option("--validate <folder>", "also record a live run there, replay it in the twin, and compare")
    .option("--json", "print one JSON object instead of a table")
    .addHelpText("after", EXAMPLES)
    .action(async (fleet: string | undefined, flags: Record<string, unknown>) => {
      exit(await profile(fleet, flags, io));
    });
}

async function profile(
  fleet: string | undefined,
  flags: Readonly<Record<string, unknown>>,
  io: CliIo,
): Promise<ExitCode> {
  const given = readSettings(OWN_SETTINGS, flags, io.env);
  const number = (key: string, fallback: number): number =>
    (given.get(key)?.value as number | undefined) ?? fallback;
  const config = loadServeConfig(fleet, flags, io);
  if (typeof flags.out === "string") checkOutputFile("--out", flags.out, io.cwd);
  const liveFolder = typeof flags.validate === "string" ? resolve(io.cwd, flags.validate) : null;
  const liveWorkers = liveFolder === null ? [] : localWorkersOf(config);
  if (liveFolder !== null) makeFolder(liveFolder);
  const interrupt = new AbortController();
  const subscription = io.onSignal(() => {
    if (interrupt.signal.aborted) io.exitNow(EXIT.failure);
    interrupt.abort();
  });
  const { signal } = interrupt;
  const progress = new ProgressLine(io);
  try {
    const run = await ProfileRun.open({
      config,
      maxSeconds: number("seconds", flags.quick === true ? QUICK_SECONDS : DEFAULT_SECONDS),
      withHandoff: flags.handoff !== false,
      seed: number("seed", 1),
      signal,
      env: io.env,
      onProgress: ({ phase, round }) =>
        progress.show(() => (round === 0 ? `warming up: ${phase}` : `round ${round}: ${phase}`)),
    });
    let measured: Profile;
    try {
      measured = run.toProfile(await run.measuring.run());
    } finally {
      await run.close();
    }
    if (signal.aborted) throw new CliError(EXIT.failure, "interrupted; nothing was written");
    if (typeof flags.out === "string") writeProfile(resolve(io.cwd, flags.out), measured);
    let metrics: ComparedMetric[] | null = null;
    if (liveFolder !== null) {
      progress.show(() => "live run", true);
      const parts = { folder: liveFolder, workers: liveWorkers, measured, config, io, signal };
      metrics = await validate(parts, number);
    }
    progress.clear();
    if (flags.json === true) io.stdout.write(`${JSON.stringify({ profile: measured, metrics })}\n`);
    else io.stdout.write(renderProfile(measured) + (metrics === null ? "" : renderComparison(metrics)));
    return EXIT.ok;
  } finally {
    progress.clear();
    subscription.unsubscribe();
  }
}

/** Workers of a live run. */
interface LocalPool {
  readonly role: WorkerRole;
  readonly count: number;
}

function localWorkersOf({ workers }: ServeConfig): LocalPool[] {
  return workers.map((entry) => {
    if ("address" in entry)
      throw new CliError(EXIT.usage, "--validate starts the fleet on this machine; leave remote workers out");
    return { role: entry.role, count: entry.count };
  });
}

/** Before measuring: a folder that cannot be made shall not cost it. */
function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CliError(EXIT.usage, `--validate: ${reason}; name another folder`, { cause: error });
  }
}

async function validate(
  parts: {
    folder: string;
    workers: LocalPool[];
    measured: Profile;
    config: ServeConfig;
    io: CliIo;
    signal: AbortSignal;
  },
  number: (key: string, fallback: number) => number,
): Promise<ComparedMetric[]> {
  const { folder, workers, measured, config, signal, io } = parts;
  const longest = Math.min(MAX_PROMPT_TOKENS, measured.range.contextTokens - OUTPUT_TOKENS.max);
  const prompt = { min: Math.max(1, Math.round(longest * PROMPT_SHARE.min)), max: Math.max(1, longest) };
  const { prefillMs, decodeMs } = busyMsOf(
    measured,
    Math.round((prompt.min + prompt.max) / 2),
    (OUTPUT_TOKENS.min + OUTPUT_TOKENS.max) / 2,
  );
  const count = (role: string): number =>
    workers.reduce((sum, one) => sum + (one.role === role ? one.count : 0), 0);
  const both = count("both");
  const busyMs =
    both > 0
      ? (prefillMs + decodeMs) / both
      : Math.max(prefillMs / count("prefill"), decodeMs / count("decode"));
  await recordLiveRun({
    config,
    workers: fleetValuesOf(config, workers).workers,
    profile: measured,
    load: {
      requests: number("requests", DEFAULT_REQUESTS),
      requestsPerSecond: (1000 * UTILISATION) / busyMs,
      isl: `uniform:${prompt.min}:${prompt.max}`,
      osl: `uniform:${OUTPUT_TOKENS.min}:${OUTPUT_TOKENS.max}`,
      seed: number("seed", 1),
    },
    folder,
    stepLogs: false,
    signal,
    env: io.env,
  });
  if (signal.aborted) throw new CliError(EXIT.failure, `interrupted; ${folder} holds what there is`);
  const run = readRun(folder);
  return compareRun(run.requests, replayRecorded(run));
}

function writeProfile(path: string, profile: Profile): void {
  try {
    writeFileSync(path, `${JSON.stringify(profile, null, 2)}\n`);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CliError(EXIT.failure, `--out: ${RUN_FILES.profile} cannot be written: ${reason}`, {
      cause: error,
    });
  }
}
