import { randomBytes } from "node:crypto";
import { resolve } from "node:path";
import type { Command } from "commander";
import { z } from "zod";
import { schemaAt } from "../protocol/config-error.ts";
import {
  FLEET_SECRET_ENV,
  parseWorkerConfig,
  resolveWorkerConfig,
  WORKER_CONFIG_ENV,
  type WorkerConfig,
  workerConfigSchema,
} from "../protocol/worker-config.ts";
import type { RunningWorker } from "../serve/worker/main.ts";
import { CliError, type CliIo, EXIT, type ExitCode } from "./io.ts";
import { builtInModelPath } from "./package-root.ts";
import { runUntilStopped } from "./run-until-stopped.ts";
import type { Product } from "./serving.ts";
import { addSettings, layerSettings, readSettings, type Setting } from "./settings.ts";

function atPath(flag: string, env: string, path: readonly string[], help: string): Setting {
  const schema = schemaAt(workerConfigSchema, path);
  if (schema === null) throw new Error(`a worker has no ${path.join(".")}`);
  return { key: path.join("."), flag, env, path, schema, help };
}

/** What the command line can set of a worker. */
const WORKER_SETTINGS: readonly Setting[] = [
  atPath("--role <role>", "TWOFOLD_ROLE", ["role"], "prefill, decode or both (required)"),
  atPath("--listen <address>", "TWOFOLD_LISTEN", ["listen"], "RPC address for the gateway (required)"),
  atPath(
    "--kv-listen <address>",
    "TWOFOLD_KV_LISTEN",
    ["kvListen"],
    "address for KV from other workers (required)",
  ),
  atPath(
    "--worker-id <id>",
    "TWOFOLD_WORKER_ID",
    ["workerId"],
    "name in the fleet (default: the role and a random part)",
  ),
  atPath(
    "--engine <engine>",
    "TWOFOLD_ENGINE",
    ["engine"],
    "llama, or stub: no model, modelled times (default: llama)",
  ),
  atPath("--model <file>", "TWOFOLD_MODEL", ["modelPath"], "GGUF file (default: the built-in model)"),
  atPath("--ctx <tokens>", "TWOFOLD_CTX", ["contextTokens"], "most tokens per request (default: 8192)"),
  atPath(
    "--kv-tokens <tokens>",
    "TWOFOLD_KV_TOKENS",
    ["kvCapacityTokens"],
    "KV cache of the worker (default: 16384, or --ctx if more)",
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
    "requests in the steps at once (default: 16)",
  ),
  atPath("--max-waiting <n>", "TWOFOLD_MAX_WAITING", ["maxWaiting"], "requests in the queue (default: 256)"),
  atPath(
    "--prefix-cache-tokens <tokens>",
    "TWOFOLD_PREFIX_CACHE_TOKENS",
    ["prefixCacheTokens"],
    "KV kept for prompts that begin alike (default: 4096)",
  ),
  atPath(
    "--host-kv <size>",
    "TWOFOLD_HOST_KV",
    ["tiers", "hostBytes"],
    "memory for KV beyond the engine's, such as 2GiB (default: none)",
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
    "bytes on disk (default: 8GiB)",
  ),
  atPath(
    "--kv-eviction <name>",
    "TWOFOLD_KV_EVICTION",
    ["tiers", "eviction"],
    "what goes first when memory or disk is full: lru, lfu or cost (default: lru)",
  ),
  atPath("--threads <n>", "TWOFOLD_THREADS", ["threads"], "threads (default: 1)"),
  atPath(
    "--slots <n>",
    "TWOFOLD_SLOTS",
    ["numSlots"],
    "sequences with KV of their own (default: what the engine has)",
  ),
  {
    key: "allowPlaintext",
    flag: "--allow-plaintext",
    env: "TWOFOLD_ALLOW_PLAINTEXT",
    path: ["allowPlaintext"],
    schema: z.boolean(),
    help: "let KV travel unencrypted between machines (default: refuse)",
  },
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
];

