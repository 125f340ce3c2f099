import { fitLinear } from "../../core/perf/fit-profile.ts";
import type { PerfModel } from "../../core/perf/perf-model.ts";
import type { WorkerId } from "../../core/request.ts";
import type { PlacementDecision, PlacementPolicy } from "../../core/router/placement.ts";
import { quantile } from "../../core/util/quantiles.ts";
import { runTwin } from "../driver/run-twin.ts";
import { DedicatedLinks } from "../network/dedicated-links.ts";
import type { RequestOutcome, TwinObserver } from "../observer.ts";
import type { TwinWorkerSpec } from "../twin-spec.ts";
import { ListSource } from "../workload/list-source.ts";
import { plainRequest } from "../workload/plain-request.ts";
import type { WorkloadRequest } from "../workload/workload.ts";
import { fitOwnSteps, fitSteps, LearnedPerf, MIN_OWN_STEPS } from "./learned-perf.ts";
import { hashKeys, type RecordedTraffic, type RecordedWorker } from "./recorded-traffic.ts";

/** Steps of all workers together that those learn from. */
const MAX_POOLED_STEPS = 50_000;
/** Of transfers that nobody has timed; stated as an assumption. */
const UNTIMED_LINK = { bytesPerSecond: 1e9, latencyMs: 1 };
/** Sequences that may wait for KV on a worker, as `maxWaiting` of the server. */
const MAX_WAITING = 256;
/** A rerun that takes longer than this is not going to end. */
const MAX_VIRTUAL_MS = 7 * 24 * 3600 * 1000;

/** How traffic went, recorded or run again. */
export interface TrafficFigures {
  readonly numRequests: number;
  readonly numCompleted: number;
  /** Prompt tokens from a cache, of the prompt tokens of all requests that say. */
  readonly hitRate: number;
  /** From the arrival at the dispatcher to the first token; null without requests that have one. */
  readonly ttftMs: { readonly p50: number; readonly p90: number; readonly p99: number } | null;
  /** Share of the placed requests that each worker prefills, and decodes. */
  readonly prefillShares: Readonly<Record<WorkerId, number>>;
  readonly decodeShares: Readonly<Record<WorkerId, number>>;
}

/** What a rerun rests on. */
export interface RerunFleet {
  readonly workers: readonly TwinWorkerSpec[];
  readonly link: { readonly bytesPerSecond: number; readonly latencyMs: number };
  /** In sentences. */
  readonly assumptions: readonly string[];
}

/** The figures of the record itself. */
export function recordedFigures({ outcomes, workers }: RecordedTraffic): TrafficFigures {
  const tally = new Tally(workers.map(({ facts }) => facts.id));
  for (const { request, arrivalMs, decision, firstTokenMs, numCachedTokens, end } of outcomes) {
    const ttftMs = firstTokenMs === null ? null : firstTokenMs - arrivalMs;
    tally.add({
      inputTokens: request.numPromptTokens,
      numCachedTokens,
      ttftMs,
      isCompleted: end !== null,
      decision,
    });
  }
  return tally.figures();
}

/**
 * The recorded fleet for the twin. `perfOf` prices a worker's steps; null: by the steps that were recorded. Returns null when there are
 * none to learn from.
 */
export function rerunFleet(
  traffic: RecordedTraffic,
  blockTokens: number,
  perfOf: ((worker: RecordedWorker) => PerfModel) | null,
): RerunFleet | null {
  const { workers, transfers, fleetChanged } = traffic;
  const pooled = workers.flatMap(({ steps }) => steps.slice(0, Math.ceil(MAX_POOLED_STEPS / workers.length)));
  if (perfOf === null && pooled.length === 0) return null;
  const shared = perfOf === null ? fitSteps(pooled) : null;
  const learned = ({ facts, steps }: RecordedWorker): PerfModel => {
    const { kvTokensTotal: kvCapacityTokens, kvBytesPerToken } = facts;
    return new LearnedPerf(fitOwnSteps(steps, shared!), { kvCapacityTokens, kvBytesPerToken });
  };
  const numSteps = workers.reduce((sum, { steps }) => sum + steps.length, 0);
  const specs = workers.map((worker): TwinWorkerSpec => {
    const { id, role, tokenBudget, maxRunning, kvTokensTotal } = worker.facts;
    return {
      id,
      role,
      perf: (perfOf ?? learned)(worker),
      endpoint: id,
      policy: "chunked",
      tokenBudget,
      maxRunning,
      maxWaiting: MAX_WAITING,
      blockTokens,
      numBlocks: Math.floor(kvTokensTotal / blockTokens),
      maxCachedBlocks: worker.maxHeldBlocks,
      startUpMs: 0,
    };
  });
  const timed = transfers.filter(({ bytes, ms }) => bytes > 0 && ms > 0);
  return {
    workers: specs,
    link: timed.length === 0 ? UNTIMED_LINK : linkOf(timed),
    assumptions: [
      perfOf === null
        ? `steps take what ${numSteps} recorded ones took, by a linear fit for each worker; what a worker did in fewer than ${MIN_OWN_STEPS} of its own costs what it cost on all of them`
        : "steps take what the named device takes",
      timed.length === 0
        ? "no transfer was recorded: links have 1 GB/s and 1 ms"
        : `transfers take what ${timed.length} recorded ones took, import at the other side included`,
      "workers schedule by the policy chunked, and keep as many cached blocks as they have said to hold at most",
      "outputs are as long as recorded, those of requests that did not finish as far as they came; later turns do not find them cached",
      ...(fleetChanged ? ["the fleet is that of the moment with the most workers, and stays so"] : []),
    ],
  };
}

