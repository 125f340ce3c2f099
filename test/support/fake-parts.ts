import type { PerfModel } from "../../src/core/perf/perf-model.ts";
import { StepLoad } from "../../src/core/perf/step-load.ts";
import { createLoadPlacement } from "../../src/core/router/placement.ts";
import type { ScenarioValues } from "../../src/protocol/scenario-file.ts";
import type { TwinObserver } from "../../src/twin/observer.ts";
import { PartError, type TwinParts } from "../../src/twin/parts.ts";
import type { TwinSpec, TwinSummary, TwinWorkerSpec } from "../../src/twin/twin-spec.ts";
import { ListSource } from "../../src/twin/workload/list-source.ts";
import type { WorkloadRequest, WorkloadSource } from "../../src/twin/workload/workload.ts";

/** Numbers in [0, 1) that depend on a seed: a linear congruence is enough for made-up workloads. */
function draws(seed: number): () => number {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Made-up requests, as many and as fast as a section of kind `requests` says. */
function requestsOf(section: ScenarioValues["workload"], seed: number): WorkloadRequest[] {
  const arrivals = section.kind === "requests" ? section.arrivals : undefined;
  const rate = arrivals?.kind === "poisson" ? arrivals.requestsPerSecond : 10;
  const count = section.requests ?? 100;
  const draw = draws(seed);
  let arrivalMs = 0;
  return Array.from({ length: count }, (_, index) => {
    arrivalMs += (-Math.log(1 - draw()) * 1000) / rate;
    return {
      id: `r${index}`,
      arrivalMs,
      inputTokens: 200 + Math.floor(draw() * 1800),
      outputTokens: 20 + Math.floor(draw() * 180),
      blocks: null,
      sessionId: null,
      tenant: index % 3 === 0 ? "blue" : "red",
      priority: 0,
      kind: index % 5 === 0 ? "code" : "chat",
      encodeMs: 0,
      wishes: null,
    };
  });
}

function fakePerf(slowness: number): PerfModel {
  return {
    host: { requestMs: 1, outputMs: 0.5 },
    kvCapacityTokens: 200_000,
    kvBytesPerToken: 131_072,
    stepTime(load, out) {
      out.deviceMs =
        slowness *
        (4 + 0.02 * load.numPrefillTokens + 0.05 * load.numDecodes + 1e-5 * load.decodeContextTokens);
      out.hostMs = 0.3;
      out.source = load.numPrefills > 0 ? "fitted" : "table";
      out.isExtrapolated = load.numPrefillTokens > 1500;
    },
  };
}

interface Running {
  readonly request: WorkloadRequest;
  readonly prefillWorker: string;
  prefillLeft: number;
  numOutput: number;
  firstMs: number;
  lastMs: number;
  maxGapMs: number;
}

interface FakeWorker {
  readonly spec: TwinWorkerSpec;
  readonly running: Running[];
  readonly load: StepLoad;
  startMs: number;
  stepEndMs: number;
}

/** A driver with none of the real decisions: first come first served, one prefill chunk per step, decodes beside it. */
export function fakeRun(spec: TwinSpec, source: WorkloadSource, observer: TwinObserver): TwinSummary {
  return new FakeRun(spec, source, observer).run();
}

class FakeRun {
  readonly #source: WorkloadSource;
  readonly #observer: TwinObserver;
  readonly #spec: TwinSpec;
  readonly #workers: FakeWorker[];
  readonly #transfers: { atMs: number; startMs: number; from: string; to: FakeWorker; item: Running }[] = [];
  readonly #time = { deviceMs: 0, hostMs: 0, source: "roofline" as const, isExtrapolated: false };
  #numRequests = 0;
  #numEvents = 0;
  #nowMs = 0;

  constructor(spec: TwinSpec, source: WorkloadSource, observer: TwinObserver) {
    this.#spec = spec;
    this.#source = source;
    this.#observer = observer;
    const idle = { startMs: 0, stepEndMs: Number.POSITIVE_INFINITY };
    this.#workers = spec.workers.map((worker) => ({
      spec: worker,
      running: [],
      load: new StepLoad(),
      ...idle,
    }));
  }

  run(): TwinSummary {
    for (const { spec } of this.#workers) this.#observer.workerChanged(spec.id, "ready", 1, 0);
    for (;;) {
      const next = this.#next();
      if (next === Number.POSITIVE_INFINITY) return this.#summary("finished");
      if (next > this.#spec.maxVirtualMs) {
        this.#nowMs = this.#spec.maxVirtualMs;
        return this.#summary("time");
      }
      this.#nowMs = next;
      this.#numEvents++;
      this.#handle(next);
    }
  }

  #next(): number {
    const transfers = this.#transfers.map((transfer) => transfer.atMs);
    return Math.min(
      this.#source.nextArrivalMs,
      ...this.#workers.map((worker) => worker.stepEndMs),
      ...transfers,
    );
  }

  #summary(end: TwinSummary["end"]): TwinSummary {
    const hash = Math.round(this.#nowMs * 1e6).toString(16);
    return {
      end,
      endMs: this.#nowMs,
      numRequests: this.#numRequests,
      numEvents: this.#numEvents,
      traceHash: hash,
    };
  }

  #handle(nowMs: number): void {
    const transfer = this.#transfers.findIndex((entry) => entry.atMs === nowMs);
    const worker = this.#workers.find((entry) => entry.stepEndMs === nowMs);
    if (transfer >= 0) {
      const { from, to, item, startMs } = this.#transfers.splice(transfer, 1)[0]!;
      this.#observer.transferDone(from, to.spec.id, item.request.inputTokens * 131_072, startMs, nowMs);
      to.running.push(item);
      this.#begin(to);
    } else if (worker !== undefined) this.#stepEnd(worker);
    else this.#arrive();
  }

  #arrive(): void {
    const request = this.#source.take();
    this.#numRequests++;
    this.#observer.requestArrived(request, this.#nowMs);
    const prefills = this.#workers.filter(({ spec }) => spec.role !== "decode");
    const worker = prefills.reduce((best, each) => (each.running.length < best.running.length ? each : best));
    const isSplit = worker.spec.role === "prefill";
    const reason = isSplit ? ("split" as const) : ("no_prefill_workers" as const);
    const decision = { prefillWorker: worker.spec.id, decodeWorker: worker.spec.id, reason };
    this.#observer.requestPlaced(request, decision, this.#nowMs);
    worker.running.push({
      request,
      prefillWorker: worker.spec.id,
      prefillLeft: request.inputTokens,
      numOutput: 0,
      firstMs: 0,
      lastMs: 0,
      maxGapMs: 0,
    });
    this.#begin(worker);
  }

  #begin(worker: FakeWorker): void {
    if (worker.stepEndMs !== Number.POSITIVE_INFINITY || worker.running.length === 0) return;
    worker.load.clear();
    const prefill = worker.running.find((item) => item.prefillLeft > 0);
    if (prefill !== undefined) {
      const tokens = Math.min(prefill.prefillLeft, worker.spec.tokenBudget);
      worker.load.addPrefill(
        prefill.request.inputTokens - prefill.prefillLeft,
        tokens,
        tokens === prefill.prefillLeft,
      );
    }
    for (const item of worker.running) {
      if (item.prefillLeft === 0) worker.load.addDecode(item.request.inputTokens + item.numOutput);
    }
    worker.spec.perf.stepTime(worker.load, this.#time);
    worker.startMs = this.#nowMs;
    worker.stepEndMs = this.#nowMs + this.#time.deviceMs + this.#time.hostMs;
  }

  #stepEnd(worker: FakeWorker): void {
    const { load, spec, running, startMs } = worker;
    spec.perf.stepTime(load, this.#time);
    const boundsMs = Float64Array.of(startMs, this.#nowMs);
    this.#observer.stepsDone(spec.id, { ...this.#time, load, boundsMs, from: 0, to: 1 });
    worker.stepEndMs = Number.POSITIVE_INFINITY;
    const prefill = load.numPrefills > 0 ? running.find((item) => item.prefillLeft > 0) : undefined;
    for (const item of [...running]) {
      if (item === prefill) {
        item.prefillLeft -= load.numPrefillTokens;
        if (item.prefillLeft > 0) continue;
      } else if (item.prefillLeft > 0 || item.numOutput === 0) continue;
      this.#token(worker, item);
    }
    const tokens = running.reduce((sum, item) => sum + item.request.inputTokens + item.numOutput, 0);
    this.#observer.kvChanged(spec.id, Math.ceil(tokens / spec.blockTokens), 0, this.#nowMs);
    this.#begin(worker);
  }

  #token(worker: FakeWorker, item: Running): void {
    const nowMs = this.#nowMs + 0.5;
    item.numOutput++;
    if (item.numOutput === 1) item.firstMs = nowMs;
    else {
      const gapMs = nowMs - item.lastMs;
      this.#observer.tokenGap(gapMs, 1);
      item.maxGapMs = Math.max(item.maxGapMs, gapMs);
    }
    item.lastMs = nowMs;
    if (item.numOutput >= item.request.outputTokens) this.#end(worker, item);
    else if (item.numOutput === 1 && worker.spec.role === "prefill") this.#handOff(worker, item);
  }

  #handOff(worker: FakeWorker, item: Running): void {
    worker.running.splice(worker.running.indexOf(item), 1);
    const decodes = this.#workers.filter(({ spec }) => spec.role === "decode");
    const to = decodes.reduce((best, each) => (each.running.length < best.running.length ? each : best));
    const ms = (item.request.inputTokens * 131_072) / 25e6;
    this.#transfers.push({ atMs: this.#nowMs + ms, startMs: this.#nowMs, from: worker.spec.id, to, item });
  }

  #end(worker: FakeWorker, item: Running): void {
    worker.running.splice(worker.running.indexOf(item), 1);
    const { request } = item;
    const outcome = {
      end: "length",
      isCompleted: true,
      ttftMs: item.firstMs - request.arrivalMs,
      e2eMs: item.lastMs - request.arrivalMs,
      numOutputTokens: item.numOutput,
      maxGapMs: item.maxGapMs,
      worstGapsMs: null,
      gapsMs: null,
      queuedMs: null,
      numCachedTokens: request.kind === "chat" ? Math.floor(request.inputTokens / 4) : 0,
      prefillWorker: item.prefillWorker,
      decodeWorker: worker.spec.id,
    };
    this.#observer.requestEnded(request, outcome, this.#nowMs);
    this.#source.ended(request, this.#nowMs);
  }
}

