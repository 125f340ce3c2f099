/**
 * Self-calibration, closed: profiles the built-in model on this machine, puts a live load well below saturation on a real server,
 * once with one worker for everything and once split, replays both in the twin with nothing but arrivals, lengths, the fleet's
 * configuration and the profile, and compares. Profiling and live runs take turns, and the profile of a comparison is fitted to the
 * rounds of measuring around it: the speed of a shared machine changes by the minute.
 *
 * `--stub` does the same with the stub engine, whose times are known. `--rounds N` and `--requests N` (of each layout and round) make it longer or shorter; `--keep FOLDER` leaves the runs there.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { busyMsOf, recordLiveRun } from "../src/cli/live-run.ts";
import { ProfileRun } from "../src/cli/profile-run.ts";
import { loadServeConfig } from "../src/cli/serve-settings.ts";
import type { FleetFileValues } from "../src/protocol/fleet-file.ts";
import type { Profile } from "../src/protocol/profile-file.ts";
import { type RecordedRequest, RUN_FILES } from "../src/protocol/run-record.ts";
import type { RequestOutcome } from "../src/twin/observer.ts";
import { replayRecorded } from "../src/twin/validate/own.ts";
import { compareRun } from "../src/twin/validate/run-comparison.ts";
import { report, round } from "./lib/report.ts";

const LAYOUTS: ReadonlyArray<{ name: string; workers: NonNullable<FleetFileValues["workers"]> }> = [
  { name: "1 both", workers: [{ role: "both" }] },
  { name: "1 prefill + 1 decode", workers: [{ role: "prefill" }, { role: "decode" }] },
];
const PROMPT_TOKENS = { min: 50, max: 800 };
const OUTPUT_TOKENS = { min: 20, max: 100 };
/** Share of its time in which the busier worker computes, by the profile. */
const UTILISATION = 0.4;
const BAR_PERCENT = 15;

const rounds = Number(flag("rounds") ?? 4);
const requestsPerRound = Number(flag("requests") ?? 50);
const keep = flag("keep");
const folder = keep ?? mkdtempSync(join(tmpdir(), "twofold-own-"));
const isQuiet = process.argv.includes("--json");
const say = (text: string): void => {
  if (!isQuiet) console.log(`[load ${loadavg()[0]!.toFixed(1)}] ${text}`);
};

/** Steps of the stub engine take timers and next to no CPU: what the twin makes of everything around an engine shows by itself. */
const STUB = { engine: "stub", stubStepMs: "15", stubPrefillMsPerToken: "0.25", stubDecodeMs: "1" };
// Every prompt is handed over where there are two workers: prices learned by the server are not those of the replay.
const flags = { ...(process.argv.includes("--stub") ? STUB : {}), placement: "load" };
const config = loadServeConfig(undefined, flags, { env: {}, cwd: process.cwd() });
const { signal } = new AbortController();
const env = process.env;
const run = await ProfileRun.open({ config, maxSeconds: 60, withHandoff: true, seed: 1, signal, env });
/** The live runs of a round, by layout, and the profile that was measured before and after them. */
const played: Array<{ runs: Map<string, readonly RecordedRequest[]>; profile: Profile }> = [];
try {
  for (let index = 1; index <= rounds; index++) {
    const sinceMs = run.measuring.epochNowMs;
    await run.measuring.round(2 * index - 1);
    const profile = run.toProfile(run.measuring.fit(sinceMs));
    const runs = new Map<string, readonly RecordedRequest[]>();
    for (const { name, workers } of LAYOUTS) {
      const mean = (range: { min: number; max: number }): number => (range.min + range.max) / 2;
      const { prefillMs, decodeMs } = busyMsOf(profile, mean(PROMPT_TOKENS), mean(OUTPUT_TOKENS));
      const busyMs = workers.length === 1 ? prefillMs + decodeMs : Math.max(prefillMs, decodeMs);
      const requestsPerSecond = (1000 * UTILISATION) / busyMs;
      say(`round ${index}, ${name}: ${requestsPerSecond.toFixed(2)} requests/s`);
      const { requests } = await recordLiveRun({
        config,
        workers,
        profile,
        load: {
          requests: requestsPerRound,
          requestsPerSecond,
          isl: `uniform:${PROMPT_TOKENS.min}:${PROMPT_TOKENS.max}`,
          osl: `uniform:${OUTPUT_TOKENS.min}:${OUTPUT_TOKENS.max}`,
          seed: index,
        },
        folder: folderOf(name, index),
        stepLogs: keep !== undefined,
        signal,
        env,
      });
      runs.set(name, requests);
    }
    await run.measuring.round(2 * index);
    const around = run.toProfile(run.measuring.fit(sinceMs));
    if (keep !== undefined) {
      for (const name of runs.keys())
        writeFileSync(join(folderOf(name, index), RUN_FILES.profile), `${JSON.stringify(around, null, 2)}\n`);
    }
    played.push({ runs, profile: around });
  }
  const profile = run.toProfile(run.measuring.fit());
  say(`fitted to all rounds: ${JSON.stringify({ ...profile, fit: undefined })}`);
  say(`fit errors: ${JSON.stringify(profile.fit)}`);
  const rows = LAYOUTS.flatMap(({ name, workers }) => compareLayout(name, workers));
  const errorOf = (layout: string, metric: string): number =>
    rows.find((row) => row.layout === layout && row.metric === metric)!.errorPct;
  const bars = LAYOUTS.flatMap(({ name }) =>
    ["ttft_p50", "itl_p50", "tpot_p50"].map((metric) => errorOf(name, metric)),
  );
  const worstPct = Math.max(...bars.map(Math.abs));
  report({
    title: `Predicted against measured, ${rounds} rounds of ${requestsPerRound} requests for each layout, milliseconds`,
    rows,
    result: {
      metrics: Object.fromEntries(
        rows.map(({ layout, metric, measured, predicted, errorPct }) => [
          `${layout}: ${metric}`,
          { measured: round(measured), predicted: round(predicted), errorPct: round(errorPct) },
        ]),
      ),
      worstPct: round(worstPct),
      withinBar: worstPct <= BAR_PERCENT,
      fit: profile.fit,
      loadAverage: profile.machine.loadAverage,
    },
  });
} finally {
  await run.close();
  if (keep === undefined) rmSync(folder, { recursive: true, force: true });
}

/** Replays every round by itself, and compares all of them together. */
function compareLayout(
  layout: string,
  workers: NonNullable<FleetFileValues["workers"]>,
): Array<{ layout: string; metric: string; measured: number; predicted: number; errorPct: number }> {
  const requests: RecordedRequest[] = [];
  const outcomes = new Map<number, RequestOutcome>();
  for (const { runs, profile } of played) {
    const round = runs.get(layout)!;
    const fleet = { ...config, workers: workers.map(({ role }) => ({ role, count: 1 })) };
    const replay = replayRecorded({ requests: round, config: fleet, profile });
    say(`${layout}: busy ${JSON.stringify(Object.fromEntries(replay.busyShares))}`);
    for (const [index, outcome] of replay.outcomes) outcomes.set(requests.length + index, outcome);
    requests.push(...round);
  }
  return compareRun(requests, { outcomes }).map(({ name, measured, predicted }) => ({
    layout,
    metric: name,
    measured,
    predicted,
    errorPct: 100 * (predicted / measured - 1),
  }));
}

function folderOf(layout: string, index: number): string {
  return join(folder, `${layout.replaceAll(/\W+/g, "-")}-${index}`);
}

function flag(name: string): string | undefined {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? undefined : process.argv[at + 1];
}