/** Runs the recorded arrivals on a fleet with another policy, or the same one. */
export function rerun(
  traffic: RecordedTraffic,
  fleet: RerunFleet,
  blockTokens: number,
  options: { readonly placement: PlacementPolicy; readonly maxRequests: number },
): TrafficFigures {
  const observer = new TallyObserver(fleet.workers.map(({ id }) => id));
  const requests = arrivalsOf(traffic, blockTokens);
  runTwin(
    {
      workers: fleet.workers,
      network: new DedicatedLinks(fleet.link),
      placement: options.placement,
      faults: [],
      maxRequests: options.maxRequests,
      outputBound: 1,
      checks: false,
      maxVirtualMs: MAX_VIRTUAL_MS,
      // As in the server, placement gets no perf model: it learns, or does without.
      record: () => () => {},
    },
    new ListSource(requests),
    observer,
  );
  return observer.tally.figures();
}

/** Recorded requests as a workload; equal block hashes become equal identities. */
function arrivalsOf({ outcomes }: RecordedTraffic, blockTokens: number): WorkloadRequest[] {
  const ids = new Map<string, number>();
  const idOf = (key: string): number => {
    let id = ids.get(key);
    if (id === undefined) {
      id = ids.size;
      ids.set(key, id);
    }
    return id;
  };
  const startMs = outcomes[0]?.arrivalMs ?? 0;
  return outcomes.map(({ request, arrivalMs, numOutputTokens }, index) => {
    const { numPromptTokens, numResumedTokens, maxOutputTokens, promptBlockHashes, priority } = request;
    const outputTokens = Math.max(1, numOutputTokens - numResumedTokens);
    return {
      ...plainRequest(String(index), numPromptTokens + numResumedTokens, outputTokens),
      arrivalMs: arrivalMs - startMs,
      maxOutputTokens: Math.max(1, maxOutputTokens - numResumedTokens),
      priority,
      blocks:
        promptBlockHashes === null
          ? null
          : { blockTokens, scope: "", ids: hashKeys(promptBlockHashes).map(idOf) },
    };
  });
}

function linkOf(timed: RecordedTraffic["transfers"]): RerunFleet["link"] {
  const { callMs, tokenMs } = fitLinear(timed.map(({ bytes, ms }) => ({ tokens: bytes, ms })));
  return { latencyMs: callMs, bytesPerSecond: tokenMs > 0 ? 1000 / tokenMs : Number.POSITIVE_INFINITY };
}

/** Counts what becomes of requests. */
class Tally {
  readonly #prefills: Map<WorkerId, number>;
  readonly #decodes: Map<WorkerId, number>;
  readonly #ttftsMs: number[] = [];
  #numRequests = 0;
  #numCompleted = 0;
  #numPlaced = 0;
  #promptTokens = 0;
  #cachedTokens = 0;

  constructor(workers: readonly WorkerId[]) {
    this.#prefills = new Map(workers.map((id) => [id, 0]));
    this.#decodes = new Map(workers.map((id) => [id, 0]));
  }

  add(request: {
    readonly inputTokens: number;
    readonly numCachedTokens: number | null;
    readonly ttftMs: number | null;
    readonly isCompleted: boolean;
    readonly decision: Pick<PlacementDecision, "prefillWorker" | "decodeWorker"> | null;
  }): void {
    const { inputTokens, numCachedTokens, ttftMs, isCompleted, decision } = request;
    this.#numRequests++;
    if (isCompleted) this.#numCompleted++;
    if (ttftMs !== null) this.#ttftsMs.push(ttftMs);
    if (numCachedTokens !== null) {
      this.#promptTokens += inputTokens;
      this.#cachedTokens += numCachedTokens;
    }
    if (decision === null) return;
    this.#numPlaced++;
    const { prefillWorker, decodeWorker } = decision;
    this.#prefills.set(prefillWorker, (this.#prefills.get(prefillWorker) ?? 0) + 1);
    this.#decodes.set(decodeWorker, (this.#decodes.get(decodeWorker) ?? 0) + 1);
  }

  figures(): TrafficFigures {
    const sorted = Float64Array.from(this.#ttftsMs).sort();
    const at = (share: number) => quantile(sorted, share);
    return {
      numRequests: this.#numRequests,
      numCompleted: this.#numCompleted,
      hitRate: this.#promptTokens === 0 ? 0 : this.#cachedTokens / this.#promptTokens,
      ttftMs: sorted.length === 0 ? null : { p50: at(0.5), p90: at(0.9), p99: at(0.99) },
      prefillShares: this.#sharesOf(this.#prefills),
      decodeShares: this.#sharesOf(this.#decodes),
    };
  }

  #sharesOf(counts: ReadonlyMap<WorkerId, number>): Record<WorkerId, number> {
    const shares = [...counts].map(([id, count]) => [id, count / Math.max(1, this.#numPlaced)] as const);
    return Object.fromEntries(shares);
  }
}

/** A tally of a run of the twin. */
class TallyObserver implements TwinObserver {
  readonly tally: Tally;

  constructor(workers: readonly WorkerId[]) {
    this.tally = new Tally(workers);
  }

  requestEnded({ inputTokens }: WorkloadRequest, outcome: RequestOutcome): void {
    const { prefillWorker, decodeWorker, ttftMs, numCachedTokens, isCompleted } = outcome;
    this.tally.add({
      inputTokens,
      numCachedTokens,
      ttftMs: outcome.numOutputTokens > 0 ? ttftMs : null,
      isCompleted,
      decision: prefillWorker === null || decodeWorker === null ? null : { prefillWorker, decodeWorker },
    });
  }

  requestArrived(): void {}
  requestPlaced(): void {}
  tokenGap(): void {}
  tokenGaps(): void {}
  stepsDone(): void {}
  transferDone(): void {}
  kvChanged(): void {}
  workerChanged(): void {}
}
