import type { BlockManager } from "../../core/kv/block-manager.ts";
import type { Prefetcher } from "../../core/kv/tiers/prefetcher.ts";
import type { WorkerId, WorkerRole } from "../../core/request.ts";
import type { Scheduler } from "../../core/scheduler/scheduler.ts";
import type { WorkerLoop } from "../../core/worker-loop.ts";
import type { Engine } from "../engine/engine.ts";
import type { WorkerTiers } from "../tiers/open-tiers.ts";

/** What a worker's driver drives, and what the worker says of itself. */
export interface WorkerDriverOptions {
  readonly workerId: WorkerId;
  readonly role: WorkerRole;
  readonly contextTokens: number;
  readonly tokenBudget: number;
  readonly maxRunning: number;
  readonly engine: Engine;
  readonly loop: WorkerLoop;
  readonly scheduler: Scheduler;
  readonly blocks: BlockManager;
  /** Null: there are no tiers of KV below the engine. */
  readonly tiers: WorkerTiers | null;
  /** Null: no KV comes up before it is asked for. */
  readonly prefetcher: Prefetcher | null;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  /** Called once when the engine has failed in a way that this process can't recover from. */
  readonly onFatal: (error: unknown) => void;
}
