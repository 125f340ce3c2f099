import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { PerfModel } from "../core/perf/perf-model.ts";
import { emptyStepTime } from "../core/perf/perf-model.ts";
import { StepLoad } from "../core/perf/step-load.ts";
import { parseScenarioFile } from "../protocol/scenario-file.ts";
import { PRODUCTION_PARTS } from "./production-parts.ts";
import { Simulation } from "./simulate.ts";

const FOLDER = new URL("../../examples/twin/", import.meta.url);
const NAMES = ["long-context-equal-power.yaml", "long-context-equal-cost.yaml"];

function simulation(name: string, overrides: readonly string[] = []): Simulation {
  const url = new URL(name, FOLDER);
  return new Simulation(
    parseScenarioFile(readFileSync(url, "utf8"), name, overrides),
    PRODUCTION_PARTS,
    FOLDER.pathname,
  );
}

function perfOf(fleet: string, worker: string, overrides: readonly string[] = []): PerfModel {
  const found = simulation(NAMES[0]!, overrides)
    .plan(fleet)
    .workers.find(({ id }) => id === worker);
  if (found === undefined) throw new Error(`no ${worker} in ${fleet}`);
  return found.perf;
}

const MILLION = 1_048_576;

/** Seconds on the accelerators to read a prompt in chunks. */
function prefillSeconds(perf: PerfModel, tokens: number, chunk: number): number {
  const load = new StepLoad();
  const time = emptyStepTime();
  let ms = 0;
  for (let at = 0; at < tokens; at += chunk) {
    load.clear();
    load.addPrefill(at, chunk, at + chunk >= tokens);
    perf.stepTime(load, time);
    ms += time.deviceMs;
  }
  return ms / 1e3;
}

function decodeMs(perf: PerfModel, sequences: number, context: number): number {
  const load = new StepLoad();
  const time = emptyStepTime();
  for (let i = 0; i < sequences; i++) load.addDecode(context);
  perf.stepTime(load, time);
  return time.deviceMs;
}

/** Products of DeepSeek-V3's attention over a whole prompt, two operations each: 61 layers, 128 heads, 192 + 128 wide. */
function attentionFlops(tokens: number): number {
  return 61 * 128 * 2 * 320 * (tokens ** 2 / 2);
}

/** Products of all tokens with the 37.6 billion parameters that each meets. */
function linearFlops(tokens: number): number {
  return 2 * 37.6e9 * tokens;
}

describe.each(NAMES)("%s", (name) => {
  test("every fleet of it can be built within its budget", () => {
    const planned = simulation(name);
    for (const fleet of Object.keys(planned.file.values.fleets)) {
      const { reported } = planned.plan(fleet);
      const sum = (pick: (worker: (typeof reported)[number]["economics"]) => number | null): number =>
        reported.reduce((total, { economics }) => total + (pick(economics) ?? Number.NaN), 0);
      const installedKw = sum(({ installedWatts }) => installedWatts) / 1e3;
      const dollars = sum(({ dollarsPerHour }) => dollarsPerHour) * 4 * 8760;
      // The dual rack is the same parts by the same figures.
      if (name.includes("power")) expect([fleet, installedKw <= 370.1]).toEqual([fleet, true]);
      else expect([fleet, dollars <= 9.85e6]).toEqual([fleet, true]);
    }
  });

  test("its report states every guess about CPX and Rubin", () => {
    const text = JSON.stringify(simulation(name).file.values.assumptions);
    for (const word of ["dense.fp8", "dense.bf16", "attention.acceleration", "190 kW", "370 kW", "7.8 M$"])
      expect(text).toContain(word);
  });
});

describe("times by hand", () => {
  test.each([
    ["cpx-rack", "cpx-0", 8, 10e15, 20e15],
    ["rubin-split", "prefill-0", 8, 17.5e15, 35e15],
    ["gb300-split", "prefill-0", 8, 5e15, 15e15],
    ["h800-h20", "prefill-0", 16, 1.979e15, 1.979e15],
    ["rtx-h200", "prefill-0", 32, 0.936e15, 1.871e15],
  ])(
    "a prompt of a million tokens on %s takes 1.2 to 3.5 times what its operations take at peak",
    (fleet, worker, devices, fp8, weights) => {
      const chunk = fleet === "h800-h20" ? 32768 : 65536;
      const ideal = (attentionFlops(MILLION) / fp8 + linearFlops(MILLION) / weights) / devices;
      const ratio = prefillSeconds(perfOf(fleet, worker), MILLION, chunk) / ideal;
      expect(ratio).toBeGreaterThan(1.2);
      expect(ratio).toBeLessThan(3.5);
    },
  );

  test("attention is 97 % of the operations of a million tokens, so that the rate for weights hardly matters", () => {
    const share = attentionFlops(MILLION) / (attentionFlops(MILLION) + linearFlops(MILLION));
    expect(share).toBeGreaterThan(0.96);
    const dense = prefillSeconds(perfOf("cpx-rack", "cpx-0"), MILLION, 65536);
    const overrides = ["fleets.cpx-rack.workers[0].overrides={ dense.fp4: 30000 }"];
    const sparse = prefillSeconds(perfOf("cpx-rack", "cpx-0", overrides), MILLION, 65536);
    expect(sparse / dense).toBeLessThan(1);
    expect(sparse / dense).toBeGreaterThan(0.93);
  });

  test("a decode step reads KV no faster than memory does, and adds less than 30 ms to that", () => {
    const contexts = [262_144, MILLION];
    for (const [fleet, bandwidth] of [
      ["rubin-split", 22e12],
      ["gb300-split", 8e12],
      ["rtx-h200", 4.8e12],
    ] as const) {
      const perf = perfOf(fleet, "decode-0");
      for (const context of contexts) {
        // One sequence lies on one attention group, whose devices all read its latent KV: 576 bytes per layer and token.
        const readMs = (61 * 576 * context * 1e3) / bandwidth;
        const ms = decodeMs(perf, 1, context);
        expect(ms).toBeGreaterThan(readMs);
        expect(ms).toBeLessThan(2 * readMs + 30);
      }
    }
  });

  test("acceleration of softmax speeds up reading a prompt, and nothing else", () => {
    const slow = ["fleets.cpx-rack.workers[0].overrides={ attention.acceleration: 1 }"];
    const base = perfOf("cpx-rack", "cpx-0");
    const slowed = perfOf("cpx-rack", "cpx-0", slow);
    const ratio = prefillSeconds(slowed, MILLION, 65536) / prefillSeconds(base, MILLION, 65536);
    // 10 PFLOPS are 15.6 T pairs of 640 operations per second; exponents are 10.7 T or 32.1 T per second.
    const slowdown = (perSecond: number): number => (1 + (10e15 / 640 / perSecond) ** 3) ** (1 / 3);
    const most = slowdown(10.7e12) / slowdown(32.1e12);
    expect(ratio).toBeGreaterThan(1.2);
    expect(ratio).toBeLessThanOrEqual(most);
    expect(decodeMs(slowed, 4, MILLION)).toBe(decodeMs(base, 4, MILLION));
  });
});

describe("prompts that queue for minutes", () => {
  const crowd = ["workload.requests=40", "workload.timeScale=0.02"];
  const failed = (seconds: number): number => {
    const overrides = [...crowd, `limits.handoffWaitSeconds=${seconds}`];
    return simulation(NAMES[0]!, overrides).run("h800-h20", 1).result.requests.failed;
  };

  test("fail with a server's usual bound on handoffs, and are served with a longer one", () => {
    expect(failed(3600)).toBe(0);
    expect(failed(5)).toBeGreaterThan(0);
  });
});
