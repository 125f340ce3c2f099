import type { DispatcherLimits } from "../core/dispatch/dispatcher.ts";
import type { DispatchEntry } from "../core/dispatch/recorded-dispatcher.ts";
import type { HandoffOrder } from "../core/handoff/sender.ts";
import type { EvictionName } from "../core/kv/tiers/eviction.ts";
import type { LowerTier } from "../core/kv/tiers/segment.ts";
import type { PerfModel } from "../core/perf/perf-model.ts";
import type { WorkerId, WorkerRole } from "../core/request.ts";
import type { PlacementPolicy } from "../core/router/placement.ts";
import type { PolicyOptions } from "../core/scheduler/policies/registry.ts";
import type { StepPlan } from "../core/scheduler/step-plan.ts";
import type { Network } from "./network/network.ts";

/** A store of KV below a worker's accelerators. */
export interface TwinTier {
  readonly tier: LowerTier;
  readonly maxBytes: number;
  /** Of the worker, in each direction; what moves takes turns. */
  readonly bytesPerSecond: number;
  readonly latencyMs: number;
}

/** One simulated worker: the production loop on a modelled engine. Roles are data: every worker runs the same code. */
export interface TwinWorkerSpec {
  readonly id: WorkerId;
  readonly role: WorkerRole;
  readonly perf: PerfModel;
  /** Endpoint of the network. */
  readonly endpoint: string;
  /** Name in `SCHEDULING_POLICY_NAMES`. */
  readonly policy: string;
  readonly policyOptions?: PolicyOptions;
  readonly tokenBudget: number;
  readonly maxRunning: number;
  readonly maxWaiting: number;
  readonly blockTokens: number;
  /** See `BlockManagerOptions.lookaheadTokens`. Default 0. */
  readonly lookaheadTokens?: number;
  /** Default: what `perf.kvCapacityTokens` allows. */
  readonly numBlocks?: number;
  /** Blocks kept as prefix cache while unused; 0 turns the cache off; default all. */
  readonly maxCachedBlocks?: number;
  /** Tiers of KV below the device, nearest first. Absent: none. They are empty after a restart. */
  readonly tiers?: {
    readonly tiers: readonly TwinTier[];
    readonly eviction: EvictionName;
    /** Whether KV comes up before the next turn of a conversation. Default: it does. */
    readonly prefetch?: boolean;
  };
  /** From the start of the run, or of a restart, until the worker is ready. */
  readonly startUpMs: number;
  /**
   * The engine's next step is planned when the current one begins, as engines with asynchronous scheduling do: what arrives
   * during a step can join the step after the next one at the earliest. Default false.
   */
  readonly plansAhead?: boolean;
}

/** Whether a worker brings KV up before it is asked for. */
export function prefetches({ tiers }: TwinWorkerSpec): boolean {
  return tiers !== undefined && tiers.prefetch !== false;
}

/** A hardware fault, or its repair, at a time. */
export type TwinFault =
  | { readonly kind: "crash"; readonly worker: WorkerId; readonly atMs: number; readonly restarts: boolean }
  /** Steps take `factor` times as long from here on; 1 is the repair. */
  | {
      readonly kind: "slow-worker";
      readonly worker: WorkerId;
      readonly atMs: number;
      readonly factor: number;
    }
  | { readonly kind: "slow-link"; readonly endpoint: string; readonly atMs: number; readonly factor: number };

/** As the server's `timeouts.handoffWaitMs`. */
export const DEFAULT_HANDOFF_WAIT_MS = 60_000;

/** Everything that a run depends on besides its workload. */
export interface TwinSpec {
  readonly workers: readonly TwinWorkerSpec[];
  /** Of steps whose times vary. Default 1. */
  readonly seed?: number;
  readonly network: Network;
  /** Default: `reserve-first`, as the server does. With `compute-first`, KV goes to whoever has come, not in order of arrival. */
  readonly handoffOrder?: HandoffOrder;
  /** See `SchedulerOptions.incomingRetryMs`. Default: room is given in turn, as soon as there is any. */
  readonly incomingRetryMs?: number;
  /** The longest wait of a handoff for a grant, a frame or an ack. Default: {@link DEFAULT_HANDOFF_WAIT_MS}. */
  readonly handoffWaitMs?: number;
  /** Transfers of one pair of workers do not wait for each other. Default: they share a connection. */
  readonly oneConnectionPerRequest?: boolean;
  readonly placement: PlacementPolicy;
  readonly faults: readonly TwinFault[];
  /** Requests that are not over, waiting ones included; a further one fails with `queue_full`. */
  readonly maxRequests: number;
  /** The longest output that policies see; the true length stays hidden. "true": policies see the true length (papers). */
  readonly outputBound: number | "true";
  /** What every request says of its first token. Default: nothing. */
  readonly firstTokenGoalMs?: number;
  /** Runs the checkers of every stateful class after every event: slow, for tests. */
  readonly checks: boolean;
  /** A run that has not ended by then stops and says so. */
  readonly maxVirtualMs: number;
  /** The most steps that one plan may stand for. It changes nothing but the run's speed; the default is fast. */
  readonly maxStepsPerPlan?: number;
  /** Called with every plan that a worker begins, for comparisons with another driver of the same code. */
  readonly onPlan?: (worker: WorkerId, plan: StepPlan) => void;
  /**
   * Called once with the dispatcher's limits; what it returns is called with everything that the dispatcher is told, and its decisions. Placement
   * then gets no perf model, as in the server.
   */
  readonly record?: (limits: DispatcherLimits) => (entry: DispatchEntry) => void;
}

/** How a run ended. */
export interface TwinSummary {
  /** `finished`: every request is over. `stuck`: requests are left and nothing will happen. `time`: out of virtual time. */
  readonly end: "finished" | "stuck" | "time";
  readonly endMs: number;
  readonly numRequests: number;
  readonly numEvents: number;
  /** Hash of every decision and event in order, hex. Same spec, workload and code: same hash. */
  readonly traceHash: string;
}
