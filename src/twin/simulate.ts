import { type ScenarioFile, type ScenarioValues, scenarioError } from "../protocol/scenario-file.ts";
import type { Assumption, RunResult } from "../protocol/simulation-schema.ts";
import { distinct, networkStatements, scenarioAssumptions } from "./assumptions.ts";
import { at, type FleetPlan, planFleet, planReference } from "./fleet-plan.ts";
import type { TwinParts } from "./parts.ts";
import { DispatchLogFile } from "./record/dispatch-log-file.ts";
import { Recorder, type RunProgress } from "./record/recorder.ts";
import type { Reference } from "./record/reference-times.ts";
import { makeRunDetail, type RunDetail } from "./report/run-detail.ts";
import { durationOf, makeRunResult } from "./report/run-result.ts";
import { sloSets } from "./slo-sets.ts";
import type { TwinSpec, TwinSummary } from "./twin-spec.ts";
import { isEndless } from "./workload/open-workload.ts";
import { LimitedSource } from "./workload/transforms.ts";
import type { WorkloadSource } from "./workload/workload.ts";

/** Virtual time of a run whose workload ends, if the scenario sets no limit: a week. */
const DEFAULT_VIRTUAL_SECONDS = 604_800;

/** A file that a run's dispatcher is recorded in. */
export interface RunRecord {
  readonly path: string;
  readonly twofoldVersion: string;
}

/** A scenario whose fleets are planned once and run with any number of seeds. */
export class Simulation {
  readonly file: ScenarioFile;
  readonly #parts: TwinParts;
  readonly #folder: string;
  readonly #plans = new Map<string, FleetPlan>();
  /** By fleet. */
  readonly #networkAssumptions = new Map<string, readonly string[]>();
  #reference: Reference | null | undefined;

  /** `folder` is where relative paths of the scenario start. */
  constructor(file: ScenarioFile, parts: TwinParts, folder: string) {
    this.file = file;
    this.#parts = parts;
    this.#folder = folder;
  }

  /** Looks up the parts of a fleet. Throws `ConfigError` with the place of what cannot be. */
  plan(fleet: string): FleetPlan {
    let plan = this.#plans.get(fleet);
    if (plan === undefined) {
      plan = planFleet(this.file, fleet, this.#parts, this.#folder);
      this.#plans.set(fleet, plan);
    }
    return plan;
  }

  /** Opens the workload and makes the network, and throws `ConfigError` or `WorkloadError` for what is wrong with them. */
  check(fleet: string): void {
    this.#open(fleet, this.file.seeds[0] ?? 1);
  }

  /** What the result for these fleets rests on: what the scenario says, then parts, then networks. They have been checked or run. */
  assumptions(fleets: readonly string[]): Assumption[] {
    return [
      ...scenarioAssumptions(this.file.values),
      ...distinct(fleets.flatMap((fleet) => this.plan(fleet).assumptions)),
      ...networkStatements(fleets, this.#networkAssumptions),
    ];
  }

  /**
   * Runs a fleet with a seed to its end. With `record` its dispatcher is recorded there; throws a system error when the file can't
   * be written.
   */
  run(
    fleet: string,
    seed: number,
    onProgress?: (progress: RunProgress) => void,
    record?: RunRecord,
  ): { result: RunResult; detail: RunDetail } {
    const plan = this.plan(fleet);
    const { values } = this.file;
    const { spec, source } = this.#open(fleet, seed);
    this.#reference ??= planReference(this.file, this.#parts, this.#folder);
    const recorder = new Recorder({
      workers: plan.recorded,
      slos: sloSets(values.slo),
      reference: this.#reference,
      ...(onProgress === undefined ? {} : { onProgress }),
    });
    const summary =
      record === undefined
        ? this.#parts.run(spec, source, recorder)
        : this.#recorded(spec, this.#placementOf(fleet), seed, record, (recorded) =>
            this.#parts.run(recorded, source, recorder),
          );
    const site = { pue: values.power.pue, dollarsPerKwh: values.price.dollarsPerKwh ?? null };
    const context = { seed, workers: plan.reported, site, maxVirtualMs: spec.maxVirtualMs };
    const result = makeRunResult(recorder, summary, context);
    return { result, detail: makeRunDetail(recorder, durationOf(recorder, summary)) };
  }

  #placementOf(fleet: string): ScenarioValues["placement"] {
    const { values } = this.file;
    return values.fleets[fleet]?.placement ?? values.placement;
  }

  #recorded(
    spec: TwinSpec,
    { policy: name, ...options }: ScenarioValues["placement"],
    seed: number,
    { path, twofoldVersion }: RunRecord,
    run: (spec: TwinSpec) => TwinSummary,
  ): TwinSummary {
    let file: DispatchLogFile | null = null;
    const record: NonNullable<TwinSpec["record"]> = (dispatcher) => {
      const blockSizeTokens = spec.workers[0]!.blockTokens;
      const policy = { name, options: { ...options, seed } };
      const opened = new DispatchLogFile(path, {
        twofoldVersion,
        world: "twin",
        policy,
        dispatcher,
        blockSizeTokens,
      });
      file = opened;
      return (entry) => opened.add(entry);
    };
    try {
      return run({ ...spec, record });
    } finally {
      (file as DispatchLogFile | null)?.close();
    }
  }

  #open(fleet: string, seed: number): { spec: TwinSpec; source: WorkloadSource } {
    const { file } = this;
    const { values } = file;
    const plan = this.plan(fleet);
    const section = values.fleets[fleet];
    const networkPath = section?.network === undefined ? ["network"] : ["fleets", fleet, "network"];
    const placementPath = section?.placement === undefined ? ["placement"] : ["fleets", fleet, "placement"];
    const placement = this.#placementOf(fleet);
    const parts = this.#parts;
    const { network, assumptions } = at(file, networkPath, () =>
      parts.network(section?.network ?? values.network, plan.endpoints),
    );
    this.#networkAssumptions.set(fleet, assumptions);
    const spec: TwinSpec = {
      workers: plan.workers,
      seed,
      network,
      placement: at(file, placementPath, () => parts.placement(placement, seed)),
      faults: plan.faults,
      maxRequests: values.limits.requestsInFlight,
      handoffWaitMs: values.limits.handoffWaitSeconds * 1000,
      outputBound: placement.knowsOutputLength ? "true" : values.limits.outputTokens,
      ...(placement.firstTokenGoalMs === undefined ? {} : { firstTokenGoalMs: placement.firstTokenGoalMs }),
      checks: false,
      maxVirtualMs: (values.limits.virtualSeconds ?? DEFAULT_VIRTUAL_SECONDS) * 1000,
    };
    if (isEndless(values.workload)) this.#needLimit();
    const source = at(file, ["workload"], () => parts.workload(values.workload, seed, this.#folder));
    const { requests } = values.limits;
    return { spec, source: requests === undefined ? source : new LimitedSource(source, { requests }) };
  }

  /** A workload without an end would run for ever. */
  #needLimit(): void {
    const { requests, virtualSeconds } = this.file.values.limits;
    if (requests !== undefined || virtualSeconds !== undefined) return;
    const message =
      "workload: has no end; give it requests or durationMs, or set limits.requests or limits.virtualSeconds";
    throw scenarioError(this.file, ["workload"], message);
  }
}
