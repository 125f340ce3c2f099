import type { WorkerId } from "../../core/request.ts";
import type { PlacementDecision } from "../../core/router/placement.ts";
import type { RequestOutcome, StepRow, TwinObserver, WorkerCaches } from "../observer.ts";
import type { WorkloadRequest } from "../workload/workload.ts";
import { ActivitySeries } from "./activity-series.ts";
import { GroupTable, latenciesOf, latencyValues, RequestGroup } from "./latencies.ts";
import { LatencyHistogram } from "./latency-histogram.ts";
import { PoolCacheTable } from "./pool-caches.ts";
import type { Reference } from "./reference-times.ts";
import { keepsBounds, type SloSet, SloTally } from "./slo.ts";
import { TimeSeries } from "./time-series.ts";
import { type StepKind, WorkerUsage } from "./worker-usage.ts";

/** Most spans of all timelines of a run together, single steps and transfers; beyond it neighbours are merged. */
export const MAX_TIMELINE_SPANS = 80_000;

/** Most spans of one worker's transfers, and the least that each gets however many workers there are; steps get three times as many. */
const MAX_LANE_SPANS = 10_000;
const MIN_LANE_SPANS = 64;

/** Parts of a worker's spans: three for its steps, one for its transfers in both directions. */
const LANE_PARTS = 4;

/** Most kinds of failure that are told apart. */
const MAX_FAILURE_KINDS = 64;

/** Electric power of one worker, all its accelerators together, by what it does; watts. */
export interface WorkerPower {
  readonly idleWatts: number;
  readonly prefillWatts: number;
  readonly decodeWatts: number;
  readonly mixedWatts: number;
  /** While it only sends or receives KV. */
  readonly transferWatts: number;
}

/** What is updated when a worker has run steps. */
interface Lane {
  readonly usage: WorkerUsage;
  /** Its pool's, and its own if it has one. */
  readonly series: ActivitySeries;
  readonly power: WorkerPower | null;
}

/** A worker as the recorder has to know it. */
export interface RecordedWorker {
  readonly id: WorkerId;
  readonly pool: string;
  /** Null: power is not accounted for. */
  readonly power: WorkerPower | null;
}

export interface RecorderOptions {
  readonly workers: readonly RecordedWorker[];
  readonly slos: readonly SloSet[];
  /** What slowdowns are measured against; null: slowdowns are not recorded. */
  readonly reference: Reference | null;
  /** Called now and then with what has happened so far, to show progress. */
  readonly onProgress?: (progress: RunProgress) => void;
}

export interface RunProgress {
  readonly virtualMs: number;
  readonly numArrived: number;
  readonly numEnded: number;
}

/** Ended requests between two calls of `onProgress`. */
const PROGRESS_REQUESTS = 500;