const EXAMPLES = `
Example, on a machine whose address is 10.0.0.7 and that serve reaches over a private network:
  export ${FLEET_SECRET_ENV}=…   # the same on all machines, at least 16 characters: openssl rand -hex 32
  twofold worker --role decode --listen tcp:10.0.0.7:9100 --kv-listen tcp:10.0.0.7:9101 --allow-plaintext

Addresses are unix:/path or tcp:host:port, IPv6 in brackets.
A worker that twofold serve starts takes its whole configuration as JSON from ${WORKER_CONFIG_ENV}.`;

/** Shortest fleet secret that is taken. */
const MIN_SECRET_LENGTH = 16;

/** Adds `twofold worker`. */
export function addWorker(
  program: Command,
  io: CliIo,
  product: Product,
  exit: (code: ExitCode) => void,
): void {
  const command = program
    .command("worker")
    .summary("a worker that joins a fleet, on this machine or another")
    .description("Runs one worker. The fleet file of twofold serve names it by its address.");
  addSettings(command, WORKER_SETTINGS);
  command.addHelpText("after", EXAMPLES);
  command.action(async (flags: Record<string, unknown>) => {
    const config = loadWorkerConfig(flags, io);
    if ((io.env[FLEET_SECRET_ENV] ?? "").length < MIN_SECRET_LENGTH) {
      const message = `${FLEET_SECRET_ENV} has to hold the fleet's secret, at least ${MIN_SECRET_LENGTH} characters; make one with: openssl rand -hex 32`;
      throw new CliError(EXIT.usage, message);
    }
    const isChild = (io.env[WORKER_CONFIG_ENV] ?? "") !== "";
    const announce = ({ address, kvAddress }: RunningWorker): void => {
      const { workerId, role } = config;
      if (!isChild)
        io.stdout.write(`Worker ${workerId} (${role}) ready: RPC at ${address}, KV at ${kvAddress}\n`);
    };
    const audience = isChild ? "parent" : "operator";
    exit(await runUntilStopped(io, () => product.runWorker(config), announce, audience));
  });
}

/** The configuration from {@link WORKER_CONFIG_ENV} if it is set, else from flags and environment. */
export function loadWorkerConfig(
  flags: Readonly<Record<string, unknown>>,
  io: Pick<CliIo, "env" | "cwd">,
): WorkerConfig {
  const json = io.env[WORKER_CONFIG_ENV] ?? "";
  if (json !== "") {
    if (Object.keys(flags).length > 0) {
      const message = `${WORKER_CONFIG_ENV} is set and holds the whole configuration; unset it to use flags`;
      throw new CliError(EXIT.usage, message);
    }
    return parseWorkerConfig(json);
  }
  const given = readSettings(WORKER_SETTINGS, flags, io.env);
  for (const { key, flag, env } of WORKER_SETTINGS) {
    const isRequired = key === "role" || key === "listen" || key === "kvListen";
    if (isRequired && !given.has(key)) {
      throw new CliError(
        EXIT.usage,
        `${flag} is missing; give it, or set ${env} (see twofold worker --help)`,
      );
    }
  }
  const base = {
    values: {
      workerId: `${String(given.get("role")?.value)}-${randomBytes(4).toString("hex")}`,
      modelPath: given.get("engine")?.value === "stub" ? null : builtInModelPath(),
    },
    locate: () => "default",
  };
  const { values, originOf } = layerSettings(WORKER_SETTINGS, given, base);
  const config = resolveWorkerConfig(values, originOf);
  if (config.tiers.diskPath !== undefined) config.tiers.diskPath = resolve(io.cwd, config.tiers.diskPath);
  if (config.modelPath === null) return config;
  return { ...config, modelPath: config.engine === "stub" ? null : resolve(io.cwd, config.modelPath) };
}
