import fc from "fast-check";
import { expect, it } from "vitest";
import {
  linearPerf,
  PrivateLinks,
  twinSpec,
  twinWorker,
  workloadRequest,
} from "../../../test/support/twin.ts";
import { OrcaPerf } from "../../core/perf/paper/orca.ts";
import type { PerfModel } from "../../core/perf/perf-model.ts";
import { Recorder } from "../record/recorder.ts";
import { makeRunDetail } from "../report/run-detail.ts";
import { durationOf, makeRunResult } from "../report/run-result.ts";
import type { TwinFault, TwinSpec } from "../twin-spec.ts";
import { ListSource } from "../workload/list-source.ts";
import type { WorkloadRequest } from "../workload/workload.ts";
import { runTwin } from "./run-twin.ts";

// Sums of the same terms in another order differ in their last digits.
expect.addEqualityTesters([
  (a, b) => {
    if (typeof a !== "number" || typeof b !== "number") return undefined;
    return Object.is(a, b) || Math.abs(a - b) <= 1e-9 * Math.max(1, Math.abs(a));
  },
]);

const POWER = { idleWatts: 100, prefillWatts: 700, decodeWatts: 400, mixedWatts: 700, transferWatts: 150 };
const ECONOMICS = { numDevices: 1, installedWatts: 700, power: POWER, dollarsPerHour: 2 };

const kernels = linearPerf({ stepMs: 5, prefillMsPerToken: 0.1, decodeMs: 0.5 });
/** Steps that grow with their context, some of them extrapolated, with time of the host in each. */
const growing: PerfModel = {
  ...kernels,
  host: { requestMs: 0.5, outputMs: 1 },
  stepTime(load, out) {
    kernels.stepTime(load, out);
    out.deviceMs += 1e-3 * load.decodeContextTokens;
    out.hostMs = 0.7;
    out.isExtrapolated = load.numDecodes > 3;
  },
};
/** A paper's model, and how much slower it is. */
const MODELS = [
  { perf: growing, scale: 1 },
  { perf: new OrcaPerf(100), scale: 40 },
];

/** Everything that a report shows, but for levels of KV, which are looked at once in a row. */
function reported(spec: TwinSpec, requests: readonly WorkloadRequest[]) {
  const workers = spec.workers.map(({ id }) => ({ id, pool: "all" }));
  const recorder = new Recorder({
    workers: workers.map((worker) => ({ ...worker, power: POWER })),
    slos: [],
    reference: null,
  });
  const summary = runTwin(spec, new ListSource(requests), recorder);
  const {
    numEvents: _,
    workers: usages,
    ...result
  } = makeRunResult(recorder, summary, {
    seed: 1,
    workers: workers.map((worker) => ({ ...worker, kvCapacityBlocks: 80, economics: ECONOMICS })),
    site: { pue: 1.2, dollarsPerKwh: 0.1 },
    maxVirtualMs: spec.maxVirtualMs,
  });
  const { inFlight, completions, activePower, timelines } = makeRunDetail(
    recorder,
    durationOf(recorder, summary),
  );
  return {
    result: { ...result, warnings: null },
    usages: usages.map(({ kvMeanBlocks: _mean, kvPeakBlocks: _peak, ...usage }) => usage),
    detail: { inFlight, completions, activePower, timelines },
  };
}

const request = fc.record({
  arrivalMs: fc.nat(400),
  inputTokens: fc.integer({ min: 1, max: 600 }),
  outputTokens: fc.integer({ min: 1, max: 60 }),
});
const fault = fc.record({
  atMs: fc.nat(900),
  worker: fc.nat(1),
  kind: fc.constantFrom("crash", "slow-worker"),
  restarts: fc.boolean(),
});

it("reports the same of rows of steps as of single ones, through crashes and slow parts", () => {
  let numFaults = 0;
  fc.assert(
    fc.property(
      fc.array(request, { minLength: 1, maxLength: 12 }),
      fc.array(fault, { maxLength: 2 }),
      fc.constantFrom(...MODELS),
      fc.record({
        isSplit: fc.boolean(),
        plansAhead: fc.boolean(),
        outputBound: fc.constantFrom<number | "true">(60, "true"),
      }),
      (script, troubles, { perf, scale }, { isSplit, plansAhead, outputBound }) => {
        // Two equal workers would end steps at one time, whose order rows do not keep.
        const roles = isSplit ? (["prefill", "decode"] as const) : (["both"] as const);
        const workers = roles.map((role, i) => {
          const name = `w${i}`;
          const size = { tokenBudget: 64, numBlocks: 80, maxRunning: 6 };
          return twinWorker({ id: name, endpoint: name, role, perf, plansAhead, ...size });
        });
        const requests = [...script]
          .sort((a, b) => a.arrivalMs - b.arrivalMs)
          .map((one, i) => workloadRequest({ ...one, id: `r${i}`, arrivalMs: scale * one.arrivalMs }));
        // No fault comes at the very time of a step's end.
        const faults = troubles.map(({ kind, worker, atMs, restarts }): TwinFault => {
          const at = { worker: `w${worker % roles.length}`, atMs: scale * (atMs + 0.37) };
          return kind === "crash" ? { kind, ...at, restarts } : { kind: "slow-worker", ...at, factor: 2.5 };
        });
        numFaults += faults.length;
        const [single, ...rows] = [1, 4, 32].map((maxStepsPerPlan) => {
          const network = new PrivateLinks({ bytesPerSecond: 1e8, latencyMs: 0.1 });
          const plan = { workers, network, faults, outputBound, maxStepsPerPlan, checks: false } as const;
          return reported(twinSpec({ ...plan, handoffWaitMs: 300 }), requests);
        });
        for (const row of rows) expect(row).toEqual(single);
      },
    ),
    { numRuns: 20 },
  );
  expect(numFaults).toBeGreaterThan(3);
});
