import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { z } from "zod";
import type { WorkerRole } from "../core/request.ts";
import { ConfigError, type ConfigPath, schemaAt } from "../protocol/config-error.ts";
import {
  type FleetFileValues,
  fleetFileSchema,
  MAX_FLEET_FILE_LENGTH,
  parseFleetFile,
  resolveServeConfig,
  type ServeConfig,
} from "../protocol/fleet-file.ts";
import { MAX_WORKERS_PER_ENTRY } from "../protocol/fleet-schema.ts";
import type { CliIo } from "./io.ts";
import { builtInModelPath, packageVersion } from "./package-root.ts";
import { type GivenValue, layerSettings, readSettings, type Setting } from "./settings.ts";

function atPath(flag: string, env: string, path: readonly string[], help: string): Setting {
  const schema = schemaAt(fleetFileSchema, path);
  if (schema === null) throw new Error(`the fleet file has no ${path.join(".")}`);
  return { key: path.join("."), flag, env, path, schema, help };
}

const countSchema = z.int().min(0).max(MAX_WORKERS_PER_ENTRY);

/** What the command line can override in a fleet file. */
export const SERVE_SETTINGS: readonly Setting[] = [
  atPath("--model <file>", "TWOFOLD_MODEL", ["model", "path"], "GGUF file (default: the built-in model)"),
  atPath("--model-name <name>", "TWOFOLD_MODEL_NAME", ["model", "name"], "name of the model in the API"),
  atPath(
    "--engine <engine>",
    "TWOFOLD_ENGINE",
    ["engine"],
    "llama, or stub: no model, modelled times (default: llama)",
  ),
  {
    key: "prefill",
    flag: "--prefill <n>",
    env: "TWOFOLD_PREFILL",
    schema: countSchema,
    help: "local prefill workers",
  },
  {
    key: "decode",
    flag: "--decode <n>",
    env: "TWOFOLD_DECODE",
    schema: countSchema,
    help: "local decode workers",
  },
  {
    key: "both",
    flag: "--both <n>",
    env: "TWOFOLD_BOTH",
    schema: countSchema,
    help: "local workers that do both",
  },
  atPath("--host <host>", "TWOFOLD_HOST", ["gateway", "host"], "address to listen on (default: 127.0.0.1)"),
  atPath("--port <port>", "TWOFOLD_PORT", ["gateway", "port"], "port, 0 for a free one (default: 8080)"),
  atPath("--ctx <tokens>", "TWOFOLD_CTX", ["contextTokens"], "most tokens per request (default: 8192)"),
  atPath(
    "--kv-tokens <tokens>",
    "TWOFOLD_KV_TOKENS",
    ["kvTokensPerWorker"],
    "KV cache per worker (default: 16384, or --ctx if more)",
  ),
  atPath(
    "--block-size <tokens>",
    "TWOFOLD_BLOCK_SIZE",
    ["blockSizeTokens"],
    "tokens per KV block (default: 16)",
  ),
  atPath("--chunk <tokens>", "TWOFOLD_CHUNK", ["chunkTokens"], "token budget of one step (default: 256)"),
  atPath(
    "--policy <name>",
    "TWOFOLD_POLICY",
    ["policy"],
    "static, orca, prefill-first, chunked or splitwise (default: chunked)",
  ),
  atPath(
    "--max-running <n>",
    "TWOFOLD_MAX_RUNNING",
    ["maxRunning"],
    "requests in a worker's steps (default: 16)",
  ),
  atPath(
    "--max-waiting <n>",
    "TWOFOLD_MAX_WAITING",
    ["maxWaiting"],
    "requests in a worker's queue (default: 256)",
  ),
  atPath(
    "--prefix-cache-tokens <tokens>",
    "TWOFOLD_PREFIX_CACHE_TOKENS",
    ["prefixCacheTokens"],
    "KV kept per worker for prompts that begin alike (default: 4096)",
  ),
  atPath(
    "--placement <name>",
    "TWOFOLD_PLACEMENT",
    ["placement", "policy"],
    "who prefills and decodes: priced, load or another policy of docs/routing.md (default: priced)",
  ),
  atPath(
    "--host-kv <size>",
    "TWOFOLD_HOST_KV",
    ["tiers", "hostBytes"],
    "memory per worker for KV beyond the engine's, such as 2GiB (default: none)",
  ),
  atPath(
    "--disk-kv <folder>",
    "TWOFOLD_DISK_KV",
    ["tiers", "diskPath"],
    "folder for KV on disk, which survives restarts (default: none)",
  ),
  atPath(
    "--disk-kv-size <size>",
    "TWOFOLD_DISK_KV_SIZE",
    ["tiers", "diskBytes"],
    "disk per worker (default: 8GiB)",
  ),
  atPath(
    "--kv-eviction <name>",
    "TWOFOLD_KV_EVICTION",
    ["tiers", "eviction"],
    "what goes first when memory or disk is full: lru, lfu or cost (default: lru)",
  ),
  atPath(
    "--local-prefill-below <tokens>",
    "TWOFOLD_LOCAL_PREFILL_BELOW",
    ["placement", "localPrefillBelowTokens"],
    "shorter prompts are prefilled on their decode worker (default: 16)",
  ),
  {
    key: "allowPlaintext",
    flag: "--allow-plaintext",
    env: "TWOFOLD_ALLOW_PLAINTEXT",
    path: ["allowPlaintext"],
    schema: z.boolean(),
    help: "use workers on other machines although the link is not encrypted (default: refuse)",
  },
  atPath("--threads <n>", "TWOFOLD_THREADS", ["threads"], "threads per worker (default: 1)"),
  atPath(
    "--stub-step-ms <ms>",
    "TWOFOLD_STUB_STEP_MS",
    ["stub", "stepBaseMs"],
    "stub: time of any step (default: 0)",
  ),
  atPath(
    "--stub-prefill-ms-per-token <ms>",
    "TWOFOLD_STUB_PREFILL_MS_PER_TOKEN",
    ["stub", "prefillMsPerToken"],
    "stub: time per prompt token (default: 0)",
  ),
  atPath(
    "--stub-decode-ms <ms>",
    "TWOFOLD_STUB_DECODE_MS",
    ["stub", "decodeMsPerSequence"],
    "stub: time per decoding request (default: 0)",
  ),
  atPath(
    "--log-level <level>",
    "TWOFOLD_LOG_LEVEL",
    ["logLevel"],
    "trace, debug, info, warn, error (default: info)",
  ),
  {
    key: "record",
    flag: "--record <file>",
    env: "TWOFOLD_RECORD",
    schema: z.string().min(1).max(4096),
    help: "write what the dispatcher is told and decides, for twofold replay (no text, no tokens)",
  },
  {
    key: "apiKey",
    env: "TWOFOLD_API_KEY",
    schema: z.string().min(16).max(1024),
    help: "API key that clients must send; added to the keys of the fleet file as tenant `default`",
  },
];

