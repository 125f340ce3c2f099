import { describe, expect, it } from "vitest";
import { ListObserver, linearPerf, PrivateLinks, twinSpec, twinWorker } from "../../../test/support/twin.ts";
import { Rng } from "../../core/util/rng.ts";
import type { TwinTier } from "../twin-spec.ts";
import { generateAgents } from "../workload/generate-agents.ts";
import type { WorkloadRequest, WorkloadSource } from "../workload/workload.ts";
import { runTwin } from "./run-twin.ts";

const SEED = 7;
const NUM_REQUESTS = 150;
const NUM_SESSIONS = 10;
const TOOL_MS = 4000;

/** Ends after some requests. */
function limited(source: WorkloadSource, numRequests: number): WorkloadSource {
  let numTaken = 0;
  return {
    isClosedLoop: true,
    get nextArrivalMs() {
      return numTaken < numRequests ? source.nextArrivalMs : Number.POSITIVE_INFINITY;
    },
    take(): WorkloadRequest {
      numTaken++;
      return source.take();
    },
    ended: (request, nowMs) => source.ended(request, nowMs),
  };
}

interface Play {
  readonly tiers: readonly TwinTier[];
  readonly prefetch: boolean;
  /** Standard deviation of a tool's time, */
  readonly deviationMs: number;
  /** Whether clients say how long their tools take. */
  readonly isTold?: boolean;
  /** Mean time of a tool; default: {@link TOOL_MS}. */
  readonly toolMs?: number;
  readonly numRequests?: number;
  readonly checks?: boolean;
}

/**
 * Agents whose prompts grow from 2,000 tokens by 200 per turn, with tools of some 4 s between. The device holds four of ten of
 * them; the disk needs 150 ms for one.
 */
function play(options: Play): number {
  const {
    tiers,
    prefetch,
    deviationMs,
    isTold = false,
    toolMs = TOOL_MS,
    numRequests = NUM_REQUESTS,
    checks = false,
  } = options;
  const agents = {
    systemTokens: 320,
    taskTokens: { kind: "fixed", tokens: 1680 } as const,
    turns: { kind: "fixed", tokens: 12 } as const,
    resultTokens: { kind: "fixed", tokens: 150 } as const,
    outputTokens: { kind: "fixed", tokens: checks ? 5 : 50 } as const,
    toolMs: { mean: toolMs, deviation: deviationMs },
    fanOut: null,
    maxInputTokens: 100_000,
    blockTokens: 16,
  };
  const told = { fanOut: false, nextTurn: isTold };
  const starts = { lanes: NUM_SESSIONS, staggerMs: 400, gapMs: 1000 };
  const observer = new ListObserver();
  const perf = linearPerf({ stepMs: 2, prefillMsPerToken: 0.2, decodeMs: 0.5, kvCapacityTokens: 12_800 });
  const spec = twinSpec({
    outputBound: 64,
    workers: [twinWorker({ perf, tokenBudget: 512, tiers: { tiers, eviction: "lru", prefetch } })],
    network: new PrivateLinks({ bytesPerSecond: 1e9, latencyMs: 0 }),
    checks,
  });
  const source = limited(generateAgents(agents, starts, new Rng(SEED), told), numRequests);
  expect(runTwin(spec, source, observer).end).toBe("finished");
  const ttfts = [...observer.outcomes].flatMap(([id, { ttftMs }]) => (id.endsWith("/1") ? [] : ttftMs!));
  return ttfts.reduce((sum, ms) => sum + ms, 0) / ttfts.length;
}

const HOST: TwinTier = { tier: "host", maxBytes: 20e6, bytesPerSecond: 2e8, latencyMs: 0 };
const SLOW_DISK: TwinTier = { tier: "disk", maxBytes: 1e9, bytesPerSecond: 1e7, latencyMs: 0.1 };
const DISK: TwinTier = { tier: "disk", maxBytes: 1e9, bytesPerSecond: 2e7, latencyMs: 0.1 };

describe("prefetch for the next turn", () => {
  it.each([
    ["a disk", [DISK]],
    ["host memory and a disk", [HOST, DISK]],
  ])("makes later turns of agents much quicker where the device is scarce, with %s", (_name, tiers) => {
    const [without, ahead] = [false, true].map((prefetch) => play({ tiers, prefetch, deviationMs: 200 }));
    expect(ahead).toBeLessThan(0.7 * without!);
  });

  it("costs little where nobody knows when a turn will come", () => {
    const tiers = [HOST, DISK];
    const [without, ahead] = [false, true].map((prefetch) => play({ tiers, prefetch, deviationMs: 4000 }));
    expect(ahead).toBeLessThan(1.1 * without!);
  });

  it.each([
    ["a disk", [SLOW_DISK]],
    ["host memory and a disk", [HOST, SLOW_DISK]],
  ])("takes nothing from those who wait for the disk where it can't keep up, with %s", (_name, tiers) => {
    const [without, ahead] = [false, true].map((prefetch) =>
      play({ tiers, prefetch, deviationMs: 750, toolMs: 1500 }),
    );
    expect(ahead).toBeLessThan(1.05 * without!);
  });

  it("helps where nobody could know when a turn will come, if its client says it", () => {
    const tiers = [HOST, DISK];
    const [learned, told] = [false, true].map((isTold) =>
      play({ tiers, prefetch: true, deviationMs: 4000, isTold }),
    );
    expect(told).toBeLessThan(0.8 * learned!);
  });

  it("keeps its books with every event", () => {
    const mean = play({
      tiers: [HOST, DISK],
      prefetch: true,
      deviationMs: 500,
      numRequests: 12,
      checks: true,
    });
    expect(mean).toBeGreaterThan(0);
  });
});
