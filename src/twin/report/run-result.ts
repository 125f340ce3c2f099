import type { RunResult } from "../../protocol/simulation-schema.ts";
import { LATENCY_METRICS, type LatencyMetric } from "../../protocol/slo-schema.ts";
import type { RequestGroup } from "../record/latencies.ts";
import type { LatencyHistogram } from "../record/latency-histogram.ts";
import { plannedWorker, type Recorder } from "../record/recorder.ts";
import type { SloSet } from "../record/slo.ts";
import { STEP_KINDS, type WorkerUsage } from "../record/worker-usage.ts";
import type { TwinSummary } from "../twin-spec.ts";
import { costOf, energyOf, type SiteEconomics, usefulOf, type WorkerEconomics } from "./economics.ts";
import { runWarnings } from "./warnings.ts";

/** A worker as its results name it. */
export interface ReportedWorker {
  readonly id: string;
  readonly pool: string;
  readonly kvCapacityBlocks: number | null;
  readonly economics: WorkerEconomics;
}

export interface RunContext {
  readonly seed: number;
  readonly workers: readonly ReportedWorker[];
  readonly site: SiteEconomics;
  /** Virtual time that the run was limited to. */
  readonly maxVirtualMs: number;
}

/**
 * How long a run counts: until its last request is over, as timers and restarts that come later serve nobody; to its end if
 * requests are left.
 */
export function durationOf(recorder: Recorder, summary: TwinSummary): number {
  return recorder.numInFlight === 0 ? recorder.lastRequestEndMs : summary.endMs;
}

/** Makes the result of a run of what was recorded. */
export function makeRunResult(recorder: Recorder, summary: TwinSummary, context: RunContext): RunResult {
  const { all } = recorder;
  const endMs = durationOf(recorder, summary);
  const perSecond = (count: number): number => (endMs > 0 ? (count * 1000) / endMs : 0);
  const economics = new Map(context.workers.map((worker) => [worker.id, worker.economics]));
  const numDevices = context.workers.reduce((sum, worker) => sum + worker.economics.numDevices, 0);
  const computedTokens = all.outputTokens + Math.max(all.inputTokens - all.cachedTokens, 0);
  const totals = { endMs, outputTokens: all.outputTokens, computedTokens };
  const energy = energyOf(recorder, [...economics.values()], context.site, totals);
  const useful = usefulOf(recorder, economics, recorder.tallies[0] ?? null, endMs);
  const latency = latencyOf(all, null);
  const result: RunResult = {
    seed: context.seed,
    end: summary.end,
    warnings: [],
    endMs,
    lastArrivalMs: recorder.lastArrivalMs,
    inFlightAtLastArrival: recorder.numInFlightAtLastArrival,
    numEvents: summary.numEvents,
    traceHash: summary.traceHash,
    provenance: provenanceOf(recorder),
    requests: countsOf(all),
    failures: [...recorder.failures]
      .map(([kind, count]) => ({ kind, count }))
      .sort((a, b) => b.count - a.count || (a.kind < b.kind ? -1 : 1)),
    placements: Object.fromEntries([...recorder.placements].sort(([a], [b]) => (a < b ? -1 : 1))),
    tokens: {
      input: all.inputTokens,
      cachedInput: all.cachedTokens,
      output: all.outputTokens,
      ...computed(recorder),
    },
    prefixHitRate: all.inputTokens > 0 ? Math.min(all.cachedTokens / all.inputTokens, 1) : null,
    throughput: {
      requestsPerSecond: perSecond(all.numCompleted),
      inputTokensPerSecond: perSecond(all.inputTokens),
      outputTokensPerSecond: perSecond(all.outputTokens),
      outputTokensPerSecondPerDevice: numDevices > 0 ? perSecond(all.outputTokens) / numDevices : 0,
    },
    latency,
    byClass: groupsOf(recorder.classes.entries(), { group: all, latency }),
    byTenant: groupsOf(recorder.tenants.entries(), { group: all, latency }),
    slos: slosOf(recorder, perSecond),
    transfers: {
      count: recorder.transferMs.count,
      bytes: recorder.transferredBytes,
      durationMs: summaryOf(recorder.transferMs),
    },
    caches: recorder.caches.results,
    utilisation: useful.occupancy,
    workers: workersOf(recorder, context, endMs),
    energy,
    cost: costOf([...economics.values()], context.site, energy, totals),
    useful,
  };
  return { ...result, warnings: runWarnings(result, context.maxVirtualMs) };
}

function summaryOf(histogram: LatencyHistogram): RunResult["transfers"]["durationMs"] {
  const summary = histogram.summary();
  return summary === null ? null : { ...summary, isExact: histogram.isExact };
}

/** All requests of a run and what their latencies come to. */
interface Whole {
  readonly group: RequestGroup;
  readonly latency: RunResult["latency"];
}

function latencyOf(group: RequestGroup, whole: Whole | null): RunResult["latency"] {
  const entries = LATENCY_METRICS.map((metric) => {
    const histogram = group.latencies[metric];
    // A part that has seen as many values as the whole has seen the same ones: they need not be sorted again.
    const isWhole = whole !== null && whole.group.latencies[metric].count === histogram.count;
    return [metric, isWhole ? whole.latency[metric] : summaryOf(histogram)] as const;
  });
  return Object.fromEntries(entries) as RunResult["latency"];
}

