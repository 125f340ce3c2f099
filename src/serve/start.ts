import { Dispatcher, type DispatcherLimits } from "../core/dispatch/dispatcher.ts";
import { RecordedDispatcher } from "../core/dispatch/recorded-dispatcher.ts";
import type { WorkerRole } from "../core/request.ts";
import { createPlacementPolicy } from "../core/router/policies/registry.ts";
import { SessionBook } from "../core/sessions/session-book.ts";
import type { ServeConfig } from "../protocol/fleet-file.ts";
import { STEP_LOG_ENV } from "../protocol/step-log.ts";
import { FLEET_SECRET_ENV } from "../protocol/worker-config.ts";
import { openTokenizer } from "./engine/open-engine.ts";
import type { Tokenizer } from "./engine/tokenizer.ts";
import { fleetKeys } from "./fleet/fleet-keys.ts";
import { registerFleetMetrics } from "./fleet/fleet-metrics.ts";
import { keptSecret } from "./fleet/kept-secret.ts";
import { LocalWorkers, newFleetSecret } from "./fleet/local-workers.ts";
import { type FleetIdentity, RemoteWorker } from "./fleet/remote-worker.ts";
import { WorkerFleet } from "./fleet/worker-fleet.ts";
import { createGateway, type Gateway } from "./gateway/gateway.ts";
import { readPublicPrefix } from "./gateway/public-prefix-file.ts";
import { createRunDirectory, defaultRunDirectory } from "./run-directory.ts";
import { DispatchRecord } from "./telemetry/dispatch-record.ts";
import { createLogger, type Logger } from "./telemetry/logger.ts";

/** Requests, waiting ones included, that the fleet takes at once. Each API choice is one. */
const MAX_REQUESTS = 4096;
/** Placements of one request before it is given up. */
const MAX_ATTEMPTS = 3;

/** A server that takes requests. */
export interface Serving {
  readonly url: string;
  /** Name under which the model is served. */
  readonly modelName: string;
  /** Local workers have a process id, remote ones null. */
  readonly workers: ReadonlyArray<{
    readonly id: string;
    readonly role: WorkerRole;
    readonly pid: number | null;
  }>;
  /** Lets running requests finish within the drain time-out, then stops everything. Idempotent. */
  close(): Promise<void>;
  /** Resolves when the server has stopped. */
  readonly done: Promise<void>;
}

/** What the command line knows and the fleet file does not. */
export interface ServeHost {
  /** Script and arguments that run a worker process. */
  readonly workerCommand: readonly string[];
  /** Log lines go here; standard output belongs to the start-up message. */
  readonly logTo: NodeJS.WritableStream;
}

/**
 * Starts a fleet and its gateway; resolves when requests are taken. Rejects, with nothing left running, with an error whose
 * message says what to do: `EngineError`, `GatewayConfigError`, `RunDirectoryError`, or what a worker said at its end.
 */
export async function startServing(config: ServeConfig, host: ServeHost): Promise<Serving> {
  const logger = createLogger({ level: config.logLevel, destination: host.logTo });
  const closers: Array<() => Promise<void> | void> = [];
  const close = closeOnce(closers, logger);
  try {
    const tokenizer = await openTokenizer(
      config.engine === "stub"
        ? { engine: "stub", trainedContextTokens: config.contextTokens }
        : { engine: "llama", modelPath: config.model.path! },
    );
    closers.push(() => tokenizer.close());
    const record = await openRecord(config, logger);
    closers.push(() => record?.close());
    const fleet = createFleet(config, tokenizer, logger, record);
    closers.push(() => fleet.close());
    const secret = process.env[FLEET_SECRET_ENV] || (await ownSecret(config.tiers.diskPath, logger));
    const modelName = config.model.name ?? tokenizer.modelName;
    // The address is taken before any worker starts: a port in use is the commonest mistake, and quick to tell.
    const gateway = await openGateway({ config, tokenizer, fleet, logger, secret, modelName });
    const { url } = await gateway.listen();
    record?.start();
    let local: LocalWorkers;
    try {
      local = await startWorkers({ config, host, fleet, tokenizer, logger, secret, closers });
    } finally {
      // Last in, first out: requests under way finish before the workers go.
      closers.push(() => gateway.close());
    }
    const remote = config.workers.flatMap((entry) =>
      "address" in entry ? [{ id: entry.address, role: entry.role, pid: null }] : [],
    );
    return { url, modelName, workers: [...local.list(), ...remote], close: close.run, done: close.done };
  } catch (error) {
    await close.run();
    throw error;
  }
}

/** A secret that nobody has set: the one of the folder for KV on disk, else a new one. */
async function ownSecret(diskPath: string | undefined, logger: Logger): Promise<string> {
  if (diskPath === undefined) return newFleetSecret();
  return keptSecret(diskPath).catch((error: Error) => {
    logger.warn({ problem: error.message }, "KV on disk will not be usable after a restart");
    return newFleetSecret();
  });
}

function dispatcherLimits(config: ServeConfig): DispatcherLimits {
  const maxWaitMs = config.timeouts.workerStartMs;
  return { maxRequests: MAX_REQUESTS, maxWaitMs, maxAttempts: MAX_ATTEMPTS };
}

function openRecord(config: ServeConfig, logger: Logger): Promise<DispatchRecord> | null {
  if (config.record === undefined) return null;
  const { path, twofoldVersion } = config.record;
  const header = {
    twofoldVersion,
    world: "server" as const,
    policy: { name: config.placement.policy, options: config.placement },
    dispatcher: dispatcherLimits(config),
    blockSizeTokens: config.blockSizeTokens,
  };
  return DispatchRecord.open(path, header, { logger });
}