const LINK = { bytesPerSecond: 1e11, latencyMs: 0.01 };

/** Parts of a world with two devices and one model, for tests of what surrounds the driver. */
export const FAKE_PARTS: TwinParts = {
  modelShape(model) {
    if (model !== "tiny") throw new PartError(`there is no model ${JSON.stringify(model)}; known: tiny`);
    return {
      name: "tiny",
      numLayers: 2,
      hiddenSize: 64,
      vocabSize: 100,
      attention: {
        kind: "gqa",
        numHeads: 8,
        numKvHeads: 8,
        headDim: 8,
        numWindowLayers: 0,
        windowTokens: 0,
        numLinearLayers: 0,
      },
      ffn: { kind: "dense", intermediateSize: 128, isGated: true },
      hasTiedEmbeddings: true,
      maxContextTokens: 8192,
    };
  },
  device(id, overrides) {
    if (id !== "fast" && id !== "slow") {
      throw new PartError(`there is no accelerator ${JSON.stringify(id)}; known: fast, slow`, ["device"]);
    }
    return {
      spec: {
        id,
        denseFlops: { bf16: id === "fast" ? 2 : 1 },
        memoryBytes: 8e10,
        memoryBytesPerSecond: 3e12,
        scaleUp: LINK,
        scaleUpDevices: 8,
        scaleOut: LINK,
        host: LINK,
        attentionAcceleration: null,
      },
      idleWatts: overrides["power.idle"] ?? 100,
      prefillWatts: 700,
      decodeWatts: 400,
      transferWatts: 150,
      installedWatts: 800,
      dollarsPerHour: id === "fast" ? 4 : 2,
      assumptions: id === "slow" ? ["memory bandwidth is derived, not published"] : [],
    };
  },
  perf({ parallelism, model, device }) {
    const { attention } = model;
    if (attention.numHeads % parallelism.tp !== 0) {
      const message = `tp ${parallelism.tp} does not divide its ${attention.numHeads} attention heads`;
      throw new PartError(message, ["parallelism", "tp"]);
    }
    return fakePerf(2 / (device.denseFlops.bf16 ?? 1) / parallelism.tp);
  },
  network() {
    const network = {
      start: () => 0,
      cancel: () => undefined,
      nextEndMs: Number.POSITIVE_INFINITY,
      takeEnded: () => null,
      latencyMs: () => 0,
      scale: () => undefined,
    };
    return { network, assumptions: ["latency of every transfer is 0 ms (these parts)"] };
  },
  placement: (section) => createLoadPlacement(section),
  workload(section, seed) {
    if (section.kind !== "requests") throw new PartError("is not requests, the only kind here", ["kind"]);
    return new ListSource(requestsOf(section, seed));
  },
  run: fakeRun,
};

