import type { HandoffOrder, HandoffTimeouts } from "./handoff/sender.ts";
import type { BlockManager } from "./kv/block-manager.ts";
import type { Onboarder } from "./kv/tiers/onboarder.ts";
import type { Scheduler } from "./scheduler/scheduler.ts";

export interface WorkerLoopOptions {
  readonly scheduler: Scheduler;
  readonly blocks: BlockManager;
  /** Bounds everything that is not over, whatever it waits for. */
  readonly maxRequests: number;
  readonly timeouts?: HandoffTimeouts;
  readonly handoffOrder?: HandoffOrder;
  /** The one that the scheduler has been given; absent: there are no lower tiers. */
  readonly onboarder?: Onboarder;
}
