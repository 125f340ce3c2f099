import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { monotonicClock } from "../bench/clock.ts";
import type { LoadReport } from "../bench/report.ts";
import { runLoad } from "../bench/run-load.ts";
import { toRecordedRequest } from "../bench/run-recorder.ts";
import { emptyStepTime } from "../core/perf/perf-model.ts";
import { ProfileModel } from "../core/perf/profile-model.ts";
import { StepLoad } from "../core/perf/step-load.ts";
import type { FleetFileValues, ServeConfig } from "../protocol/fleet-file.ts";
import { type Profile, toEngineProfile } from "../protocol/profile-file.ts";
import { type RecordedRequest, RUN_FILES } from "../protocol/run-record.ts";
import { loadBenchOptions } from "./bench-settings.ts";
import { fleetValuesOf, startServeChild } from "./serve-child.ts";

/** A load well below saturation. */
export interface LiveLoad {
  readonly requests: number;
  readonly requestsPerSecond: number;
  /** Lengths as `twofold bench` takes them. */
  readonly isl: string;
  readonly osl: string;
  readonly seed: number;
}

export interface LiveRun {
  readonly report: LoadReport;
  readonly requests: readonly RecordedRequest[];
}

/**
 * Starts a server with the workers, puts a Poisson load on it, and leaves the run in `folder` as `validate own` reads it.
 * `stepLogs` makes its workers write step logs there too.
 */
export async function recordLiveRun(options: {
  config: ServeConfig;
  workers: FleetFileValues["workers"];
  profile: Profile;
  load: LiveLoad;
  folder: string;
  stepLogs: boolean;
  signal: AbortSignal;
  env: Readonly<Record<string, string | undefined>>;
}): Promise<LiveRun> {
  const { folder, load, profile } = options;
  mkdirSync(folder, { recursive: true });
  const values = fleetValuesOf(options.config, options.workers);
  const server = await startServeChild(values, folder, options);
  const requests: RecordedRequest[] = [];
  try {
    const flags = {
      rate: String(load.requestsPerSecond),
      requests: String(load.requests),
      isl: load.isl,
      osl: load.osl,
      seed: String(load.seed),
      warmup: "16",
    };
    const report = await runLoad(loadBenchOptions(server.url.href, flags, {}), {
      clock: monotonicClock,
      signal: options.signal,
      startedAt: new Date(),
      onRecord(record, trace, startMs) {
        const request = toRecordedRequest(record, trace, startMs);
        if (request !== null) requests.push(request);
      },
    });
    writeRun(folder, { report, requests });
    writeFileSync(join(folder, RUN_FILES.profile), `${JSON.stringify(profile, null, 2)}\n`);
    return { report, requests };
  } finally {
    await server.stop();
  }
}

/** Writes what the load generator saw, as `twofold bench --record` does. */
export function writeRun(folder: string, { report, requests }: LiveRun): void {
  const lines = [...requests].sort((a, b) => a.arrivalMs - b.arrivalMs).map((one) => JSON.stringify(one));
  writeFileSync(join(folder, RUN_FILES.requests), lines.map((line) => `${line}\n`).join(""));
  writeFileSync(join(folder, RUN_FILES.report), `${JSON.stringify(report, null, 2)}\n`);
}

/** Milliseconds that a request of these lengths keeps a worker that prefills, and one that decodes, busy when it is alone. */
export function busyMsOf(
  profile: Profile,
  inputTokens: number,
  outputTokens: number,
): { prefillMs: number; decodeMs: number } {
  const model = new ProfileModel(toEngineProfile(profile));
  const { chunkTokens } = profile.settings;
  const load = new StepLoad();
  const time = emptyStepTime();
  let prefillMs = 0;
  for (let start = 0; start < inputTokens; start += chunkTokens) {
    const chunk = Math.min(chunkTokens, inputTokens - start);
    load.clear();
    load.addPrefill(start, chunk, start + chunk === inputTokens);
    model.stepTime(load, time);
    prefillMs += time.deviceMs + time.hostMs + (model.handoff?.exportMs(chunk) ?? 0);
  }
  load.clear();
  load.addDecode(inputTokens + outputTokens / 2);
  model.stepTime(load, time);
  return { prefillMs, decodeMs: (outputTokens - 1) * (time.deviceMs + time.hostMs) };
}
