import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { WorkerStatus } from "../fleet/fleet.ts";

export { Counter, Gauge, Registry } from "prom-client";

/**
 * Buckets in seconds. Those of vLLM (`vllm/v1/metrics/loggers.py`), so that its dashboards read on, with 120, 300 and 600
 * added to the first for prefills of a million tokens, and with finer steps at the low end of the second, where small
 * models decode a token in under 10 ms.
 */
const TTFT_BUCKETS = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 120, 160,
  300, 600, 640, 2560,
];
const ITL_BUCKETS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20,
  40, 80,
];
const E2E_BUCKETS = [
  0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
];

const PREFIX = "twofold_gateway_";
/** Gauges of prom-client's defaults that end in `_total`, a suffix that Prometheus reserves for counters. */
const MISNAMED_DEFAULTS = [
  "nodejs_active_handles_total",
  "nodejs_active_requests_total",
  "nodejs_active_resources_total",
];

/** What a gateway counts about its own work. `docs/reference/metrics.md` lists every series; a test keeps it complete. */
export interface GatewayMetrics {
  readonly registry: Registry;
  readonly requests: Counter<"endpoint" | "status">;
  readonly requestDurationSeconds: Histogram<"endpoint">;
  readonly ttftSeconds: Histogram;
  readonly itlSeconds: Histogram;
  readonly streamErrors: Counter<"code">;
  readonly clientDisconnects: Counter<"endpoint">;
  readonly clientRetries: Counter;
  readonly slowReaders: Counter<"action">;
  /** Plain numbers that the hot path adds to; they become counters when they are scraped. */
  readonly totals: GatewayTotals;
}

interface GatewayTotals {
  promptTokens: number;
  generatedTokens: number;
  cachedPromptTokens: number;
  pings: number;
}

export interface MetricsSources {
  /** Requests that have arrived and are not answered yet. */
  readonly inFlight: () => number;
  readonly workers: () => readonly WorkerStatus[];
  /** Adds the process's CPU, memory, garbage collection and event loop lag. Its observers live as long as the process. */
  readonly includeProcess: boolean;
}

/** Creates the gateway's metrics in a registry of their own. */
export function createGatewayMetrics(sources: MetricsSources): GatewayMetrics {
  const registry = new Registry();
  const registers = [registry];
  const totals: GatewayTotals = { promptTokens: 0, generatedTokens: 0, cachedPromptTokens: 0, pings: 0 };
  registerTotals(registry, totals);
  registerWorkers(registry, sources.workers);
  new Gauge({
    name: `${PREFIX}requests_in_flight`,
    help: "Requests that have arrived and are not answered yet.",
    registers,
    collect() {
      this.set(sources.inFlight());
    },
  });
  if (sources.includeProcess) {
    collectDefaultMetrics({ register: registry, prefix: PREFIX });
    for (const name of MISNAMED_DEFAULTS) registry.removeSingleMetric(PREFIX + name);
  }
  return { registry, totals, ...requestMetrics(registers), ...troubleMetrics(registers) };
}

function requestMetrics(registers: Registry[]) {
  return {
    requests: new Counter({
      name: `${PREFIX}requests_total`,
      help: "Answered requests by route and HTTP status; 499 when the client went away first.",
      labelNames: ["endpoint", "status"],
      registers,
    }),
    requestDurationSeconds: new Histogram({
      name: `${PREFIX}request_duration_seconds`,
      help: "Time from a completion request's arrival to the end of its answer, for those with status 200.",
      labelNames: ["endpoint"],
      buckets: E2E_BUCKETS,
      registers,
    }),
    ttftSeconds: new Histogram({
      name: `${PREFIX}time_to_first_token_seconds`,
      help: "Time from a completion request's arrival to its first output token.",
      buckets: TTFT_BUCKETS,
      registers,
    }),
    itlSeconds: new Histogram({
      name: `${PREFIX}inter_token_latency_seconds`,
      help: "Time between two deliveries of output tokens of one choice.",
      buckets: ITL_BUCKETS,
      registers,
    }),
  } as const;
}

function troubleMetrics(registers: Registry[]) {
  return {
    streamErrors: new Counter({
      name: `${PREFIX}stream_errors_total`,
      help: "Errors sent inside a stream, after status 200, by code.",
      labelNames: ["code"],
      registers,
    }),
    clientDisconnects: new Counter({
      name: `${PREFIX}client_disconnects_total`,
      help: "Requests whose client went away before the answer was complete.",
      labelNames: ["endpoint"],
      registers,
    }),
    clientRetries: new Counter({
      name: `${PREFIX}client_retries_total`,
      help: "Requests that an OpenAI SDK marked as a retry of its own.",
      registers,
    }),
    slowReaders: new Counter({
      name: `${PREFIX}slow_readers_total`,
      help: "Streams whose client read too slowly: output was coalesced, or the stream was cut.",
      labelNames: ["action"],
      registers,
    }),
  } as const;
}

function registerTotals(registry: Registry, totals: GatewayTotals): void {
  const rows: ReadonlyArray<readonly [keyof GatewayTotals, string, string]> = [
    ["promptTokens", "prompt_tokens_total", "Prompt tokens of accepted requests, each prompt counted once."],
    ["generatedTokens", "generated_tokens_total", "Output tokens received from workers."],
    ["cachedPromptTokens", "cached_prompt_tokens_total", "Prompt tokens whose KV was found in a cache."],
    ["pings", "pings_total", "Comment pings sent on idle streams."],
  ];
  for (const [field, name, help] of rows) {
    new Counter({
      name: PREFIX + name,
      help,
      registers: [registry],
      collect() {
        this.reset();
        this.inc(totals[field]);
      },
    });
  }
}

/** Gauges of each worker as the fleet reports it at the moment of the scrape; a worker that is gone leaves no series behind. */
function registerWorkers(registry: Registry, workers: () => readonly WorkerStatus[]): void {
  const rows: ReadonlyArray<readonly [string, string, (worker: WorkerStatus) => number]> = [
    [
      "twofold_worker_ready",
      "1 when the worker takes requests, else 0.",
      (w) => (w.state === "ready" ? 1 : 0),
    ],
    ["twofold_worker_running_requests", "Sequences that take part in steps.", (w) => w.numRunning],
    ["twofold_worker_waiting_requests", "Sequences that wait for admission.", (w) => w.numWaiting],
    ["twofold_worker_kv_used_tokens", "Tokens whose KV is held.", (w) => w.kvTokensUsed],
    ["twofold_worker_kv_capacity_tokens", "Tokens whose KV fits.", (w) => w.kvTokensTotal],
  ];
  for (const [name, help, read] of rows) {
    new Gauge({
      name,
      help,
      labelNames: ["worker", "role"],
      registers: [registry],
      collect() {
        this.reset();
        for (const worker of workers()) this.set({ worker: worker.id, role: worker.role }, read(worker));
      },
    });
  }
  new Counter({
    name: "twofold_worker_steps_total",
    help: "Completed steps; standing still while requests run means a wedged worker.",
    labelNames: ["worker", "role"],
    registers: [registry],
    collect() {
      this.reset();
      for (const worker of workers()) this.inc({ worker: worker.id, role: worker.role }, worker.numSteps);
    },
  });
}
