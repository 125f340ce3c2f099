import { createHash } from "node:crypto";
import type { z } from "zod";
import type { WorkerRole } from "../core/request.ts";
import { ConfigError, type ConfigPath, type ConfigProblem, type Origin } from "./config-error.ts";
import { defaultKvTokens, fleetFileSchema } from "./fleet-schema.ts";
import { findConflicts } from "./serve-conflicts.ts";
import { readYaml, toProblems } from "./yaml-document.ts";

export { fleetFileSchema } from "./fleet-schema.ts";

/** Longest fleet file, in UTF-16 units. */
export const MAX_FLEET_FILE_LENGTH = 1024 * 1024;

/** What a fleet file may say: every key optional, no defaults filled in. */
export type FleetFileValues = z.input<typeof fleetFileSchema>;

/** Workers that `serve` starts and supervises on this machine, `count` of them. */
interface LocalWorkers {
  readonly role: WorkerRole;
  readonly count: number;
}

/** A worker that runs elsewhere and that `serve` connects to. */
interface RemoteWorker {
  readonly role: WorkerRole;
  /** RPC address, `unix:/path` or `tcp:host:port`. */
  readonly address: string;
  /** Where other workers reach its KV port, or null for the address that it reports itself. */
  readonly kvAddress: string | null;
}

/** An API key as the gateway compares it. */
interface ApiKeyHash {
  readonly tenant: string;
  /** SHA-256 of the key, 64 lower-case hex digits. */
  readonly sha256: string;
}

type Filled = z.output<typeof fleetFileSchema>;

/** Everything that `twofold serve` needs to know: defaults filled in, conflicts ruled out, secrets hashed. */
export type ServeConfig = Omit<Filled, "model" | "workers" | "gateway" | "kvTokensPerWorker"> & {
  readonly kvTokensPerWorker: number;
  /** `path` is null for the built-in model (or for the stub engine, which has no file); `name` null: as the file says. */
  readonly model: {
    readonly path: string | null;
    readonly name: string | null;
    readonly aliases: readonly string[];
  };
  readonly workers: ReadonlyArray<LocalWorkers | RemoteWorker>;
  readonly gateway: Omit<Filled["gateway"], "keys"> & { readonly keys: readonly ApiKeyHash[] };
  /** Where to record what the dispatcher is told and decides; absent: nowhere. Never from the file. */
  readonly record?: { readonly path: string; readonly twofoldVersion: string };
};

/** A fleet file that has been read: what it says, and where it says it. */
export interface FleetFile {
  readonly values: FleetFileValues;
  /** `name:line:column` of the value at a path, or of the nearest thing around it that the file holds. */
  locate(path: ConfigPath): Origin;
}

/** The tenant of everybody when there are no keys. */
export const OPEN_TENANT = "default";

/** Workers of a fleet that names none: one of each role. */
const DEFAULT_WORKERS: readonly LocalWorkers[] = [
  { role: "prefill", count: 1 },
  { role: "decode", count: 1 },
];

/**
 * Reads a fleet file and checks each value by itself; {@link resolveServeConfig} checks how they go together, once flags
 * and environment have had their say. `fileName` is for messages. Throws {@link ConfigError} with line and column.
 */
export function parseFleetFile(text: string, fileName: string): FleetFile {
  const { data, locate } = readYaml(text, fileName, {
    what: "a fleet file",
    maxLength: MAX_FLEET_FILE_LENGTH,
  });
  const result = fleetFileSchema.safeParse(data);
  if (!result.success) throw new ConfigError(toProblems(result.error, fleetFileSchema, data, locate));
  return { values: data as FleetFileValues, locate };
}

/**
 * Fills in the defaults, rules out impossible combinations and hashes API keys that are named by environment variable.
 * `originOf` says where the value at a path came from. Throws {@link ConfigError}.
 */
export function resolveServeConfig(
  values: FleetFileValues,
  originOf: (path: ConfigPath) => Origin,
  env: Readonly<Record<string, string | undefined>>,
): ServeConfig {
  const result = fleetFileSchema.safeParse(values);
  if (!result.success) throw new ConfigError(toProblems(result.error, fleetFileSchema, values, originOf));
  const { model, workers, gateway, ...rest } = result.data;
  const problems: ConfigProblem[] = [];
  const keys = gateway.keys.map((key, index): ApiKeyHash => {
    if (key.sha256 !== undefined) return { tenant: key.tenant, sha256: key.sha256.toLowerCase() };
    const secret = env[key.env ?? ""] ?? "";
    if (secret === "") {
      const message = `environment variable ${key.env} is not set; it has to hold the API key of ${key.tenant}`;
      problems.push({ origin: originOf(["gateway", "keys", index, "env"]), message });
    }
    return { tenant: key.tenant, sha256: createHash("sha256").update(secret).digest("hex") };
  });
  const named = new Set<string>();
  gateway.tenants.forEach(({ name }, index) => {
    const hasKey = keys.length === 0 ? name === OPEN_TENANT : keys.some(({ tenant }) => tenant === name);
    const message = named.has(name) ? `${name} stands here twice` : hasKey ? null : `no key is ${name}'s`;
    if (message !== null) problems.push({ origin: originOf(["gateway", "tenants", index, "name"]), message });
    named.add(name);
  });
  const config: ServeConfig = {
    ...rest,
    kvTokensPerWorker: rest.kvTokensPerWorker ?? defaultKvTokens(rest),
    model: { path: model.path ?? null, name: model.name ?? null, aliases: model.aliases },
    workers: (workers ?? DEFAULT_WORKERS).map(toWorkers),
    gateway: { ...gateway, keys },
  };
  for (const conflict of findConflicts(config)) {
    problems.push({ origin: conflict.paths.map(originOf).join(" and "), message: conflict.message });
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}

function toWorkers(entry: NonNullable<Filled["workers"]>[number]): LocalWorkers | RemoteWorker {
  const { role, count, address, kvAddress } = entry;
  if (address === undefined) return { role, count: count ?? 1 };
  return { role, address, kvAddress: kvAddress ?? null };
}

/** How many workers of each role a fleet has, remote ones included. */
export function countWorkers(workers: ServeConfig["workers"]): Readonly<Record<WorkerRole, number>> {
  const counts = { prefill: 0, decode: 0, both: 0 };
  for (const entry of workers) counts[entry.role] += "count" in entry ? entry.count : 1;
  return counts;
}
