import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { PerfModel } from "../../src/core/perf/perf-model.ts";
import { GREEDY, type Request } from "../../src/core/request.ts";
import { createLoadPlacement } from "../../src/core/router/placement.ts";
import { Rng } from "../../src/core/util/rng.ts";
import { runTwin } from "../../src/twin/driver/run-twin.ts";
import { ListSource } from "../../src/twin/workload/list-source.ts";
import type { WorkloadRequest } from "../../src/twin/workload/workload.ts";
import { describePlan, LiveFleet, type LiveFleetOptions } from "../support/live-fleet.ts";
import {
  ListObserver,
  linearPerf,
  PrivateLinks,
  twinSpec,
  twinWorker,
  workloadRequest,
} from "../support/twin.ts";

/** Repeats every case; another one is as good. */
const SEED = 1;
/** Longest virtual time that a script may take. */
const MAX_MS = 1_000_000;

const BASE: Omit<LiveFleetOptions, "workers"> = {
  kvTokens: 16_384,
  chunkTokens: 64,
  maxRunning: 4,
  policy: "chunked",
  stepMs: 50,
  tokenMs: 3,
  latencyMs: 7,
};

const UNSPLIT = [{ id: "b1", role: "both" }] as const;
const SPLIT = [
  { id: "p1", role: "prefill" },
  { id: "d1", role: "decode" },
] as const;
const MANY = [
  { id: "p1", role: "prefill" },
  { id: "p2", role: "prefill" },
  { id: "d1", role: "decode" },
  { id: "d2", role: "decode" },
  { id: "b1", role: "both" },
] as const;

/** Times are whole milliseconds: the stub engine's timers know no others. */
function script(count: number, meanGapMs: number, seed: number): WorkloadRequest[] {
  const stream = new Rng(seed).stream("script");
  let arrivalMs = 0;
  return Array.from({ length: count }, (_, index) => {
    arrivalMs += 1 + Math.floor(stream.nextExponential(meanGapMs));
    const inputTokens = 1 + stream.nextBelow(300);
    return workloadRequest({
      id: `r${index}`,
      arrivalMs,
      inputTokens,
      outputTokens: 1 + stream.nextBelow(20),
    });
  });
}

interface Decisions {
  readonly plans: Record<string, string[]>;
  readonly placements: Record<string, string>;
  readonly ends: Record<string, string>;
}

function decideInTwin(options: LiveFleetOptions, requests: readonly WorkloadRequest[]): Decisions {
  const plans: Record<string, string[]> = Object.fromEntries(options.workers.map(({ id }) => [id, []]));
  const placements: Record<string, string> = {};
  const observer = new ListObserver();
  observer.requestPlaced = (...args: unknown[]) => {
    const [request, decision] = args as [WorkloadRequest, { prefillWorker: string; decodeWorker: string }];
    placements[request.id] = `${decision.prefillWorker} ${decision.decodeWorker}`;
  };
  const { stepMs, tokenMs } = options;
  const perf: PerfModel = {
    ...linearPerf({
      stepMs,
      prefillMsPerToken: tokenMs,
      decodeMs: tokenMs,
      kvCapacityTokens: options.kvTokens,
    }),
    // The stub engine copies in no time, but takes one call after the other.
    handoff: { exportMs: () => 0, importMs: () => 0 },
  };
  const workers = options.workers.map(({ id, role }) =>
    twinWorker({
      id,
      role,
      perf,
      endpoint: id,
      policy: options.policy,
      tokenBudget: options.policy === "chunked" ? options.chunkTokens : Math.min(4096, options.kvTokens),
      maxRunning: options.maxRunning,
      maxWaiting: 256,
      maxCachedBlocks: 0,
    }),
  );
  const spec = twinSpec({
    workers,
    network: new PrivateLinks({ bytesPerSecond: Number.POSITIVE_INFINITY, latencyMs: options.latencyMs }),
    placement: createLoadPlacement({ localPrefillBelowTokens: 0 }),
    outputBound: "true",
    maxStepsPerPlan: 1,
    onPlan: (worker, plan) => plans[worker]!.push(describePlan(plan)),
  });
  expect(runTwin(spec, new ListSource(requests), observer).end).toBe("finished");
  const ends = Object.fromEntries([...observer.outcomes].map(([id, { end }]) => [id, end]));
  return { plans, placements, ends };
}

async function decideLive(
  options: LiveFleetOptions,
  requests: readonly WorkloadRequest[],
): Promise<Decisions> {
  const fleet = new LiveFleet(options);
  const startMs = performance.now();
  for (const request of requests) {
    // In the twin, arrivals come after everything else that happens at their time: a timer that is set then fires last.
    setTimeout(() => setTimeout(() => fleet.submit(toRequest(request)), 0), request.arrivalMs);
  }
  while (fleet.ends.size < requests.length && performance.now() - startMs < MAX_MS)
    await vi.advanceTimersByTimeAsync(1000);
  fleet.stop();
  return {
    plans: Object.fromEntries(fleet.plans),
    placements: Object.fromEntries(fleet.placements),
    ends: Object.fromEntries(fleet.ends),
  };
}

let numTokensMade = 0;

/** A prompt that shares nothing with any other, as those of the script. */
function toRequest({ id, inputTokens, outputTokens }: WorkloadRequest): Request {
  return {
    id,
    epoch: 0,
    promptTokens: Int32Array.from({ length: inputTokens }, () => 5 + (numTokensMade++ % 200)),
    resumedTokens: new Int32Array(0),
    maxOutputTokens: outputTokens,
    minOutputTokens: 0,
    ignoreEndOfGeneration: true,
    sampling: GREEDY,
    cacheSalt: "",
    priority: 0,
  };
}

describe("the server's loop and the twin", () => {
  beforeEach(() => {
    vi.useFakeTimers({
      toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance"],
    });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it.each<[string, Partial<LiveFleetOptions> & Pick<LiveFleetOptions, "workers">, number]>([
    ["one worker for everything", { workers: UNSPLIT }, 400],
    ["a split fleet", { workers: SPLIT }, 400],
    ["a split fleet with an idle machine", { workers: SPLIT }, 4000],
    ["a fleet of every role", { workers: MANY }, 150],
    ["one worker with too little KV", { workers: UNSPLIT, kvTokens: 640 }, 300],
    ["a split fleet with too little KV", { workers: SPLIT, kvTokens: 640 }, 300],
    ["prefill first", { workers: SPLIT, policy: "prefill-first" }, 500],
    ["whole prompts", { workers: UNSPLIT, policy: "orca" }, 500],
  ])("plan the same steps and place the same way: %s", async (_, changes, meanGapMs) => {
    const options = { ...BASE, ...changes };
    const requests = script(40, meanGapMs, SEED);
    const live = await decideLive(options, requests);
    const twin = decideInTwin(options, requests);
    expect(twin.placements).toEqual(live.placements);
    for (const { id } of options.workers) expect(twin.plans[id], `plans of ${id}`).toEqual(live.plans[id]);
    expect(twin.ends).toEqual(live.ends);
    expect(Object.keys(live.ends)).toHaveLength(requests.length);
  });
});
