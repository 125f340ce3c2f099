import { resolve } from "node:path";
import { BUILT_IN_CATALOG, type Catalog, CatalogError } from "../catalog/catalog.ts";
import { toDevicePower, toDeviceSpec } from "../catalog/device-spec.ts";
import type { AcceleratorEntry } from "../catalog/entry.ts";
import { vllmCalibration, vllmOverheads } from "../catalog/host-overheads.ts";
import { readModelFile } from "../catalog/import/model-file.ts";
import {
  type Assumptions,
  describeFigure,
  needsStating,
  specOf,
  takeFromAccelerator,
} from "../catalog/resolve.ts";
import { createPerfModel } from "../core/perf/create-perf-model.ts";
import type { PerfProblem } from "../core/perf/deployment-check.ts";
import type { KernelTables } from "../core/perf/efficiencies.ts";
import { EngineModel } from "../core/perf/engine-overheads.ts";
import type { PerfModel } from "../core/perf/perf-model.ts";
import { DEFAULT_HOST_COSTS, type HostCosts, NO_HOST_COSTS } from "../core/perf/step-pricer.ts";
import { createPlacementPolicy } from "../core/router/policies/registry.ts";
import { Rng } from "../core/util/rng.ts";
import type { ScenarioFile } from "../protocol/scenario-file.ts";
import { describeNetworkFigure } from "./assumptions.ts";
import { runTwin } from "./driver/run-twin.ts";
import { buildNetwork } from "./network/build-network.ts";
import { paperPerf } from "./paper/paper-perf.ts";
import { type PartDevice, PartError, type PerfQuery, type TwinParts } from "./parts.ts";
import { isProfileDevice, profileDevice, profilePerf } from "./profile-device.ts";
import { loadKernelTables } from "./tables/kernel-tables.ts";
import { openWorkload } from "./workload/open-workload.ts";

/** The parts that `twofold simulate` puts scenarios together from: the catalogue, the perf model, the network and the driver. */
export const PRODUCTION_PARTS: TwinParts = partsOf(BUILT_IN_CATALOG, new Map());

/** Measured kernel tables by the catalogue's id of the device. */
type DeviceTables = ReadonlyMap<string, KernelTables>;

/**
 * Parts that price kernels by the user's measured tables where there are any (`--tables`), for the devices of a scenario. Rejects with
 * `TableError` when the folder has tables of none of them, or some that cannot be used.
 */
export async function partsWithTables(folder: string, { values }: ScenarioFile): Promise<TwinParts> {
  const pools = Object.values(values.fleets).flatMap((fleet) => fleet.workers);
  const devices = new Set(
    [...pools, ...(values.reference === undefined ? [] : [values.reference])].map(({ device }) => device),
  );
  return partsOf(BUILT_IN_CATALOG, await loadKernelTables(folder, devices));
}

function partsOf(catalog: Catalog, tables: DeviceTables): TwinParts {
  return {
    modelShape(model, folder) {
      if (typeof model !== "string") return readModelFile(resolve(folder, model.file)).shape;
      return known(() => catalog.get("model", model).shape);
    },
    device: (id, overrides, folder) =>
      isProfileDevice(id)
        ? profileDevice(id, overrides, folder)
        : known(() => partDevice(catalog.get("accelerator", id), overrides), ["device"]),
    perf: (query) => perfOf(query, tables),
    network(section, endpoints) {
      const groups = new Map(endpoints.map(({ pool, device }) => [pool, { name: pool, device }]));
      const workers = endpoints.map(({ name, pool, numDevices }) => ({ name, group: pool, numDevices }));
      const built = buildNetwork({ network: section, groups: [...groups.values()], workers });
      return { network: built.network, assumptions: built.assumptions.map(describeNetworkFigure) };
    },
    placement: (section, seed) => createPlacementPolicy(section.policy, { ...section, seed }),
    workload: (section, seed, folder) => openWorkload(section, { baseDir: folder, rng: new Rng(seed) }),
    run: runTwin,
  };
}

/** Gives errors of the catalogue the form that finds its place in a scenario. */
function known<T>(look: () => T, path: readonly string[] = []): T {
  try {
    return look();
  } catch (error) {
    if (error instanceof CatalogError) throw new PartError(error.message, path);
    throw error;
  }
}

function partDevice(entry: AcceleratorEntry, overrides: Assumptions): PartDevice {
  const { spec, used } = specOf(toDeviceSpec(entry, { assumptions: overrides }));
  const power = toDevicePower(entry, overrides);
  const watts = "spec" in power ? power.spec : null;
  const taker = takeFromAccelerator(entry, overrides);
  const figure = (key: "power.tdp" | "price.hour"): number | null =>
    taker.has(key) ? taker.take(key) : null;
  const installedWatts = figure("power.tdp");
  const dollarsPerHour = figure("price.hour");
  const figures = [...used, ...("used" in power ? power.used : []), ...taker.used];
  return {
    spec,
    idleWatts: watts?.idleW ?? null,
    prefillWatts: watts?.prefillW ?? null,
    decodeWatts: watts?.decodeW ?? null,
    transferWatts: watts?.transferW ?? null,
    installedWatts,
    dollarsPerHour,
    assumptions: figures.filter(needsStating).map((stated) => describeFigure(stated, entry.id)),
  };
}

/** The key of a pool that a problem of its perf model is about. */
const PROBLEM_PATHS: Readonly<Record<PerfProblem["code"], readonly string[]>> = {
  parallelism: ["parallelism"],
  precision: ["precision"],
  memory: ["memoryUtilisation"],
  device: ["device"],
};

function perfOf(query: PerfQuery, tables: DeviceTables): PerfModel {
  if (query.paper !== null) return paperPerf(query.paper, query);
  if (isProfileDevice(query.device.id)) return profilePerf(query);
  const { precision, host, engine, ...rest } = query;
  const measured = tables.get(query.device.id);
  const kernels = createPerfModel({
    ...rest,
    weightPrecision: precision.weights,
    kvPrecision: precision.kv,
    ...(precision.activations === undefined ? {} : { activationPrecision: precision.activations }),
    ...(measured === undefined ? {} : { tables: measured }),
    ...(engine === "vllm" ? { calibration: vllmCalibration() } : {}),
    // As the fit of vLLM's overheads had it: without expert parallelism every device holds a slice of every expert.
    ...(engine === "vllm" && rest.parallelism.ep === 1 ? { routingSkew: 0 } : {}),
    hasBlockScales: precision.blockScales === true,
    ...(precision.attention === undefined ? {} : { attentionMath: precision.attention }),
    host: engine === "vllm" ? NO_HOST_COSTS : { ...DEFAULT_HOST_COSTS, ...stated(host) },
  });
  const { problem } = kernels;
  if (problem !== null) throw new PartError(problem.message, PROBLEM_PATHS[problem.code]);
  if (engine !== "vllm") return kernels.model;
  const overheads = vllmOverheads({ deviceId: query.device.id, model: query.model, isOffloading: false });
  return new EngineModel(kernels.model, query.model, { ...overheads, ...stated(host) });
}

/** What the scenario says of the host. */
function stated(host: PerfQuery["host"]): Partial<HostCosts> {
  return Object.fromEntries(Object.entries(host).filter(([, value]) => value !== undefined));
}
