import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { temporaryFolder } from "../../../test/support/link-support.ts";
import { RECORDED_FLEET, recordRun, sharingRequests } from "../../../test/support/recorded-run.ts";
import { emptyStepTime } from "../../core/perf/perf-model.ts";
import { StepLoad } from "../../core/perf/step-load.ts";
import { findPlacementPolicy } from "../../core/router/policies/registry.ts";
import { DispatchLogReader } from "./dispatch-log-reader.ts";
import { type RecordedTraffic, readTraffic } from "./recorded-traffic.ts";
import { recordedFigures, rerun, rerunFleet } from "./rerun.ts";

const BLOCK_TOKENS = 16;

let folder: ReturnType<typeof temporaryFolder>;
let path: string;

beforeEach(() => {
  folder = temporaryFolder();
  path = join(folder.path, "log.jsonl");
});

afterEach(() => folder.remove());

const REQUESTS = sharingRequests(150, 25);

function traffic(): RecordedTraffic {
  return readTraffic(new DispatchLogReader(path));
}

function again(recorded: RecordedTraffic, policy: string) {
  const fleet = rerunFleet(recorded, BLOCK_TOKENS, null)!;
  const placement = findPlacementPolicy(policy, { seed: 7 })!;
  return rerun(recorded, fleet, BLOCK_TOKENS, { placement, maxRequests: 10_000 });
}

describe("recorded traffic", () => {
  it("has every request with its lengths, its times and its end", () => {
    const observer = recordRun(path, "load", { requests: REQUESTS });
    const { outcomes, workers, transfers, fleetChanged } = traffic();
    expect(outcomes).toHaveLength(REQUESTS.length);
    for (const [i, outcome] of outcomes.entries()) {
      const { inputTokens, arrivalMs, id } = REQUESTS[i]!;
      expect(outcome).toMatchObject({
        request: { id, numPromptTokens: inputTokens },
        arrivalMs,
        end: "stop",
      });
      const seen = observer.outcomes.get(id)!;
      expect(outcome.numCachedTokens).toBe(seen.numCachedTokens);
      expect(outcome.firstTokenMs! - arrivalMs).toBeCloseTo(seen.ttftMs);
      expect(outcome.decision!.decodeWorker).toBe(seen.decodeWorker);
    }
    expect(workers.map(({ facts }) => facts.id)).toEqual(RECORDED_FLEET.map(({ id }) => id));
    expect(workers[0]!.maxHeldBlocks).toBeGreaterThan(10);
    expect(transfers.length).toBeGreaterThan(50);
    expect(fleetChanged).toBe(false);
  });

  it("takes the fleet of the moment with the most workers, and says that it has changed", () => {
    const crash = { kind: "crash", worker: "p1", atMs: 400, restarts: true } as const;
    recordRun(path, "load", { requests: REQUESTS, faults: [crash] });
    const { workers, fleetChanged } = traffic();
    expect(workers.map(({ facts }) => facts.id)).toEqual(["p1", "p2", "d1", "b1"]);
    expect(fleetChanged).toBe(true);
  });

  it("is refused without requests", () => {
    recordRun(path, "load", { requests: [] });
    expect(() => traffic()).toThrow("without a");
  });
});

describe("a rerun", () => {
  it("learns from recorded steps what they cost", () => {
    recordRun(path, "load", { requests: REQUESTS });
    const fleet = rerunFleet(traffic(), BLOCK_TOKENS, null)!;
    const load = new StepLoad();
    load.addPrefill(32, 100, false);
    load.addDecode(80);
    load.addDecode(90);
    const time = emptyStepTime();
    // The recorded workers took 5 ms, 0.1 ms per prompt token and 0.5 ms per decode; none of them has run both.
    for (const { perf } of fleet.workers) {
      perf.stepTime(load, time);
      expect(time.deviceMs).toBeGreaterThan(0.95 * 16);
      expect(time.deviceMs).toBeLessThan(1.05 * 16);
    }
    expect(fleet.link.latencyMs).toBeLessThan(1);
    expect(fleet.link.bytesPerSecond).toBeGreaterThan(0.5e9);
  });

  it("comes close to the record with its own policy, on learned prices", () => {
    recordRun(path, "load", { requests: REQUESTS });
    const recorded = traffic();
    const before = recordedFigures(recorded);
    const figures = again(recorded, "load");
    expect(figures.numCompleted).toBe(REQUESTS.length);
    expect(Math.abs(figures.hitRate - before.hitRate)).toBeLessThan(0.05);
    expect(figures.ttftMs!.p50 / before.ttftMs!.p50).toBeGreaterThan(0.85);
    expect(figures.ttftMs!.p50 / before.ttftMs!.p50).toBeLessThan(1.15);
    for (const [id, share] of Object.entries(before.prefillShares))
      expect(Math.abs(figures.prefillShares[id]! - share)).toBeLessThan(0.1);
  });

  it("shows what another policy would have done with the same arrivals", () => {
    recordRun(path, "round-robin", { requests: REQUESTS });
    const recorded = traffic();
    const before = recordedFigures(recorded);
    const figures = again(recorded, "cache-aware");
    expect(figures.numCompleted).toBe(REQUESTS.length);
    // It goes where prefixes are.
    expect(figures.hitRate).toBeGreaterThan(before.hitRate + 0.02);
    expect(figures).toEqual(again(recorded, "cache-aware"));
  });
});
