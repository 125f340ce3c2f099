import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import { IDLE_LOAD, makeHello } from "../../../test/support/link-worker.ts";
import { makeRequest } from "../../../test/support/make.ts";
import { Dispatcher } from "../../core/dispatch/dispatcher.ts";
import { createLoadPlacement, type FleetEvent, type PlacementPolicy } from "../../core/router/placement.ts";
import { SessionBook } from "../../core/sessions/session-book.ts";
import type { TurnExpectation } from "../../core/sessions/turn-expectation.ts";
import { createLogger } from "../telemetry/logger.ts";
import { Registry } from "../telemetry/metrics.ts";
import { registerFleetMetrics } from "./fleet-metrics.ts";
import { WorkerFleet } from "./worker-fleet.ts";

function listening(): PlacementPolicy & { readonly heard: FleetEvent[] } {
  const heard: FleetEvent[] = [];
  return {
    ...createLoadPlacement({ localPrefillBelowTokens: 0 }),
    heard,
    observe: (event) => heard.push(event),
  };
}

function fleetWith(placement: PlacementPolicy) {
  const dispatcher = new Dispatcher({ placement, maxRequests: 10, maxWaitMs: 1000, maxAttempts: 3 });
  const logger = createLogger({ level: "silent", destination: new PassThrough() });
  return new WorkerFleet({ dispatcher, contextTokens: 100, nowMs: () => 5, logger });
}

describe("WorkerFleet", () => {
  it("takes reports only for a policy that listens", () => {
    expect(fleetWith(createLoadPlacement({ localPrefillBelowTokens: 0 })).takesReports).toBe(false);
    expect(fleetWith(listening()).takesReports).toBe(true);
  });

  it("passes reports on to placement, and asks a worker for a snapshot when KV events are missing", async () => {
    const placement = listening();
    const fleet = fleetWith(placement);
    let numSnapshots = 0;
    const link = {
      submit: async () => {},
      cancel: async () => {},
      expect: async () => {},
      snapshotKv: async () => {
        numSnapshots++;
        throw new Error("the worker can't be reached");
      },
      close: () => {},
    };
    fleet.addWorker(makeHello(), link);
    const batch = (sequence: number, isSnapshot: boolean) => ({ sequence, isSnapshot, events: [] });
    const step = { numPrefillTokens: 1, prefillAttention: 1, numDecodes: 0, decodeContextTokens: 0, ms: 3 };
    fleet.onWorkerEvent("w1", { kind: "kv", batch: batch(4, true) });
    fleet.onWorkerEvent("w1", { kind: "steps", steps: [step] });
    fleet.onWorkerEvent("w1", { kind: "transfer", to: "w2", bytes: 7, ms: 2 });
    fleet.onWorkerEvent("w1", { kind: "kv", batch: batch(6, false) });
    fleet.onWorkerEvent("w1", { kind: "kv", batch: batch(7, false) });
    fleet.onWorkerEvent("unknown", { kind: "kv", batch: batch(1, true) });
    expect(placement.heard.slice(1)).toEqual([
      { kind: "kv", worker: "w1", batch: batch(4, true) },
      { kind: "steps", worker: "w1", steps: [step] },
      { kind: "transfer", from: "w1", to: "w2", bytes: 7, ms: 2 },
    ]);
    expect(numSnapshots).toBe(1);
    const registry = new Registry();
    registerFleetMetrics(registry, fleet);
    const text = await registry.metrics();
    expect(text).toContain("twofold_router_kv_event_batches_total 1");
    expect(text).toContain("twofold_router_kv_event_dropped_total 3");
    expect(text).toContain("twofold_router_kv_event_gaps_total 1");
    expect(text).toContain("twofold_router_kv_event_resyncs_total 1");
    fleet.close();
  });

  it("tells a worker that brings KV up, and no other, when the next turn is expected", () => {
    const placement = createLoadPlacement({ localPrefillBelowTokens: 0 });
    const limits = { maxRequests: 10, maxWaitMs: 1000, maxAttempts: 3 };
    const logger = createLogger({ level: "silent", destination: new PassThrough() });
    const dispatcher = new Dispatcher({ placement, ...limits, sessions: new SessionBook() });
    const fleet = new WorkerFleet({ dispatcher, contextTokens: 100, nowMs: () => 5, logger });
    const expected: TurnExpectation[] = [];
    fleet.addWorker(makeHello(), {
      submit: async () => {},
      cancel: async () => {},
      expect: async (expectation) => {
        expected.push(expectation);
        throw new Error("the worker can't be reached");
      },
      snapshotKv: async () => {},
      close: () => {},
    });
    const listener = { onPlaced() {}, onCached() {}, onTokens() {}, onFinish() {}, onError() {} };
    const turn = (id: string) => {
      const knownBlockHashes = Int32Array.of(1, 2, 3, 4, 5, 6, 7, 8);
      fleet.submit({ ...makeRequest({ id, nextTurnMs: 700 }), knownBlockHashes }, listener);
      fleet.onWorkerEvent("w1", {
        kind: "finish",
        requestId: id,
        epoch: 1,
        reason: "stop",
        numOutputTokens: 0,
      });
    };
    turn("before it has said what it does");
    const bytes = { started: 0, used: 0, wasted: 0, gone: 0 };
    const prefetch = {
      expected: 0,
      came: 0,
      pending: 0,
      begun: 0,
      stopped: 0,
      bytes: { host: bytes, device: bytes },
    };
    fleet.onWorkerEvent("w1", { kind: "load", load: { ...IDLE_LOAD, prefetch } });
    turn("after that");
    expect(expected).toMatchObject([
      { numBlocks: 2, earlyMs: 700, probability: 1, owner: { cacheSalt: "" } },
    ]);
    expect([...expected[0]!.lastHash]).toEqual([5, 6, 7, 8]);
    fleet.close();
  });
});
