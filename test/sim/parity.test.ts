import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { KvEventBatch } from "../../src/core/kv/kv-events.ts";
import type { PerfModel } from "../../src/core/perf/perf-model.ts";
import { GREEDY, type Request } from "../../src/core/request.ts";
import {
  createLoadPlacement,
  type FleetEvent,
  type PlacementPolicy,
} from "../../src/core/router/placement.ts";
import { Rng } from "../../src/core/util/rng.ts";
import { runTwin } from "../../src/twin/driver/run-twin.ts";
import { ListSource } from "../../src/twin/workload/list-source.ts";
import type { WorkloadRequest } from "../../src/twin/workload/workload.ts";
import { hashTexts } from "../support/kv-listener.ts";
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
const BLOCK_TOKENS = 16;
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

/** The same with prompts that begin alike, in 16 families. */
function sharingScript(count: number, meanGapMs: number, seed: number): WorkloadRequest[] {
  const stream = new Rng(seed).stream("sharing");
  return script(count, meanGapMs, seed).map((request, index) => {
    const family = stream.nextBelow(16);
    const numShared = stream.nextBelow(12);
    const numBlocks = Math.ceil(request.inputTokens / BLOCK_TOKENS);
    const ids = Array.from({ length: numBlocks }, (_, at) =>
      at < numShared ? family * 20 + at : 1000 + index * 20 + at,
    );
    return { ...request, blocks: { blockTokens: BLOCK_TOKENS, scope: "", ids } };
  });
}

/** Places by load, and listens. */
class Listening implements PlacementPolicy {
  readonly #inner = createLoadPlacement({ localPrefillBelowTokens: 0 });
  readonly name = "listening";
  readonly place = this.#inner.place.bind(this.#inner);
  readonly batches: Record<string, KvEventBatch[]> = {};
  readonly transferMs: number[] = [];
  numSteps = 0;

  observe(event: FleetEvent): void {
    if (event.kind === "kv") {
      this.batches[event.worker] ??= [];
      this.batches[event.worker]!.push(event.batch);
    } else if (event.kind === "steps") this.numSteps += event.steps.length;
    else if (event.kind === "transfer") this.transferMs.push(event.ms);
  }

  /** Every batch, hashes named in order of their first appearance: the worlds hash different things. */
  told(): Record<string, string[]> {
    const names = new Map<string, number>();
    const nameAll = (hashes: Int32Array) =>
      hashTexts(hashes).map((hash) => {
        if (!names.has(hash)) names.set(hash, names.size);
        return names.get(hash);
      });
    return Object.fromEntries(
      Object.entries(this.batches).map(([worker, batches]) => {
        names.clear();
        const lines = batches.map(({ sequence, isSnapshot, events }) => {
          const told = events.map((event) => {
            if (event.kind === "cleared") return event;
            const parent = event.kind === "stored" && event.parent !== null ? nameAll(event.parent) : null;
            return { ...event, parent, hashes: nameAll(event.hashes) };
          });
          return `${sequence} ${isSnapshot} ${JSON.stringify(told)}`;
        });
        return [worker, lines];
      }),
    );
  }
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
      maxCachedBlocks: Math.floor((options.prefixCacheTokens ?? 0) / BLOCK_TOKENS),
    }),
  );
  const spec = twinSpec({
    workers,
    network: new PrivateLinks({ bytesPerSecond: Number.POSITIVE_INFINITY, latencyMs: options.latencyMs }),
    placement: options.placement ?? createLoadPlacement({ localPrefillBelowTokens: 0 }),
    outputBound: "true",
    maxStepsPerPlan: 1,
    // Checking takes as long as there is KV, after every event; where KV is scarce is also where invariants are most at risk.
    checks: options.kvTokens < BASE.kvTokens,
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

/** Tokens that stand for the identities of a prompt's blocks; or that nobody else has, where it has none. */
function promptTokensOf({ inputTokens, blocks }: WorkloadRequest): Int32Array {
  return Int32Array.from({ length: inputTokens }, (_, position) => {
    if (blocks === null) return 5 + (numTokensMade++ % 200);
    const id = blocks.ids[Math.floor(position / BLOCK_TOKENS)]!;
    return 5 + (position % 2 === 0 ? id % 200 : Math.floor(id / 200));
  });
}

function toRequest(workload: WorkloadRequest): Request {
  const { id, outputTokens } = workload;
  return {
    id,
    epoch: 0,
    promptTokens: promptTokensOf(workload),
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
    // Every fake timer costs a real one, and each worker of a fleet has its own.
    const requests = script(options.workers.length > 2 ? 20 : 40, meanGapMs, SEED);
    const live = await decideLive(options, requests);
    const twin = decideInTwin(options, requests);
    expect(twin.placements).toEqual(live.placements);
    for (const { id } of options.workers) expect(twin.plans[id], `plans of ${id}`).toEqual(live.plans[id]);
    expect(twin.ends).toEqual(live.ends);
    expect(Object.keys(live.ends)).toHaveLength(requests.length);
  });

  it.each<[string, Partial<LiveFleetOptions> & Pick<LiveFleetOptions, "workers">, number]>([
    ["one worker for everything", { workers: UNSPLIT }, 400],
    ["a split fleet", { workers: SPLIT }, 400],
    ["a fleet of every role with a small cache", { workers: MANY, prefixCacheTokens: 400 }, 150],
    ["too little KV", { workers: SPLIT, kvTokens: 640 }, 300],
  ])("tell the same of the workers' caches: %s", async (_, changes, meanGapMs) => {
    const requests = sharingScript(24, meanGapMs, SEED);
    const options = { ...BASE, prefixCacheTokens: 100_000, ...changes };
    const live = new Listening();
    const twin = new Listening();
    const liveDecisions = await decideLive({ ...options, placement: live }, requests);
    const twinDecisions = decideInTwin({ ...options, placement: twin }, requests);
    expect(twinDecisions).toEqual(liveDecisions);
    const toldLive = live.told();
    for (const [id, lines] of Object.entries(twin.told())) {
      expect(lines.length).toBeGreaterThan(3);
      // A run of the twin is over with its last request; a worker may have something to say after that.
      expect(toldLive[id]!.length - lines.length).toBeLessThanOrEqual(1);
      expect(lines).toEqual(toldLive[id]!.slice(0, lines.length));
    }
    expect(Object.keys(twin.batches)).toHaveLength(options.workers.length);
    expect(live.numSteps).toBeGreaterThan(50);
    // There with the KV, and back with the ack.
    for (const ms of live.transferMs) expect(ms).toBeGreaterThanOrEqual(2 * options.latencyMs);
    expect(live.transferMs.length > 0).toBe(options.workers.length > 1);
  });
});