/** Puts flags, environment, fleet file and defaults together. Throws {@link ConfigError}; relative paths are resolved. */
export function loadServeConfig(
  fileName: string | undefined,
  flags: Readonly<Record<string, unknown>>,
  io: Pick<CliIo, "env" | "cwd">,
): ServeConfig {
  const given = readSettings(SERVE_SETTINGS, flags, io.env);
  const file = fileName === undefined ? null : readFleetFile(fileName, io.cwd);
  const base = file ?? { values: {}, locate: () => "default" };
  const { values, originOf } = layerSettings(SERVE_SETTINGS, given, base);
  const layered = values as FleetFileValues;
  const countOrigins = setWorkerCounts(layered, given);
  if (layered.model?.path !== undefined) {
    const isFromFile = file !== null && !given.has("model.path");
    const folder = isFromFile ? dirname(resolve(io.cwd, fileName ?? "")) : io.cwd;
    layered.model.path = resolve(folder, layered.model.path);
  }
  const fileFolder = dirname(resolve(io.cwd, fileName ?? ""));
  for (const prefix of layered.gateway?.publicPrefixes ?? [])
    if (prefix.file !== undefined) prefix.file = resolve(fileFolder, prefix.file);
  if (layered.tiers?.diskPath !== undefined) {
    const isFromFile = file !== null && !given.has("tiers.diskPath");
    const folder = isFromFile ? dirname(resolve(io.cwd, fileName ?? "")) : io.cwd;
    layered.tiers.diskPath = resolve(folder, layered.tiers.diskPath);
  }
  const origin = (path: ConfigPath): string =>
    path[0] === "workers" && countOrigins.length > 0 ? countOrigins.join(" and ") : originOf(path);
  const resolved = resolveServeConfig(withApiKey(layered, given), origin, io.env);
  const record = given.get("record")?.value;
  const config: ServeConfig =
    typeof record === "string"
      ? { ...resolved, record: { path: resolve(io.cwd, record), twofoldVersion: packageVersion() } }
      : resolved;
  if (config.engine === "stub") return { ...config, model: { ...config.model, path: null } };
  return { ...config, model: { ...config.model, path: config.model.path ?? builtInModelPath() } };
}

function readFleetFile(fileName: string, cwd: string): ReturnType<typeof parseFleetFile> {
  let text: string;
  try {
    text = readFileSync(resolve(cwd, fileName), { encoding: "utf8" });
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    const reason = code === "ENOENT" ? "there is no such file" : `cannot be read (${code})`;
    throw new ConfigError([{ origin: fileName, message: `${reason}; name a fleet file, or none` }], {
      cause: error,
    });
  }
  if (text.length > MAX_FLEET_FILE_LENGTH) text = text.slice(0, MAX_FLEET_FILE_LENGTH + 1);
  return parseFleetFile(text, fileName);
}

/** Counts given by flag or environment stand for all local workers of the file; remote workers stay. */
function setWorkerCounts(values: FleetFileValues, given: ReadonlyMap<string, GivenValue>): string[] {
  const roles: readonly WorkerRole[] = ["prefill", "decode", "both"];
  const origins = roles.flatMap((role) => given.get(role)?.origin ?? []);
  if (origins.length === 0) return [];
  const remote = (values.workers ?? []).filter((entry) => entry.address !== undefined);
  const local = roles.flatMap((role) => {
    const count = given.get(role)?.value;
    return typeof count === "number" && count > 0 ? [{ role, count }] : [];
  });
  values.workers = [...local, ...remote];
  return origins;
}

function withApiKey(values: FleetFileValues, given: ReadonlyMap<string, GivenValue>): FleetFileValues {
  const apiKey = given.get("apiKey")?.value;
  if (typeof apiKey !== "string") return values;
  const key = { tenant: "default", sha256: createHash("sha256").update(apiKey).digest("hex") };
  return { ...values, gateway: { ...values.gateway, keys: [...(values.gateway?.keys ?? []), key] } };
}
