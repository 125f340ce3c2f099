import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { FakeFleet } from "../../../test/support/fake-fleet.ts";
import { Dispatcher } from "../../core/dispatch/dispatcher.ts";
import { createLoadPlacement } from "../../core/router/placement.ts";
import type { WorkerStatus } from "../fleet/fleet.ts";
import { registerFleetMetrics } from "../fleet/fleet-metrics.ts";
import { WorkerFleet } from "../fleet/worker-fleet.ts";
import { createLogger } from "./logger.ts";
import { createGatewayMetrics } from "./metrics.ts";

const WORKER: WorkerStatus = {
  id: "w0",
  role: "decode",
  state: "ready",
  pid: 1,
  numRunning: 2,
  numWaiting: 3,
  kvTokensUsed: 40,
  kvTokensTotal: 50,
  numSteps: 60,
};

function make(fleet = new FakeFleet(), includeProcess = false) {
  return createGatewayMetrics({ inFlight: () => 4, workers: () => fleet.workers(), includeProcess });
}

interface Family {
  readonly name: string;
  readonly type: string;
  readonly help: string;
}

/** The families that a scrape announces. */
function families(text: string): Family[] {
  return [...text.matchAll(/^# HELP (\S+) (.+)\n# TYPE \S+ (\S+)$/gm)].map(
    ([, name = "", help = "", type = ""]) => ({ name, help, type }),
  );
}

describe("the gateway's metrics", () => {
  test("follow Prometheus's rules for names: counters and nothing else end in _total, units are base units", async () => {
    const all = families(await make(new FakeFleet(), true).registry.metrics());
    expect(all.length).toBeGreaterThan(30);
    for (const { name, type, help } of all) {
      expect(name).toMatch(/^twofold_(gateway|worker)_[a-z0-9_]+$/);
      expect({ name, isCounter: type === "counter" }).toEqual({ name, isCounter: name.endsWith("_total") });
      expect(name).not.toMatch(/_(ms|milliseconds|kb|mb|percent|minutes)(_|$)/);
      if (type === "histogram") expect(name).toMatch(/_seconds$/);
      expect(help.length).toBeGreaterThan(10);
    }
  });

  test("count what the hot path adds up", async () => {
    const { registry, totals } = make();
    totals.generatedTokens += 5;
    totals.pings += 2;
    expect(await registry.metrics()).toMatch(/^twofold_gateway_generated_tokens_total 5$/m);
    totals.generatedTokens += 1;
    const text = await registry.metrics();
    expect(text).toMatch(/^twofold_gateway_generated_tokens_total 6$/m);
    expect(text).toMatch(/^twofold_gateway_pings_total 2$/m);
    expect(text).toMatch(/^twofold_gateway_requests_in_flight 4$/m);
  });

  test("show the workers as they are when scraped, and forget those that are gone", async () => {
    const fleet = new FakeFleet();
    fleet.workerList = [WORKER, { ...WORKER, id: "w1", state: "lost" }];
    const { registry } = make(fleet);
    const text = await registry.metrics();
    for (const line of [
      'twofold_worker_ready{worker="w0",role="decode"} 1',
      'twofold_worker_ready{worker="w1",role="decode"} 0',
      'twofold_worker_running_requests{worker="w0",role="decode"} 2',
      'twofold_worker_waiting_requests{worker="w0",role="decode"} 3',
      'twofold_worker_kv_used_tokens{worker="w0",role="decode"} 40',
      'twofold_worker_kv_capacity_tokens{worker="w0",role="decode"} 50',
      'twofold_worker_steps_total{worker="w0",role="decode"} 60',
    ])
      expect(text).toContain(`${line}\n`);
    fleet.workerList = [];
    expect(await registry.metrics()).not.toContain('worker="w0"');
  });

  test("of two gateways do not mix", async () => {
    const first = make();
    const second = make();
    first.totals.promptTokens = 9;
    expect(await first.registry.metrics()).toMatch(/^twofold_gateway_prompt_tokens_total 9$/m);
    expect(await second.registry.metrics()).toMatch(/^twofold_gateway_prompt_tokens_total 0$/m);
  });

  test("are all in the reference, which lists no other", async () => {
    const reference = await readFile(new URL("../../../docs/reference/metrics.md", import.meta.url), "utf8");
    const documented = [...reference.matchAll(/^\| `(twofold_[a-z0-9_]+)` \| (\w+) \|/gm)].map(
      ([, name, type]) => `${name} ${type}`,
    );
    const { registry } = make(new FakeFleet(), true);
    const fleet = new WorkerFleet({
      dispatcher: new Dispatcher({
        placement: createLoadPlacement({ localPrefillBelowTokens: 0 }),
        maxRequests: 1,
        maxWaitMs: 1,
        maxAttempts: 1,
      }),
      contextTokens: 1,
      nowMs: () => 0,
      logger: createLogger({ level: "silent" }),
    });
    registerFleetMetrics(registry, fleet);
    const text = await registry.metrics();
    await fleet.close();
    const registered = families(text).map(({ name, type }) => `${name} ${type}`);
    expect(documented.sort()).toEqual(registered.sort());
  });
});
