import { Counter, Gauge, type Registry } from "../telemetry/metrics.ts";
import type { WorkerFleet } from "./worker-fleet.ts";

type Load = NonNullable<ReturnType<WorkerFleet["loads"]>[number]["load"]>;

/** Series with one value per worker. */
const PER_WORKER: ReadonlyArray<
  readonly [Metric: typeof Counter | typeof Gauge, name: string, help: string, value: (load: Load) => number]
> = [
  [
    Counter,
    "preemptions_total",
    "Sequences whose KV was taken away to be recomputed.",
    (load) => load.numPreemptions,
  ],
  [
    Counter,
    "prefix_tokens_hit_total",
    "Prompt tokens found in the prefix cache.",
    (load) => load.prefixTokensHit,
  ],
  [
    Counter,
    "prefix_tokens_queried_total",
    "Prompt tokens looked for in the prefix cache.",
    (load) => load.prefixTokensQueried,
  ],
  [Counter, "handoff_bytes_total", "KV bytes sent to decode workers.", (load) => load.handoffBytes],
  [Gauge, "kv_blocks_used", "KV blocks that sequences use.", (load) => load.kvBlocksUsed],
  [
    Gauge,
    "kv_blocks_cached",
    "KV blocks kept for reuse that no sequence uses.",
    (load) => load.kvBlocksCached,
  ],
  [Gauge, "kv_blocks", "KV blocks of the worker.", (load) => load.kvBlocksTotal],
  [
    Gauge,
    "uncomputed_tokens",
    "Known tokens whose KV has not been computed.",
    (load) => load.uncomputedTokens,
  ],
  [Gauge, "resident_memory_bytes", "Resident memory of the worker process.", (load) => load.rssBytes],
];

type TierLoad = NonNullable<Load["tiers"]["host"]>;

/** Series with one value per worker and tier of KV below its engine. */
const PER_TIER: ReadonlyArray<
  readonly [Metric: typeof Counter | typeof Gauge, name: string, help: string, field: keyof TierLoad]
> = [
  [Gauge, "blocks", "KV blocks in host memory or on disk.", "blocks"],
  [Gauge, "bytes", "Bytes that they take.", "bytes"],
  [Counter, "hits_total", "Blocks of prompts that were brought up.", "hits"],
  [
    Counter,
    "misses_total",
    "Blocks of prompts that the engine lacked and that did not come from this tier.",
    "misses",
  ],
  [Counter, "evictions_total", "Blocks that made way for others.", "evictions"],
  [Counter, "bad_total", "Segments that were damaged, foreign or gone, and have been deleted.", "bad"],
  [
    Counter,
    "dropped_total",
    "Blocks that were not kept: no room, or too much waited to be written.",
    "dropped",
  ],
];

function registerTierMetrics(registry: Registry, fleet: WorkerFleet): void {
  for (const [Metric, name, help, field] of PER_TIER) {
    new Metric({
      name: `twofold_worker_tier_${name}`,
      help,
      labelNames: ["worker", "role", "tier"],
      registers: [registry],
      collect() {
        this.reset();
        for (const { hello, load } of fleet.loads()) {
          for (const [tier, stats] of Object.entries(load?.tiers ?? {}))
            this.inc({ worker: hello.workerId, role: hello.role, tier }, stats[field]);
        }
      },
    });
  }
}

/** Turns of conversations that were prepared for, and the bytes that this has moved. */
function registerPrefetchMetrics(registry: Registry, fleet: WorkerFleet): void {
  const labels = ["worker", "role"];
  const turns = (
    name: string,
    Metric: typeof Counter | typeof Gauge,
    help: string,
    field: "expected" | "came" | "pending" | "begun" | "stopped",
  ) =>
    new Metric({
      name: `twofold_worker_prefetch_${name}`,
      help,
      labelNames: labels,
      registers: [registry],
      collect() {
        this.reset();
        for (const { hello, load } of fleet.loads())
          if (load?.prefetch != null)
            this.inc({ worker: hello.workerId, role: hello.role }, load.prefetch[field]);
      },
    });
  turns(
    "turns_total",
    Counter,
    "Turns of conversations whose KV the worker was told to have ready.",
    "expected",
  );
  turns("came_total", Counter, "Those of them that came before they were late.", "came");
  turns("pending", Gauge, "Those that are waited for.", "pending");
  turns("begun_total", Counter, "Looks at such turns at which KV had to come up.", "begun");
  turns("stopped_total", Counter, "Those broken off because somebody needed the room.", "stopped");
  new Counter({
    name: "twofold_worker_prefetch_bytes_total",
    help: "KV brought to host memory or to the device before it was asked for: begun, used, not used, and gone before it was.",
    labelNames: [...labels, "to", "state"],
    registers: [registry],
    collect() {
      this.reset();
      for (const { hello, load } of fleet.loads()) {
        for (const [to, bytes] of Object.entries(load?.prefetch?.bytes ?? {}))
          for (const state of ["started", "used", "wasted", "gone"] as const)
            this.inc({ worker: hello.workerId, role: hello.role, to, state }, bytes[state]);
      }
    },
  });
}

/** What has come of the workers' caches, which some placement policies listen to. */
const KV_EVENTS: ReadonlyArray<readonly [name: string, help: string, value: (fleet: WorkerFleet) => number]> =
  [
    ["batches", "Batches of KV events taken in.", (fleet) => fleet.kvCounts.numBatches],
    [
      "dropped",
      "Batches of KV events dropped: from workers that have left, or before a snapshot.",
      (fleet) => fleet.kvCounts.numDropped,
    ],
    ["gaps", "Times that a batch of KV events was missing.", (fleet) => fleet.kvCounts.numGaps],
    ["resyncs", "Snapshots asked for because of that.", (fleet) => fleet.kvCounts.numResyncs],
  ];

/**
 * Registers what the workers report, read at scrape time. Counters of a worker restart from zero with its process, as Prometheus
 * expects of any process.
 */
export function registerFleetMetrics(registry: Registry, fleet: WorkerFleet): void {
  const registers = [registry];
  registerTierMetrics(registry, fleet);
  registerPrefetchMetrics(registry, fleet);
  for (const [Metric, name, help, value] of PER_WORKER) {
    new Metric({
      name: `twofold_worker_${name}`,
      help,
      labelNames: ["worker", "role"],
      registers,
      collect() {
        this.reset();
        for (const { hello, load } of fleet.loads()) {
          if (load !== null) this.inc({ worker: hello.workerId, role: hello.role }, value(load));
        }
      },
    });
  }
  new Counter({
    name: "twofold_worker_handoffs_total",
    help: "Handoffs that have ended on this side, by outcome.",
    labelNames: ["worker", "role", "outcome"],
    registers,
    collect() {
      this.reset();
      for (const { hello, load } of fleet.loads()) {
        for (const [outcome, count] of Object.entries(load?.handoffs ?? {})) {
          this.inc({ worker: hello.workerId, role: hello.role, outcome }, count);
        }
      }
    },
  });
  for (const [name, help, value] of KV_EVENTS) {
    new Counter({
      name: `twofold_router_kv_event_${name}_total`,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(value(fleet));
      },
    });
  }
  new Gauge({
    name: "twofold_fleet_requests",
    help: "Requests in the fleet: all, and those that wait for a worker to be ready.",
    labelNames: ["state"],
    registers,
    collect() {
      this.set({ state: "all" }, fleet.numRequests);
      this.set({ state: "waiting" }, fleet.numWaiting);
    },
  });
}