/** The worker of the plan that a restarted one, such as `decode-3#2`, stands for. */
export function plannedWorker(worker: WorkerId): WorkerId {
  return worker.replace(/#\d+$/, "");
}

/**
 * Records one run of the twin in memory that does not grow with its length: histograms with a stated error, series whose
 * buckets double, timelines whose neighbours merge. `src/twin/report` makes results of it.
 */
export class Recorder implements TwinObserver {
  readonly all = new RequestGroup();
  readonly classes = new GroupTable();
  readonly tenants = new GroupTable();
  readonly tallies: readonly SloTally[];
  readonly failures = new Map<string, number>();
  readonly placements = new Map<PlacementDecision["reason"], number>();
  readonly poolSeries = new Map<string, ActivitySeries>();
  readonly caches = new PoolCacheTable();
  readonly transferMs = new LatencyHistogram();
  transferredBytes = 0;
  readonly inFlight = new TimeSeries();
  readonly arrivals = new TimeSeries();
  readonly completions = new TimeSeries();
  /** Per set of bounds: requests that met it, by the time of their end. */
  readonly good: readonly TimeSeries[];
  /** Watts above idle, times time. */
  readonly activePower = new TimeSeries();
  activeJoules = 0;
  lastArrivalMs = 0;
  /** End of the last request that is over. */
  lastRequestEndMs = 0;
  numInFlightAtLastArrival = 0;
  readonly options: RecorderOptions;
  readonly wantsGaps: boolean;
  readonly #workers: ReadonlyMap<WorkerId, RecordedWorker>;
  readonly #maxLaneSpans: number;
  readonly #lanes = new Map<WorkerId, Lane>();
  #numInFlight = 0;

  constructor(options: RecorderOptions) {
    this.options = options;
    this.wantsGaps = options.slos.some((slo) =>
      slo.kind === "requests"
        ? slo.bounds.worstGapsMs !== undefined
        : slo.rules.some(({ metric }) => metric === "worstGapsMs"),
    );
    this.#workers = new Map(options.workers.map((worker) => [worker.id, worker]));
    const share = Math.floor(MAX_TIMELINE_SPANS / LANE_PARTS / Math.max(options.workers.length, 1));
    // Even: half of it is for each direction.
    this.#maxLaneSpans = 2 * Math.floor(Math.min(Math.max(share, MIN_LANE_SPANS), MAX_LANE_SPANS) / 2);
    this.tallies = options.slos.flatMap((slo) => (slo.kind === "requests" ? [new SloTally(slo)] : []));
    this.good = this.tallies.map(() => new TimeSeries());
    for (const { id } of options.workers) this.#laneOf(id);
  }

  get numInFlight(): number {
    return this.#numInFlight;
  }

  requestArrived(request: WorkloadRequest, nowMs: number): void {
    for (const group of this.#groupsOf(request)) group.numArrived++;
    for (const tally of this.tallies) if (tally.concerns(request.kind)) tally.numArrived++;
    this.arrivals.add(nowMs, nowMs, 1);
    this.inFlight.step(1, nowMs);
    this.#numInFlight++;
    this.lastArrivalMs = nowMs;
    this.numInFlightAtLastArrival = this.#numInFlight;
  }

  requestPlaced(_request: WorkloadRequest, decision: PlacementDecision): void {
    this.placements.set(decision.reason, (this.placements.get(decision.reason) ?? 0) + 1);
  }

  tokenGap(gapMs: number, count: number): void {
    this.all.latencies.itlMs.add(gapMs, count);
  }

  tokenGaps(timesMs: Float64Array, from: number, to: number, count: number): void {
    this.all.latencies.itlMs.addGaps(timesMs, from, to, count);
  }

  requestEnded(request: WorkloadRequest, outcome: RequestOutcome, nowMs: number): void {
    this.inFlight.step(-1, nowMs);
    this.#numInFlight--;
    this.lastRequestEndMs = nowMs;
    if (outcome.isCompleted) this.#completed(request, outcome, nowMs);
    else this.#failed(request, outcome);
    const numEnded = this.all.numCompleted + this.all.numFailed;
    if (numEnded % PROGRESS_REQUESTS === 0) {
      this.options.onProgress?.({ virtualMs: nowMs, numArrived: this.all.numArrived, numEnded });
    }
  }

  stepsDone(worker: WorkerId, row: StepRow): void {
    const { usage, series, power } = this.#laneOf(worker);
    const kind = usage.run(row);
    const { load, boundsMs } = row;
    const startMs = boundsMs[row.from]!;
    const endMs = boundsMs[row.to]!;
    series.batch.add(startMs, endMs, (endMs - startMs) * (load.numDecodes + load.numPrefills));
    if (power !== null) this.#addPower(power, kind, startMs, endMs);
  }

  transferDone(from: WorkerId, to: WorkerId, bytes: number, startMs: number, endMs: number): void {
    this.transferMs.add(endMs - startMs);
    this.transferredBytes += bytes;
    const { usage: sender, series } = this.#laneOf(from);
    sender.sending.add(startMs, endMs);
    sender.active.add(startMs, endMs);
    sender.sentBytes += bytes;
    sender.sendSpans.add(startMs, endMs, "send", bytes);
    const { usage: receiver } = this.#laneOf(to);
    receiver.receiving.add(startMs, endMs);
    receiver.active.add(startMs, endMs);
    receiver.receivedBytes += bytes;
    receiver.receiveSpans.add(startMs, endMs, "receive", bytes);
    series.sentBytes.add(startMs, endMs, bytes);
  }

  kvChanged(worker: WorkerId, usedBlocks: number, cachedBlocks: number, nowMs: number): void {
    const { usage, series } = this.#laneOf(worker);
    const change = usedBlocks - usage.usedBlocks;
    usage.kv(usedBlocks, cachedBlocks, nowMs);
    if (change !== 0) series.kvUsedBlocks.step(change, nowMs);
  }

  workerChanged(worker: WorkerId, state: "ready" | "lost" | "slow", _factor: number, nowMs: number): void {
    this.#laneOf(worker).usage.changed(state, nowMs);
    if (state === "lost") this.kvChanged(worker, 0, 0, nowMs);
  }

  cachesDone(worker: WorkerId, caches: WorkerCaches, isLost: boolean): void {
    this.caches.add(this.poolOf(worker), caches, isLost);
  }

  /** Workers in order of their first mention, those of the options first; a restarted one is the one that it stands for. */
  get usages(): readonly (readonly [WorkerId, WorkerUsage])[] {
    const planned = [...this.#lanes].filter(([id]) => plannedWorker(id) === id);
    return planned.map(([id, lane]) => [id, lane.usage] as const);
  }

  /** The pool of a worker; workers that nobody announced share one. */
  poolOf(worker: WorkerId): string {
    return this.#workers.get(plannedWorker(worker))?.pool ?? "(unnamed)";
  }

  powerOf(worker: WorkerId): WorkerPower | null {
    return this.#workers.get(plannedWorker(worker))?.power ?? null;
  }

  #completed(request: WorkloadRequest, outcome: RequestOutcome, nowMs: number): void {
    const latencies = latenciesOf(request, outcome, this.options.reference);
    const values = latencyValues(latencies);
    for (const group of this.#groupsOf(request)) group.completed(request, outcome, values);
    this.completions.add(nowMs, nowMs, 1);
    for (let index = 0; index < this.tallies.length; index++) {
      const tally = this.tallies[index]!;
      if (!tally.concerns(request.kind) || !keepsBounds(latencies, tally.slo.bounds)) continue;
      tally.numGood++;
      tally.computedInputTokens += Math.max(request.inputTokens - outcome.numCachedTokens, 0);
      tally.outputTokens += outcome.numOutputTokens;
      this.good[index]!.add(nowMs, nowMs, 1);
    }
  }

  #failed(request: WorkloadRequest, outcome: RequestOutcome): void {
    for (const group of this.#groupsOf(request)) group.numFailed++;
    const isRoom = this.failures.has(outcome.end) || this.failures.size < MAX_FAILURE_KINDS;
    const kind = isRoom ? outcome.end : "(others)";
    this.failures.set(kind, (this.failures.get(kind) ?? 0) + 1);
  }

  #addPower(power: WorkerPower, kind: StepKind, startMs: number, endMs: number): void {
    const watts =
      kind === "prefill" ? power.prefillWatts : kind === "decode" ? power.decodeWatts : power.mixedWatts;
    const wattMs = Math.max(watts - power.idleWatts, 0) * (endMs - startMs);
    this.activeJoules += wattMs / 1000;
    this.activePower.add(startMs, endMs, wattMs);
  }

  #groupsOf(request: WorkloadRequest): readonly RequestGroup[] {
    return [this.all, this.classes.get(request.kind), this.tenants.get(request.tenant)];
  }

  #laneOf(worker: WorkerId): Lane {
    const known = this.#lanes.get(worker);
    if (known !== undefined) return known;
    const planned = plannedWorker(worker);
    const lane = planned === worker ? this.#newLane(worker) : this.#laneOf(planned);
    this.#lanes.set(worker, lane);
    return lane;
  }

  #newLane(worker: WorkerId): Lane {
    const pool = this.poolOf(worker);
    const series = this.poolSeries.get(pool) ?? new ActivitySeries();
    this.poolSeries.set(pool, series);
    const usage = new WorkerUsage((LANE_PARTS - 1) * this.#maxLaneSpans, this.#maxLaneSpans);
    return { usage, series, power: this.powerOf(worker) };
  }
}