/** A scenario of these parts with an aggregated and a split fleet. */
export const FAKE_SCENARIO = `name: Two ways with four accelerators
description: The same accelerators, together and apart.
seeds: 3
model: tiny
fleets:
  aggregated:
    workers:
      - { name: both, role: both, count: 4, device: fast, tokenBudget: 512 }
  split:
    description: Two read, two write.
    workers:
      - { name: prefill, role: prefill, count: 2, device: fast, tokenBudget: 2048 }
      - { name: decode, role: decode, count: 2, device: slow, tokenBudget: 512 }
workload: { kind: requests, requests: 400, arrivals: { kind: poisson, requestsPerSecond: 12 }, inputTokens: 1000, outputTokens: 100 }
slo:
  fast: { kind: requests, ttftMs: 200, tpotMs: 20 }
  tail: { kind: quantiles, rules: [{ metric: itlMs, quantile: 0.99, max: 30 }, { metric: queuedMs, quantile: 0.5, max: 100 }] }
  nine: { kind: splitwise }
reference: { device: slow }
power: { pue: 1.2, hostWattsPerDevice: 150 }
price: { dollarsPerKwh: 0.1 }
assumptions:
  - prompts share a quarter of their tokens
  - { part: slow, figure: power.idle, value: 90, reason: measured on a similar card }
`;