function countsOf(group: RequestGroup): RunResult["requests"] {
  const { numArrived: arrived, numCompleted: completed, numFailed: failed } = group;
  return { arrived, completed, failed, unfinished: arrived - completed - failed };
}

function groupsOf(groups: readonly (readonly [string, RequestGroup])[], whole: Whole): RunResult["byClass"] {
  return groups.map(([name, group]) => ({
    name,
    requests: countsOf(group),
    inputTokens: group.inputTokens,
    cachedTokens: group.cachedTokens,
    outputTokens: group.outputTokens,
    latency: latencyOf(group, whole),
  }));
}

/** Tokens that steps computed, recomputation included. */
function computed(recorder: Recorder): { computedPrefill: number; computedDecode: number } {
  let computedPrefill = 0;
  let computedDecode = 0;
  for (const [, { steps }] of recorder.usages) {
    for (const kind of STEP_KINDS) {
      computedPrefill += steps[kind].prefillTokens;
      computedDecode += steps[kind].decodeTokens;
    }
  }
  return { computedPrefill, computedDecode };
}

function provenanceOf(recorder: Recorder): RunResult["provenance"] {
  const ms: Record<string, number> = {};
  const extrapolatedMs: Record<string, number> = {};
  let totalMs = 0;
  for (const [, usage] of recorder.usages) {
    for (const [source, totals] of usage.sources) {
      ms[source] = (ms[source] ?? 0) + totals.ms;
      extrapolatedMs[source] = (extrapolatedMs[source] ?? 0) + totals.extrapolatedMs;
      totalMs += totals.ms;
    }
  }
  const share = (values: Record<string, number>): Record<string, number> =>
    Object.fromEntries(
      Object.entries(values)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([source, value]) => [source, totalMs > 0 ? Math.min(value / totalMs, 1) : 0]),
    );
  const extrapolated = Object.values(extrapolatedMs).reduce((sum, value) => sum + value, 0);
  return {
    sources: share(ms),
    extrapolatedShare: totalMs > 0 ? Math.min(extrapolated / totalMs, 1) : 0,
    extrapolatedBySource: share(extrapolatedMs),
  };
}

function slosOf(recorder: Recorder, perSecond: (count: number) => number): RunResult["slos"] {
  return recorder.options.slos.map((slo): RunResult["slos"][number] => {
    if (slo.kind === "quantiles") return quantileResult(recorder, slo);
    const tally = recorder.tallies.find((entry) => entry.slo === slo)!;
    const share = tally.numArrived > 0 ? tally.numGood / tally.numArrived : 0;
    return {
      name: slo.name,
      kind: "requests",
      bounds: { ...slo.bounds },
      requestClass: slo.requestClass,
      attainment: slo.attainment,
      isMet: tally.numArrived > 0 && share >= slo.attainment,
      good: tally.numGood,
      share,
      requestsPerSecond: perSecond(tally.numGood),
    };
  });
}

/** A request that did not complete has no latency, so a run that lost requests meets no quantile by their absence. */
function quantileResult(
  recorder: Recorder,
  slo: Extract<SloSet, { kind: "quantiles" }>,
): RunResult["slos"][number] {
  const isComplete = recorder.all.numCompleted === recorder.all.numArrived && recorder.all.numArrived > 0;
  const rules = slo.rules.map((rule) => {
    const value = recorder.all.latencies[rule.metric as LatencyMetric].quantile(rule.quantile);
    return { ...rule, value, isMet: isComplete && value !== null && value <= rule.max };
  });
  return { name: slo.name, kind: "quantiles", isMet: rules.every((rule) => rule.isMet), rules };
}

function workersOf(recorder: Recorder, context: RunContext, endMs: number): RunResult["workers"] {
  const known = new Map(context.workers.map((worker) => [worker.id, worker]));
  return recorder.usages.map(([id, usage]) => {
    const readyMs = usage.readyMs(endMs);
    return {
      id,
      pool: recorder.poolOf(id),
      readyMs,
      prefillMs: usage.steps.prefill.busyMs,
      decodeMs: usage.steps.decode.busyMs,
      mixedMs: usage.steps.mixed.busyMs,
      hostMs: usage.hostMs,
      idleMs: Math.max(readyMs - usage.busyMs, 0),
      sendMs: usage.sending.totalMs,
      receiveMs: usage.receiving.totalMs,
      sentBytes: usage.sentBytes,
      receivedBytes: usage.receivedBytes,
      ...stepCounts(usage),
      utilisation: readyMs > 0 ? Math.min(usage.busyMs / readyMs, 1) : 0,
      meanBatch: usage.busyMs > 0 ? usage.batchMs / usage.busyMs : 0,
      kvCapacityBlocks: known.get(plannedWorker(id))?.kvCapacityBlocks ?? null,
      kvMeanBlocks: usage.meanUsedBlocks(endMs),
      kvPeakBlocks: usage.peakUsedBlocks,
      timesLost: usage.numLost,
    };
  });
}

function stepCounts({ steps }: WorkerUsage): {
  numSteps: number;
  prefillTokens: number;
  decodeTokens: number;
} {
  const counts = { numSteps: 0, prefillTokens: 0, decodeTokens: 0 };
  for (const kind of STEP_KINDS) {
    counts.numSteps += steps[kind].numSteps;
    counts.prefillTokens += steps[kind].prefillTokens;
    counts.decodeTokens += steps[kind].decodeTokens;
  }
  return counts;
}
