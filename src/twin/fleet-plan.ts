import type { PerfModel } from "../core/perf/perf-model.ts";
import { assert } from "../core/util/assert.ts";
import type { ConfigPath } from "../protocol/config-error.ts";
import { ConfigError, formatPath } from "../protocol/config-error.ts";
import {
  hasWorker,
  type ScenarioFault,
  type ScenarioFile,
  type ScenarioFleet,
  type ScenarioPool,
  scenarioError,
} from "../protocol/scenario-file.ts";
import type { Assumption, PoolDescription } from "../protocol/simulation-schema.ts";
import { fleetAssumptions } from "./assumptions.ts";
import { findBlockProblem } from "./driver/check-spec.ts";
import { type PartDevice, type PartEndpoint, PartError, type TwinParts } from "./parts.ts";
import type { RecordedWorker, WorkerPower } from "./record/recorder.ts";
import { createReference, type Reference } from "./record/reference-times.ts";
import type { WorkerEconomics } from "./report/economics.ts";
import type { ReportedWorker } from "./report/run-result.ts";
import type { TwinFault, TwinTier, TwinWorkerSpec } from "./twin-spec.ts";

/** Most workers of a fleet. */
export const MAX_FLEET_WORKERS = 100_000;

/** A fleet of a scenario, its parts looked up and its models made. Runs share it: nothing in it changes. */
export interface FleetPlan {
  readonly name: string;
  readonly description: string;
  readonly pools: readonly PoolDescription[];
  readonly workers: readonly TwinWorkerSpec[];
  readonly endpoints: readonly PartEndpoint[];
  readonly reported: readonly ReportedWorker[];
  readonly recorded: readonly RecordedWorker[];
  readonly faults: readonly TwinFault[];
  readonly assumptions: readonly Assumption[];
}

/** Looks up and checks everything that a fleet consists of. Throws {@link ConfigError} with places. */
export function planFleet(file: ScenarioFile, name: string, parts: TwinParts, folder: string): FleetPlan {
  const fleet = file.values.fleets[name];
  assert(fleet !== undefined, "the scenario has a fleet of that name");
  const path = ["fleets", name];
  const modelPath = fleet.model === undefined ? ["model"] : [...path, "model"];
  const model = at(file, modelPath, () => parts.modelShape(fleet.model ?? file.values.model, folder));
  const numWorkers = fleet.workers.reduce((sum, pool) => sum + pool.count, 0);
  if (numWorkers > MAX_FLEET_WORKERS) {
    throw scenarioError(
      file,
      path,
      `${formatPath(path)}: has ${numWorkers} workers; allowed: up to ${MAX_FLEET_WORKERS}`,
    );
  }
  const plans = fleet.workers.map((pool, index) => {
    const poolPath = [...path, "workers", index];
    const device = lookUpDevice(file, pool, poolPath, parts, folder);
    const paper = fleet.paper ?? file.values.paper ?? null;
    const perf = at(file, poolPath, () => parts.perf({ ...pool, model, device: device.spec, paper }));
    return planPool(file, pool, device, perf);
  });
  const workers = plans.flatMap((plan) => plan.workers);
  const problem = findBlockProblem(workers);
  if (problem !== null)
    throw scenarioError(file, [...path, "workers"], `${formatPath([...path, "workers"])}: ${problem}`);
  return {
    name,
    description: fleet.description,
    pools: plans.map((plan) => plan.description),
    workers,
    endpoints: plans.flatMap((plan) => plan.endpoints),
    reported: plans.flatMap((plan) => plan.reported),
    recorded: plans.flatMap((plan) => plan.recorded),
    faults: faultsOf(file, fleet),
    assumptions: [
      ...fleetAssumptions(name, fleet, file.values),
      ...plans.flatMap((plan) => plan.assumptions),
    ],
  };
}

/** What slowdowns are measured against, or null when the scenario names nothing. */
export function planReference(file: ScenarioFile, parts: TwinParts, folder: string): Reference | null {
  const { reference, model } = file.values;
  if (reference === undefined) return null;
  const shape = at(file, ["model"], () => parts.modelShape(model, folder));
  const device = lookUpDevice(file, reference, ["reference"], parts, folder);
  const sizes = { tokenBudget: shape.maxContextTokens, maxRunning: 1, blockTokens: 16 };
  const query = {
    ...reference,
    ...sizes,
    model: shape,
    device: device.spec,
    paper: file.values.paper ?? null,
  };
  return createReference(at(file, ["reference"], () => parts.perf(query)));
}

/** Gives errors of parts their place in the scenario. */
export function at<T>(file: ScenarioFile, path: ConfigPath, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof PartError)) throw error;
    const full = [...path, ...error.path];
    throw new ConfigError([{ origin: file.locate(full), message: `${formatPath(full)}: ${error.message}` }], {
      cause: error,
    });
  }
}

function lookUpDevice(
  file: ScenarioFile,
  pool: Pick<ScenarioPool, "device" | "overrides">,
  path: ConfigPath,
  parts: TwinParts,
  folder: string,
): PartDevice {
  const assumed = file.values.assumptions.flatMap((entry) =>
    typeof entry === "object" && entry.part === pool.device ? [[entry.figure, entry.value] as const] : [],
  );
  const overrides = { ...Object.fromEntries(assumed), ...pool.overrides };
  return at(file, path, () => parts.device(pool.device, overrides, folder));
}

interface PoolPlan {
  readonly description: PoolDescription;
  readonly workers: readonly TwinWorkerSpec[];
  readonly endpoints: readonly PartEndpoint[];
  readonly reported: readonly ReportedWorker[];
  readonly recorded: readonly RecordedWorker[];
  readonly assumptions: readonly Assumption[];
}

