import { resolve } from "node:path";
import { readTextFile } from "../catalog/read-text-file.ts";
import type { PerfModel } from "../core/perf/perf-model.ts";
import { ProfileModel } from "../core/perf/profile-model.ts";
import { ConfigError } from "../protocol/config-error.ts";
import { type Profile, parseProfile, toEngineProfile } from "../protocol/profile-file.ts";
import { type PartDevice, PartError, type PerfQuery } from "./parts.ts";

const PREFIX = "profile:";
const MAX_PROFILE_BYTES = 1024 * 1024;
/** Between workers of a machine whose profile has no handoff; stated as an assumption. */
const UNMEASURED_LINK = { bytesPerSecond: 1e9, latencyMs: 0 };

/** Whether a pool's device is a profile of this machine or another, and not a part of the catalogue. */
export function isProfileDevice(id: string): boolean {
  return id.startsWith(PREFIX);
}

/** A machine that was measured: its link is that between two workers on it. Throws {@link PartError}. */
export function profileDevice(
  id: string,
  overrides: Readonly<Record<string, number>>,
  folder: string,
): PartDevice {
  const [key] = Object.keys(overrides);
  if (key !== undefined)
    throw new PartError("a profile is measured and has no figures to override", ["overrides", key]);
  const path = resolve(folder, id.slice(PREFIX.length));
  const profile = readProfile(path);
  const link = profile.handoff?.link ?? UNMEASURED_LINK;
  const { machine, model, settings } = profile;
  return {
    spec: {
      id: PREFIX + path,
      denseFlops: {},
      memoryBytes: profile.kvCapacityTokens * profile.kvBytesPerToken,
      memoryBytesPerSecond: link.bytesPerSecond,
      scaleUp: link,
      scaleUpDevices: 1,
      scaleOut: link,
      host: link,
      attentionAcceleration: null,
    },
    idleWatts: null,
    prefillWatts: null,
    decodeWatts: null,
    transferWatts: null,
    installedWatts: null,
    dollarsPerHour: null,
    assumptions: [
      `step times were measured on ${machine.cpu} with ${model.name}, ${settings.threads} thread(s) per worker, on ${profile.measuredAt}; the model of the scenario is not looked at`,
      ...(profile.handoff === null
        ? ["its handoffs were not measured: they are taken to cost nothing but 1 GB/s on the way"]
        : []),
    ],
  };
}

/** Prices steps by the profile that {@link profileDevice} has named. Throws {@link PartError}. */
export function profilePerf(query: PerfQuery): PerfModel {
  const { parallelism, device, host } = query;
  for (const key of ["tp", "pp", "ep", "dp"] as const) {
    if (parallelism[key] !== 1)
      throw new PartError(`is ${parallelism[key]}; a profile was measured on one device`, [
        "parallelism",
        key,
      ]);
  }
  const profile = toEngineProfile(readProfile(device.id.slice(PREFIX.length)));
  const stated = Object.fromEntries(Object.entries(host).filter(([, value]) => value !== undefined));
  return new ProfileModel({ ...profile, host: { ...profile.host, ...stated } });
}

function readProfile(path: string): Profile {
  try {
    return parseProfile(readTextFile(path, MAX_PROFILE_BYTES, path), path);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new PartError(error.message, ["device"]);
  }
}
