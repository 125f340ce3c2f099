import type { DeviceSpec } from "../core/perf/device-spec.ts";
import type { ModelShape } from "../core/perf/model-shape.ts";
import type { PerfModel } from "../core/perf/perf-model.ts";
import type { PlacementPolicy } from "../core/router/placement.ts";
import type { ConfigPath } from "../protocol/config-error.ts";
import type { NetworkSection } from "../protocol/network-schema.ts";
import type { ScenarioFleet, ScenarioPool, ScenarioValues } from "../protocol/scenario-file.ts";
import type { WorkloadSection } from "../protocol/workload-schema.ts";
import type { Network } from "./network/network.ts";
import type { TwinObserver } from "./observer.ts";
import type { TwinSpec, TwinSummary } from "./twin-spec.ts";
import type { WorkloadSource } from "./workload/workload.ts";

/** Something that a scenario asks for and that cannot be. `path` leads to the key, from where the part was asked for. */
export class PartError extends Error {
  override name = "PartError";
  readonly code = "bad_part";
  readonly path: ConfigPath;

  constructor(message: string, path: ConfigPath = []) {
    super(message);
    this.path = path;
  }
}

/** What the catalogue knows of an accelerator beyond what prices steps; null: unknown. Per accelerator. */
export interface PartDevice {
  readonly spec: DeviceSpec;
  readonly idleWatts: number | null;
  readonly prefillWatts: number | null;
  readonly decodeWatts: number | null;
  readonly transferWatts: number | null;
  /** Nameplate. */
  readonly installedWatts: number | null;
  readonly dollarsPerHour: number | null;
  /** Figures that are assumed, derived or doubtful, in sentences. */
  readonly assumptions: readonly string[];
}

/** One endpoint of the network: a worker with all its accelerators. */
export interface PartEndpoint {
  readonly name: string;
  readonly pool: string;
  readonly device: DeviceSpec;
  readonly numDevices: number;
}

/** A network, with the figures that it rests on in sentences. */
export interface PartNetwork {
  readonly network: Network;
  readonly assumptions: readonly string[];
}

/** What a worker's perf model is made from. */
export type PerfQuery = Pick<ScenarioPool, "parallelism" | "precision" | "memoryUtilisation" | "host"> &
  Pick<ScenarioPool, "tokenBudget" | "maxRunning" | "blockTokens" | "engine"> & {
    readonly model: ModelShape;
    readonly device: DeviceSpec;
    /** The coarse model of a paper in place of ours, or null. */
    readonly paper: NonNullable<ScenarioFleet["paper"]> | null;
  };

/**
 * Everything that a scenario is put together from. Each function throws {@link PartError} for what cannot be: an unknown id, a
 * missing figure, parallelism that does not divide, a model that does not fit.
 */
export interface TwinParts {
  /** `folder` is where relative paths start. */
  modelShape(model: ScenarioValues["model"], folder: string): ModelShape;
  /** `overrides` replace figures by the catalogue's keys. `folder` is where relative paths start. */
  device(id: string, overrides: Readonly<Record<string, number>>, folder: string): PartDevice;
  perf(query: PerfQuery): PerfModel;
  network(section: NetworkSection, endpoints: readonly PartEndpoint[]): PartNetwork;
  /** `seed` is for policies that draw. */
  placement(section: ScenarioValues["placement"], seed: number): PlacementPolicy;
  workload(section: WorkloadSection, seed: number, folder: string): WorkloadSource;
  run(spec: TwinSpec, source: WorkloadSource, observer: TwinObserver): TwinSummary;
}
