import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { ProfileModel } from "../../core/perf/profile-model.ts";
import { ConfigError } from "../../protocol/config-error.ts";
import {
  type FleetFileValues,
  parseFleetFile,
  resolveServeConfig,
  type ServeConfig,
} from "../../protocol/fleet-file.ts";
import { type Profile, parseProfile, toEngineProfile } from "../../protocol/profile-file.ts";
import { type RecordedRequest, RUN_FILES, recordedRequestSchema } from "../../protocol/run-record.ts";
import { ReportBuilder, type ValidateOptions, type ValidationReport } from "./report.ts";
import { compareRun, isFromCache } from "./run-comparison.ts";
import { type LinkTimes, type Replay, replayRun } from "./run-replay.ts";

/** Largest file of a recorded run. */
const MAX_RUN_FILE_BYTES = 512 * 1024 * 1024;
/** Most requests of a recorded run. */
const MAX_RUN_REQUESTS = 500_000;
/** Most runs in one folder. */
const MAX_RUNS = 1000;

/** A recorded run that cannot be used. The message names file and line. */
export class RunRecordError extends Error {
  override name = "RunRecordError";
  readonly code = "bad_run_record";
}

/** A recorded run as its folder holds it. */
export interface RecordedRun {
  readonly requests: readonly RecordedRequest[];
  readonly config: ServeConfig;
  readonly profile: Profile;
}

/**
 * Replays recorded live runs of our own server in the twin, with the profile of its engine, and compares. `path` is the folder of a
 * run, or a folder of such folders. Throws {@link RunRecordError} and `ConfigError` for files that cannot be read.
 */
export async function validateOwn(path: string, _options: ValidateOptions): Promise<ValidationReport> {
  const report = new ReportBuilder();
  for (const folder of runFolders(path)) {
    const run = readRun(folder);
    report.addRows(run.requests.length);
    const replay = replayRecorded(run);
    for (const [index, request] of run.requests.entries()) {
      const name = `${folder} request ${index + 1}`;
      const outcome = replay.outcomes.get(index);
      if (outcome === undefined) {
        report.leaveOut(name, "does not complete in the twin");
        continue;
      }
      if (isFromCache(request)) {
        report.leaveOut(name, `${request.cachedTokens} of its prompt tokens came from a prefix cache`);
        continue;
      }
      report.add("request_ttft", outcome.ttftMs, request.firstTokenMs - request.arrivalMs);
      report.add("request_e2e", outcome.e2eMs, request.endMs - request.arrivalMs);
    }
    for (const { name, measured, predicted } of compareRun(run.requests, replay))
      report.add(name, predicted, measured, folder);
  }
  return report.build(
    "own",
    path,
    "nothing of a run is used to predict it but arrivals, lengths, the fleet's configuration and the profile; and, for quantiles and mean of itl, how many tokens each event of a response told of, or, if that is not recorded, how many events it had",
  );
}

/** Replays a run with its own profile. Throws {@link RunRecordError} when the profile lacks what the fleet needs. */
export function replayRecorded({ requests, config, profile }: RecordedRun): Replay {
  return replayRun(requests, config, new ProfileModel(toEngineProfile(profile)), linkOf(config, profile));
}

function linkOf(config: ServeConfig, profile: Profile): LinkTimes {
  if (profile.handoff !== null) return profile.handoff.link;
  if (config.workers.some(({ role }) => role === "prefill")) {
    throw new RunRecordError(
      "the fleet hands KV over, but its profile has no handoff; measure it without --no-handoff",
    );
  }
  // Nothing is ever sent.
  return { latencyMs: 0, bytesPerSecond: 1e9 };
}

function runFolders(path: string): string[] {
  if (!existsSync(path)) throw new RunRecordError(`${path}: there is no such folder`);
  if (!statSync(path).isDirectory())
    throw new RunRecordError(`${path}: is not a folder; a recorded run is one with ${RUN_FILES.requests}`);
  if (existsSync(join(path, RUN_FILES.requests))) return [path];
  const folders = readdirSync(path)
    .sort()
    .map((name) => join(path, name))
    .filter((folder) => existsSync(join(folder, RUN_FILES.requests)));
  if (folders.length === 0)
    throw new RunRecordError(`${path}: holds no ${RUN_FILES.requests}, nor does a folder in it`);
  if (folders.length > MAX_RUNS)
    throw new RunRecordError(`${path}: has ${folders.length} runs; at most ${MAX_RUNS} are read`);
  return folders;
}

/** Reads the folder of a run. Throws {@link RunRecordError} and `ConfigError` with file and line. */
export function readRun(folder: string): RecordedRun {
  const requests = readRequests(join(folder, RUN_FILES.requests));
  const profilePath = join(folder, RUN_FILES.profile);
  const fleetPath = join(folder, RUN_FILES.fleet);
  const profile = parseProfile(
    readText(profilePath, "the profile that `twofold profile` wrote goes there"),
    profilePath,
  );
  const file = parseFleetFile(
    readText(fleetPath, "the fleet file of the server that was measured goes there"),
    fleetPath,
  );
  // Keys may come from an environment that is not here, and change nothing.
  const values: FleetFileValues = { ...file.values, gateway: { ...file.values.gateway, keys: [] } };
  const config = resolveServeConfig(values, (path) => file.locate(path), {});
  return { requests, config, profile };
}

function readRequests(path: string): RecordedRequest[] {
  const lines = readText(path, "`twofold bench --record` writes it").split("\n");
  const requests: RecordedRequest[] = [];
  for (const [index, line] of lines.entries()) {
    if (line.trim() === "") continue;
    const place = `${path}:${index + 1}`;
    if (requests.length === MAX_RUN_REQUESTS)
      throw new RunRecordError(`${place}: more than ${MAX_RUN_REQUESTS} requests`);
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      throw new RunRecordError(`${place}: is not JSON`, { cause: error });
    }
    const result = recordedRequestSchema.safeParse(value);
    if (!result.success) {
      const issue = result.error.issues[0]!;
      const key = issue.path.join(".");
      throw new RunRecordError(`${place}: ${key === "" ? "" : `${key}: `}${issue.message}`);
    }
    requests.push(result.data);
  }
  if (requests.length === 0) throw new RunRecordError(`${path}: holds no requests`);
  return requests;
}

function readText(path: string, hint: string): string {
  try {
    const { size } = statSync(path);
    if (size > MAX_RUN_FILE_BYTES)
      throw new ConfigError([{ origin: path, message: `is larger than ${MAX_RUN_FILE_BYTES} bytes` }]);
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    const reason = code === "ENOENT" ? "there is no such file" : `cannot be read (${code})`;
    throw new RunRecordError(`${path}: ${reason}; ${hint}`, { cause: error });
  }
}
