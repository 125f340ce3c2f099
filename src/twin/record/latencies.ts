import { LATENCY_METRICS, type LatencyMetric } from "../../protocol/slo-schema.ts";
import type { RequestOutcome } from "../observer.ts";
import type { WorkloadRequest } from "../workload/workload.ts";
import { LatencyHistogram } from "./latency-histogram.ts";
import type { Reference } from "./reference-times.ts";

/** One completed request; null: it does not have this metric, or it was not recorded. ITL is of gaps, not of requests. */
export type RequestLatencies = Readonly<Record<Exclude<LatencyMetric, "itlMs">, number | null>>;

/** Those of them that a request has, and not a gap, in the order of {@link latencyValues}. */
const REQUEST_METRICS = LATENCY_METRICS.filter((metric) => metric !== "itlMs");

export function latenciesOf(
  request: WorkloadRequest,
  outcome: RequestOutcome,
  reference: Reference | null,
): RequestLatencies {
  const { ttftMs, e2eMs, numOutputTokens } = outcome;
  const hasGaps = numOutputTokens > 1;
  const tpotMs = hasGaps ? (e2eMs - ttftMs) / (numOutputTokens - 1) : null;
  const alone = reference?.(request.inputTokens, numOutputTokens) ?? null;
  return {
    ttftMs,
    tpotMs,
    e2eMs,
    queuedMs: outcome.queuedMs,
    maxGapMs: hasGaps ? outcome.maxGapMs : null,
    worstGapsMs: hasGaps ? outcome.worstGapsMs : null,
    ttftSlowdown: alone === null ? null : ttftMs / alone.ttftMs,
    tpotSlowdown: alone === null || tpotMs === null ? null : tpotMs / alone.tpotMs,
    e2eSlowdown: alone === null ? null : e2eMs / alone.e2eMs,
  };
}

/** The latencies as a list: to look each up by its name once per request is enough, however many groups it belongs to. */
export function latencyValues(latencies: RequestLatencies): ReadonlyArray<number | null> {
  return REQUEST_METRICS.map((metric) => latencies[metric]);
}

/** Counts and distributions of a group of requests: all, one class, or one tenant. */
export class RequestGroup {
  numArrived = 0;
  numCompleted = 0;
  numFailed = 0;
  /** Of completed requests. */
  inputTokens = 0;
  cachedTokens = 0;
  outputTokens = 0;
  readonly latencies: Readonly<Record<LatencyMetric, LatencyHistogram>>;
  /** Those of requests, in the order of {@link latencyValues}. */
  readonly #ofRequests: readonly LatencyHistogram[];

  constructor() {
    const entries = LATENCY_METRICS.map((metric) => [metric, new LatencyHistogram()] as const);
    const latencies = Object.fromEntries(entries) as Record<LatencyMetric, LatencyHistogram>;
    this.latencies = latencies;
    this.#ofRequests = REQUEST_METRICS.map((metric) => latencies[metric]);
  }

  /** `values` as {@link latencyValues} lists them. */
  completed(request: WorkloadRequest, outcome: RequestOutcome, values: ReadonlyArray<number | null>): void {
    this.numCompleted++;
    this.inputTokens += request.inputTokens;
    this.cachedTokens += outcome.numCachedTokens;
    this.outputTokens += outcome.numOutputTokens;
    for (let i = 0; i < values.length; i++) {
      const value = values[i]!;
      if (value !== null) this.#ofRequests[i]!.add(value);
    }
  }
}

/** Most classes, and most tenants, that are told apart. */
export const MAX_GROUPS = 32;

/** Name of the group that takes what comes after {@link MAX_GROUPS}. */
export const REST_GROUP = "(others)";

/** Groups by name, in order of appearance. */
export class GroupTable {
  readonly #groups = new Map<string, RequestGroup>();

  get(name: string): RequestGroup {
    const known = this.#groups.get(name);
    if (known !== undefined) return known;
    const isRoom = this.#groups.size < MAX_GROUPS;
    const key = isRoom ? name : REST_GROUP;
    const group = this.#groups.get(key) ?? new RequestGroup();
    this.#groups.set(key, group);
    return group;
  }

  entries(): [string, RequestGroup][] {
    return [...this.#groups].sort(([a], [b]) => (a < b ? -1 : 1));
  }
}