function planPool(file: ScenarioFile, pool: ScenarioPool, device: PartDevice, perf: PerfModel): PoolPlan {
  const { tp, pp, dp } = pool.parallelism;
  const numDevices = tp * pp * dp;
  const kvTokens = pool.kvTokens ?? perf.kvCapacityTokens;
  const numBlocks = Math.floor(kvTokens / pool.blockTokens);
  const economics = economicsOf(file, pool.device, device, numDevices);
  const ids = Array.from({ length: pool.count }, (_, index) => `${pool.name}-${index}`);
  const { policy, tokenBudget, maxRunning, maxWaiting, blockTokens, role } = pool;
  return {
    description: {
      name: pool.name,
      role,
      count: pool.count,
      device: pool.device,
      devicesPerWorker: numDevices,
      parallelism: pool.parallelism,
      policy,
      tokenBudget,
      maxRunning,
      blockTokens,
      kvCapacityTokens: kvTokens,
    },
    workers: ids.map((id) => ({
      id,
      role,
      perf,
      endpoint: id,
      policy,
      tokenBudget,
      maxRunning,
      maxWaiting,
      blockTokens,
      numBlocks,
      ...(pool.prefixCacheTokens === undefined
        ? {}
        : { maxCachedBlocks: Math.floor(pool.prefixCacheTokens / blockTokens) }),
      ...tiersOf(pool),
      startUpMs: pool.startUpSeconds * 1000,
      plansAhead: perf.plansAhead ?? false,
    })),
    endpoints: ids.map((name) => ({
      name,
      pool: pool.name,
      device: device.spec,
      numDevices,
    })),
    reported: ids.map((id) => ({ id, pool: pool.name, kvCapacityBlocks: numBlocks, economics })),
    recorded: ids.map((id) => ({ id, pool: pool.name, power: economics.power })),
    assumptions: [
      ...device.assumptions.map((statement) => ({ subject: pool.device, statement })),
      ...tierAssumptions(pool),
    ],
  };
}

/** What a disk adds to each read and write. */
const DISK_LATENCY_MS = 0.1;

function tiersOf({ tiers }: ScenarioPool): Pick<TwinWorkerSpec, "tiers"> {
  if (tiers === undefined) return {};
  const { hostGB, hostGBps, diskGB, diskGBps, eviction, prefetch } = tiers;
  const list: TwinTier[] = [];
  if (hostGB !== undefined)
    list.push({ tier: "host", maxBytes: hostGB * 1e9, bytesPerSecond: hostGBps * 1e9, latencyMs: 0 });
  if (diskGB !== undefined) {
    const bytesPerSecond = diskGBps * 1e9;
    list.push({ tier: "disk", maxBytes: diskGB * 1e9, bytesPerSecond, latencyMs: DISK_LATENCY_MS });
  }
  return list.length === 0 ? {} : { tiers: { tiers: list, eviction, prefetch } };
}

function tierAssumptions({ name, tiers }: ScenarioPool): Assumption[] {
  const statements: string[] = [];
  if (tiers?.hostGB !== undefined)
    statements.push(
      `KV moves to and from host memory at ${tiers.hostGBps} GB/s per worker, beside everything else`,
    );
  if (tiers?.diskGB !== undefined)
    statements.push(
      `KV moves to and from disk at ${tiers.diskGBps} GB/s per worker, ${DISK_LATENCY_MS} ms per piece`,
    );
  return statements.map((statement) => ({ subject: name, statement }));
}

/** Power and price of a worker: the scenario's figures, else the catalogue's; null where one is missing. */
function economicsOf(
  file: ScenarioFile,
  id: string,
  device: PartDevice,
  numDevices: number,
): WorkerEconomics {
  const { power, price } = file.values;
  const own = power.devices[id];
  const idle = own?.idle ?? device.idleWatts;
  const prefill = own?.prefill ?? device.prefillWatts;
  const decode = own?.decode ?? device.decodeWatts;
  const transfer = own?.transfer ?? device.transferWatts ?? idle;
  const installed = own?.installed ?? device.installedWatts;
  const total = (watts: number): number => (watts + power.hostWattsPerDevice) * numDevices;
  const isKnown = idle !== null && prefill !== null && decode !== null;
  const watts: WorkerPower | null = isKnown
    ? {
        idleWatts: total(idle),
        prefillWatts: total(prefill),
        decodeWatts: total(decode),
        mixedWatts: total(Math.max(prefill, decode)),
        transferWatts: total(transfer ?? idle),
      }
    : null;
  const perHour = price.devices[id] ?? device.dollarsPerHour;
  return {
    numDevices,
    power: watts,
    installedWatts: installed === null ? null : total(installed),
    dollarsPerHour: perHour === null ? null : perHour * numDevices,
  };
}

function faultsOf(file: ScenarioFile, fleet: ScenarioFleet): TwinFault[] {
  return file.values.faults.filter((fault) => hasWorker(fleet, fault.worker)).map(toFault);
}

function toFault(fault: ScenarioFault): TwinFault {
  const atMs = fault.atSeconds * 1000;
  switch (fault.kind) {
    case "crash":
      return { kind: "crash", worker: fault.worker, atMs, restarts: fault.restarts };
    case "slow-worker":
      return { kind: "slow-worker", worker: fault.worker, atMs, factor: fault.factor };
    case "slow-link":
      return { kind: "slow-link", endpoint: fault.worker, atMs, factor: fault.factor };
  }
}