function createFleet(
  config: ServeConfig,
  tokenizer: Tokenizer,
  logger: Logger,
  record: DispatchRecord | null,
): WorkerFleet {
  const contextTokens = Math.min(config.contextTokens, tokenizer.trainedContextTokens);
  if (contextTokens < config.contextTokens) {
    logger.warn(
      { configured: config.contextTokens, contextTokens },
      "context limited to what the model was made for",
    );
  }
  const options = {
    ...dispatcherLimits(config),
    placement: createPlacementPolicy(config.placement.policy, config.placement),
    ...(expectsTurns(config) ? { sessions: new SessionBook() } : {}),
  };
  const dispatcher =
    record === null ? new Dispatcher(options) : new RecordedDispatcher(options, (entry) => record.add(entry));
  return new WorkerFleet({ dispatcher, contextTokens, nowMs: () => performance.now(), logger });
}

/** Whether some worker may bring KV up before it is asked for: our own as configured, others as they say themselves. */
function expectsTurns({ tiers, workers }: ServeConfig): boolean {
  const hasTiers = tiers.hostBytes !== undefined || tiers.diskPath !== undefined;
  return (hasTiers && tiers.prefetch) || workers.some((worker) => "address" in worker);
}

function openGateway(parts: {
  config: ServeConfig;
  tokenizer: Tokenizer;
  fleet: WorkerFleet;
  logger: Logger;
  secret: string;
  modelName: string;
}): Promise<Gateway> {
  const { config, tokenizer, fleet, logger, secret, modelName } = parts;
  return createGateway({
    fleet,
    tokenizer,
    modelName,
    modelAliases: config.model.aliases,
    apiKeys: config.gateway.keys.map(({ tenant, sha256 }) => ({ name: tenant, sha256 })),
    cacheSecret: fleetKeys(secret).cacheSecret,
    cacheShares: new Map(config.gateway.tenants.map(({ name, cacheShare }) => [name, cacheShare])),
    publicPrefixes: config.gateway.publicPrefixes.map(readPublicPrefix),
    host: config.gateway.host,
    port: config.gateway.port,
    logger,
    limits: { generationMs: config.timeouts.requestMs, drainMs: Math.max(1, config.timeouts.drainMs) },
    extraMetrics: (registry) => registerFleetMetrics(registry, fleet),
  });
}

async function startWorkers(parts: {
  config: ServeConfig;
  host: ServeHost;
  fleet: WorkerFleet;
  tokenizer: Tokenizer;
  logger: Logger;
  secret: string;
  closers: Array<() => Promise<void> | void>;
}): Promise<LocalWorkers> {
  const { config, host, fleet, tokenizer, logger, secret, closers } = parts;
  const identity: FleetIdentity = { tokenizerId: tokenizer.id, contextTokens: fleet.contextTokens, kv: null };
  const runDirectory = await createRunDirectory(defaultRunDirectory(process.env));
  closers.push(() => runDirectory.remove());
  const local = new LocalWorkers({
    fleet,
    identity,
    logger,
    secret,
    runDirectory: runDirectory.path,
    command: host.workerCommand,
    config: {
      engine: config.engine,
      modelPath: config.engine === "stub" ? null : config.model.path,
      contextTokens: fleet.contextTokens,
      kvCapacityTokens: config.kvTokensPerWorker,
      blockSizeTokens: config.blockSizeTokens,
      chunkTokens: config.chunkTokens,
      policy: config.policy,
      maxRunning: config.maxRunning,
      maxWaiting: config.maxWaiting,
      prefixCacheTokens: config.prefixCacheTokens,
      tiers: config.tiers,
      handoffWaitMs: config.timeouts.handoffWaitMs,
      threads: config.threads,
      allowPlaintext: config.allowPlaintext,
      stub: config.stub,
    },
    readyTimeoutMs: config.timeouts.workerStartMs,
    stepLogFolder: process.env[STEP_LOG_ENV] || null,
  });
  closers.push(() => local.close());
  fleet.pendingWorkers = () => local.pending();
  const starting: Array<Promise<void>> = [];
  const counts = new Map<WorkerRole, number>();
  for (const entry of config.workers) {
    if ("address" in entry) {
      const { address, kvAddress, role } = entry;
      const remote = new RemoteWorker(
        {
          fleet,
          identity,
          address,
          kvAddress,
          token: fleetKeys(secret).rpcToken,
          allowPlaintext: config.allowPlaintext,
        },
        role,
        logger,
      );
      closers.push(() => remote.close());
      starting.push(remote.start());
      continue;
    }
    for (let i = 0; i < entry.count; i++) {
      const index = (counts.get(entry.role) ?? 0) + 1;
      counts.set(entry.role, index);
      starting.push(local.start(entry.role, index));
    }
  }
  await Promise.all(starting);
  return local;
}

/** Closes everything that was opened, last first, whatever fails on the way. */
function closeOnce(
  closers: ReadonlyArray<() => Promise<void> | void>,
  logger: Logger,
): { run: () => Promise<void>; done: Promise<void> } {
  let running: Promise<void> | null = null;
  let finish: () => void = () => {};
  const done = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const closeAll = async (): Promise<void> => {
    for (const closer of [...closers].reverse()) {
      try {
        await closer();
      } catch (error) {
        logger.error({ error: error instanceof Error ? error.message : String(error) }, "closing failed");
      }
    }
    finish();
  };
  const run = (): Promise<void> => {
    running ??= closeAll();
    return running;
  };
  return { run, done };
}
