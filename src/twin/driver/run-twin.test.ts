import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  ListObserver,
  linearPerf,
  PrivateLinks,
  twinSpec,
  twinWorker,
  workloadRequest,
} from "../../../test/support/twin.ts";
import { createLoadPlacement, type PlacementPolicy } from "../../core/router/placement.ts";
import { SCHEDULING_POLICY_NAMES } from "../../core/scheduler/policies/registry.ts";
import { HASH_WORDS } from "../../core/tokens/block-hash.ts";
import type { TwinSpec } from "../twin-spec.ts";
import { ListSource } from "../workload/list-source.ts";
import type { WorkloadRequest } from "../workload/workload.ts";
import { runTwin } from "./run-twin.ts";

function run(spec: Partial<TwinSpec>, requests: readonly WorkloadRequest[]) {
  const observer = new ListObserver();
  const summary = runTwin(twinSpec(spec), new ListSource(requests), observer);
  return { observer, summary };
}

const SPLIT = [
  twinWorker({ id: "p", endpoint: "p", role: "prefill" }),
  twinWorker({ id: "d", endpoint: "d", role: "decode" }),
];

describe("runTwin", () => {
  it("takes exactly the time that the perf model says, on one worker", () => {
    const { observer, summary } = run({}, [
      workloadRequest({ inputTokens: 100, outputTokens: 4, arrivalMs: 7 }),
    ]);
    // One step of 5 + 100 × 0.1 ms, three of 5 + 0.5 ms.
    expect(summary).toMatchObject({ end: "finished", numRequests: 1, endMs: 7 + 15 + 3 * 5.5 });
    const outcome = observer.outcomes.get("r")!;
    expect(outcome).toMatchObject({ end: "stop", isCompleted: true, ttftMs: 15, e2eMs: 31.5, maxGapMs: 5.5 });
    // The token that ends the output is one of them.
    expect(outcome.numOutputTokens).toBe(4);
    expect(observer.gaps.reduce((sum, [gapMs, count]) => sum + gapMs * count, 0)).toBeCloseTo(16.5);
  });

  it("refuses a second request of an id while the first is under way", () => {
    const at = (arrivalMs: number): WorkloadRequest => workloadRequest({ arrivalMs, outputTokens: 4 });
    expect(run({}, [at(0), at(1000)]).summary.numRequests).toBe(2);
    expect(() => run({}, [at(0), at(10)])).toThrow(
      expect.objectContaining({
        name: "WorkloadError",
        message: 'workload: two requests that are under way have the id "r"',
      }),
    );
  });

  it("counts and times the same tokens whether policies know the length or not", () => {
    for (const outputTokens of [1, 2, 3, 50]) {
      const of = (outputBound: number | "true") => {
        const { observer } = run({ outputBound }, [workloadRequest({ outputTokens })]);
        const { end: _, ...outcome } = observer.outcomes.get("r")!;
        return { outcome, numGaps: observer.gaps.reduce((sum, [, count]) => sum + count, 0) };
      };
      expect(of(2000)).toEqual(of("true"));
      expect(of(2000)).toMatchObject({
        outcome: { numOutputTokens: outputTokens },
        numGaps: outputTokens - 1,
      });
    }
  });

  it("is over when its last request is, whatever timers and faults are left", () => {
    const late = { kind: "crash", worker: "d", atMs: 5000, restarts: false } as const;
    const { observer, summary } = run({ workers: SPLIT, maxVirtualMs: 1000, faults: [late] }, [
      workloadRequest({ outputTokens: 4 }),
    ]);
    expect(observer.outcomes.get("r")).toMatchObject({ isCompleted: true });
    expect(summary.end).toBe("finished");
    expect(summary.endMs).toBeLessThan(100);
  });

  it("shows policies the true length when asked to, and passes every token on", () => {
    const { observer } = run({ outputBound: "true" }, [workloadRequest({ outputTokens: 4 })]);
    expect(observer.outcomes.get("r")).toMatchObject({ end: "length", numOutputTokens: 4, e2eMs: 31.5 });
    expect(observer.gaps.reduce((sum, [gapMs, count]) => sum + gapMs * count, 0)).toBeCloseTo(16.5);
  });

  it("makes an arrival wait for the step that was planned before it, on a worker that plans ahead", () => {
    const requests = [
      workloadRequest({ id: "a", inputTokens: 10, outputTokens: 20 }),
      workloadRequest({ id: "b", inputTokens: 10, outputTokens: 3, arrivalMs: 7 }),
    ];
    // Steps of a: 6 ms, then 5.5 ms each; b arrives in the one from 6 to 11.5 and adds 1 ms to its own.
    expect(run({}, requests).observer.outcomes.get("b")!.ttftMs).toBeCloseTo(11.5 + 6.5 - 7);
    const ahead = run({ workers: [twinWorker({ plansAhead: true })] }, requests).observer;
    expect(ahead.outcomes.get("b")!.ttftMs).toBeCloseTo(11.5 + 5.5 + 6.5 - 7);
    // An idle worker starts at once.
    expect(ahead.outcomes.get("a")!.ttftMs).toBeCloseTo(6);
  });

  it("lets in what waited for a plan when the worker runs dry instead", () => {
    const { observer, summary } = run({ workers: [twinWorker({ plansAhead: true })] }, [
      workloadRequest({ id: "a", inputTokens: 10, outputTokens: 1 }),
      workloadRequest({ id: "b", inputTokens: 10, outputTokens: 1, arrivalMs: 3 }),
    ]);
    expect(summary.end).toBe("finished");
    expect(observer.outcomes.get("b")!.e2eMs).toBeCloseTo(6 + 6 - 3);
  });

  it("holds the engine while KV is copied out and in, where that takes time", () => {
    const perf = {
      ...linearPerf({ stepMs: 5, prefillMsPerToken: 0.1, decodeMs: 0.5 }),
      handoff: { exportMs: (tokens: number) => 1 + 0.01 * tokens, importMs: () => 3 },
    };
    const workers = SPLIT.map((worker) => ({ ...worker, perf }));
    const { observer } = run({ workers }, [workloadRequest({ inputTokens: 512, outputTokens: 3 })]);
    const [first, second] = observer.transfers;
    // Out of the first chunk: 3.56 ms, after its step or, if the second step was asked for before, after that.
    const exportMs = 1 + 2.56;
    const startMs = first!.startMs;
    expect([0.2 + 30.6 + exportMs, 0.2 + 61.2 + exportMs].some((ms) => Math.abs(ms - startMs) < 1e-9)).toBe(
      true,
    );
    expect(second!.startMs).toBeCloseTo(0.2 + 61.2 + 2 * exportMs);
    // The decode side steps when the last frame is in.
    const decodes = observer.steps.filter((step) => step.startsWith("d "));
    const began = Number(/^d ([0-9.]+)-/.exec(decodes[0]!)![1]);
    expect(began).toBeGreaterThanOrEqual(second!.endMs + 3);
    expect(observer.outcomes.get("r")).toMatchObject({ isCompleted: true });
  });

  it("hands over windows and states that do not grow, once", () => {
    const handoffTail = { windowTokens: 300, windowBytesPerToken: 10, stateBytes: 7 };
    const perf = linearPerf({ stepMs: 5, prefillMsPerToken: 0.1, decodeMs: 0.5, handoffTail });
    const workers = SPLIT.map((worker) => ({ ...worker, perf }));
    const { observer } = run({ workers }, [workloadRequest({ inputTokens: 512, outputTokens: 3 })]);
    // The last 300 of 512 tokens are in the window: 44 of the first chunk and all of the second.
    expect(observer.transfers.map(({ bytes }) => bytes)).toEqual([256_000 + 440, 256_000 + 2560 + 7]);
  });

  it("hands KV over chunk by chunk while the next one computes", () => {
    const { observer } = run({ workers: SPLIT }, [workloadRequest({ inputTokens: 512, outputTokens: 3 })]);
    // Reserve and grant cross the link first; then two chunks of 256 tokens, 30.6 ms each.
    const [first, second] = observer.transfers;
    expect(first).toMatchObject({ from: "p", to: "d", bytes: 256_000 });
    expect(first!.startMs).toBeCloseTo(0.2 + 30.6);
    expect(first!.endMs).toBeCloseTo(0.2 + 30.6 + 0.356);
    expect(second!.startMs).toBeCloseTo(0.2 + 61.2);
    // The first token leaves from the prefill side and does not pay for the transfer.
    expect(observer.outcomes.get("r")).toMatchObject({ prefillWorker: "p", decodeWorker: "d" });
    expect(observer.outcomes.get("r")!.ttftMs).toBeCloseTo(61.4);
    // The decode side waits for the last transfer and the commit.
    expect(observer.outcomes.get("r")!.maxGapMs).toBeCloseTo(0.356 + 0.1 + 5.5);
  });

  it("reuses prefixes that have equal names, and nothing else", () => {
    const blocks = (ids: number[]) => ({ blockTokens: 16, scope: "", ids });
    const { observer } = run({}, [
      workloadRequest({ id: "a", inputTokens: 64, blocks: blocks([1, 2, 3, 4]) }),
      workloadRequest({ id: "b", inputTokens: 64, arrivalMs: 1000, blocks: blocks([1, 2, 9, 4]) }),
      workloadRequest({ id: "c", inputTokens: 64, arrivalMs: 2000 }),
    ]);
    expect(observer.outcomes.get("a")!.numCachedTokens).toBe(0);
    expect(observer.outcomes.get("b")!.numCachedTokens).toBe(32);
    expect(observer.outcomes.get("c")!.numCachedTokens).toBe(0);
  });

  it("ends every request once when a worker dies, and goes on with the one that replaces it", () => {
    const requests = Array.from({ length: 20 }, (_, i) =>
      workloadRequest({ id: `r${i}`, arrivalMs: 20 * i, inputTokens: 300, outputTokens: 20 }),
    );
    const { observer, summary } = run(
      { workers: SPLIT, faults: [{ kind: "crash", worker: "d", atMs: 130, restarts: true }] },
      requests,
    );
    expect(summary.end).toBe("finished");
    expect(observer.outcomes.size).toBe(20);
    const ends = new Set([...observer.outcomes.values()].map(({ end }) => end));
    expect(ends).toEqual(new Set(["stop", "worker_lost"]));
    expect([...observer.outcomes.values()].some(({ decodeWorker }) => decodeWorker === "d#2")).toBe(true);
  });

  it("takes longer on a slow part", () => {
    const slow = { kind: "slow-worker", worker: "w", atMs: 0, factor: 3 } as const;
    const { observer } = run({ faults: [slow] }, [workloadRequest({ arrivalMs: 1, outputTokens: 4 })]);
    expect(observer.outcomes.get("r")).toMatchObject({ ttftMs: 45, e2eMs: 94.5 });
  });

  it("stays slow when its process is restarted", () => {
    const slow = { kind: "slow-worker", worker: "w", atMs: 0, factor: 3 } as const;
    const crash = { kind: "crash", worker: "w", atMs: 0.5, restarts: true } as const;
    const { observer } = run({ faults: [slow, crash] }, [workloadRequest({ arrivalMs: 1, outputTokens: 4 })]);
    expect(observer.outcomes.get("r")).toMatchObject({ ttftMs: 45 });
  });

  it("shows placement the blocks of the prompt, and not those of the output", () => {
    const seen: number[] = [];
    const placement = {
      ...createLoadPlacement({ localPrefillBelowTokens: 0 }),
      place: (...args: Parameters<PlacementPolicy["place"]>) => {
        seen.push(args[0].promptBlockHashes!.length / HASH_WORDS);
        return createLoadPlacement({ localPrefillBelowTokens: 0 }).place(...args);
      },
    };
    run({ placement }, [workloadRequest({ inputTokens: 100, outputTokens: 500 })]);
    expect(seen).toEqual([Math.floor(100 / 16)]);
  });

  it("says when its time is over", () => {
    const { summary } = run({ maxVirtualMs: 20 }, [workloadRequest({ outputTokens: 1000 })]);
    expect(summary.end).toBe("time");
  });

  it("refuses a fleet that cannot be", () => {
    expect(() => run({ workers: [] }, [])).toThrow("at least one worker");
    expect(() => run({ workers: [twinWorker(), twinWorker()] }, [])).toThrow("one id");
    const mixed = [twinWorker(), twinWorker({ id: "x", blockTokens: 32 })];
    expect(() => run({ workers: mixed }, [])).toThrow("one block size");
  });

  const request = fc.record({
    arrivalMs: fc.nat(400),
    inputTokens: fc.integer({ min: 1, max: 600 }),
    outputTokens: fc.integer({ min: 1, max: 60 }),
    prefix: fc.nat(20),
  });
  const scripts = fc.array(request, { minLength: 1, maxLength: 15 }).map((list) =>
    list
      .sort((a, b) => a.arrivalMs - b.arrivalMs)
      .map(({ prefix, ...rest }, i) => {
        const ids = Array.from({ length: Math.ceil(rest.inputTokens / 16) }, (_, k) =>
          k < prefix ? k : 1000 * i + k,
        );
        return workloadRequest({ ...rest, id: `r${i}`, blocks: { blockTokens: 16, scope: "", ids } });
      }),
  );

  it.each(SCHEDULING_POLICY_NAMES)(
    "makes the same decisions at the same times in rows and in single steps (%s)",
    (policy) => {
      fc.assert(
        fc.property(scripts, fc.boolean(), fc.boolean(), (requests, isSplit, plansAhead) => {
          const workers = (isSplit ? SPLIT : [twinWorker()]).map((worker) => ({
            ...worker,
            policy,
            plansAhead,
            tokenBudget: policy === "chunked" ? 64 : 1000,
            numBlocks: 80,
            maxRunning: 6,
          }));
          const runs = [1, 4, 32].map((maxStepsPerPlan) => {
            const network = new PrivateLinks({ bytesPerSecond: 1e8, latencyMs: 0.1 });
            const faults = [{ kind: "slow-worker", worker: workers[0]!.id, atMs: 61, factor: 2.5 }] as const;
            return run({ workers, network, maxStepsPerPlan, outputBound: 60, faults }, requests);
          });
          const [single, ...rows] = runs;
          for (const row of rows) {
            expect(row.summary.traceHash).toBe(single!.summary.traceHash);
            expect(row.observer.outcomes).toEqual(single!.observer.outcomes);
            expect([...row.observer.steps].sort()).toEqual([...single!.observer.steps].sort());
          }
        }),
        { numRuns: 40 },
      );
    },
  );
});
