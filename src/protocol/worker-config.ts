import { z } from "zod";
import {
  ConfigError,
  type ConfigPath,
  configPath,
  describeIssue,
  formatPath,
  type Origin,
  valueAt,
} from "./config-error.ts";
import {
  addressSchema,
  blockSizeTokensSchema,
  chunkTokensSchema,
  contextTokensSchema,
  defaultKvTokens,
  engineSchema,
  handoffWaitMsSchema,
  kvTokensSchema,
  maxRunningSchema,
  maxWaitingSchema,
  modelPathSchema,
  policySchema,
  prefixCacheTokensSchema,
  roleSchema,
  stubSchema,
  threadsSchema,
  tiersSchema,
} from "./fleet-schema.ts";
import { workerIdSchema } from "./request-codec.ts";
import { findSizeConflicts } from "./serve-conflicts.ts";

/** Environment variable with the configuration of a worker that `twofold serve` starts, as JSON. */
export const WORKER_CONFIG_ENV = "TWOFOLD_WORKER_CONFIG";

/** Environment variable with the secret that the workers of a fleet share. Secrets travel in no argument and no file. */
export const FLEET_SECRET_ENV = "TWOFOLD_FLEET_SECRET";

/** Longest configuration of a worker, in UTF-16 units. */
const MAX_WORKER_CONFIG_LENGTH = 64 * 1024;

/** Everything that one worker process needs to know, but for the fleet secret. */
export const workerConfigSchema = z.strictObject({
  workerId: workerIdSchema,
  role: roleSchema,
  engine: engineSchema.default("llama"),
  /** GGUF file, or null with the stub engine. */
  modelPath: modelPathSchema.nullable().default(null),
  /** Most tokens, prompt and output, of one request. */
  contextTokens: contextTokensSchema.default(8192),
  kvCapacityTokens: kvTokensSchema.optional(),
  blockSizeTokens: blockSizeTokensSchema.default(16),
  /** Token budget of one step. */
  chunkTokens: chunkTokensSchema.default(256),
  policy: policySchema.default("chunked"),
  maxRunning: maxRunningSchema.default(16),
  maxWaiting: maxWaitingSchema.default(256),
  prefixCacheTokens: prefixCacheTokensSchema.default(4096),
  /** As in the fleet file, and the name of this worker's folder on disk; without one the first that no other worker uses. */
  tiers: tiersSchema.extend({ diskFolder: workerIdSchema.optional() }).prefault({}),
  handoffWaitMs: handoffWaitMsSchema.default(60_000),
  threads: threadsSchema.default(1),
  /** Sequences whose KV the engine keeps apart; by default what the engine offers. */
  numSlots: z.int().min(1).max(256).optional(),
  /** RPC address for the gateway. */
  listen: addressSchema,
  /** Address on which other workers push KV. */
  kvListen: addressSchema,
  /** Whether KV may travel unencrypted to and from other machines. */
  allowPlaintext: z.boolean().default(false),
  stub: stubSchema.prefault({}),
  /** File for what the engine does and how long it takes; see `step-log.ts`. Absent: nothing is written. */
  stepLog: z.string().min(1).max(4096).optional(),
});

export type WorkerConfigValues = z.input<typeof workerConfigSchema>;

/** A worker's configuration with defaults filled in and conflicts ruled out. */
export type WorkerConfig = Omit<z.output<typeof workerConfigSchema>, "kvCapacityTokens"> & {
  readonly kvCapacityTokens: number;
};

/** Fills in defaults and checks a worker's configuration. Throws {@link ConfigError} with the origin of each bad value. */
export function resolveWorkerConfig(values: unknown, originOf: (path: ConfigPath) => Origin): WorkerConfig {
  const result = workerConfigSchema.safeParse(values);
  if (!result.success) {
    throw new ConfigError(
      result.error.issues.map((issue) => {
        const path = configPath(issue.path);
        const description = describeIssue(issue, workerConfigSchema, valueAt(values, path));
        const subject = formatPath(path);
        return {
          origin: originOf(path),
          message: subject === "" ? description : `${subject}: ${description}`,
        };
      }),
    );
  }
  const kvCapacityTokens = result.data.kvCapacityTokens ?? defaultKvTokens(result.data);
  const config: WorkerConfig = { ...result.data, kvCapacityTokens };
  const problems = findSizeConflicts({ ...config, kvTokensPerWorker: config.kvCapacityTokens }).map(
    (conflict) => ({
      origin: conflict.paths
        .map((path) => originOf(path[0] === "kvTokensPerWorker" ? ["kvCapacityTokens"] : path))
        .join(" and "),
      message: conflict.message,
    }),
  );
  if (config.engine === "llama" && config.modelPath === null) {
    problems.push({ origin: originOf(["modelPath"]), message: "the llama engine needs a model file" });
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}

/** Reads the JSON that `twofold serve` hands to a worker in {@link WORKER_CONFIG_ENV}. Throws {@link ConfigError}. */
export function parseWorkerConfig(json: string): WorkerConfig {
  const originOf = (): Origin => WORKER_CONFIG_ENV;
  if (json.length > MAX_WORKER_CONFIG_LENGTH) {
    const message = `is longer than ${MAX_WORKER_CONFIG_LENGTH} characters`;
    throw new ConfigError([{ origin: WORKER_CONFIG_ENV, message }]);
  }
  let values: unknown;
  try {
    values = JSON.parse(json);
  } catch (error) {
    throw new ConfigError([{ origin: WORKER_CONFIG_ENV, message: "is not JSON" }], { cause: error });
  }
  return resolveWorkerConfig(values, originOf);
}
