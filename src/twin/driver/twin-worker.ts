import { BlockManager } from "../../core/kv/block-manager.ts";
import { KvEventLog } from "../../core/kv/kv-event-log.ts";
import { Onboarder } from "../../core/kv/tiers/onboarder.ts";
import { Prefetcher } from "../../core/kv/tiers/prefetcher.ts";
import type { Request } from "../../core/request.ts";
import type { WorkerFacts } from "../../core/router/placement.ts";
import { findSchedulingPolicy } from "../../core/scheduler/policies/registry.ts";
import { Scheduler } from "../../core/scheduler/scheduler.ts";
import { assert } from "../../core/util/assert.ts";
import { Rng } from "../../core/util/rng.ts";
import type { WorkerTask } from "../../core/worker-effects.ts";
import { WorkerLoop } from "../../core/worker-loop.ts";
import type { WorkerCaches } from "../observer.ts";
import { DEFAULT_HANDOFF_WAIT_MS, prefetches, type TwinSpec, type TwinWorkerSpec } from "../twin-spec.ts";
import { ModelledEngine } from "./modelled-engine.ts";
import { TraceHash } from "./trace-hash.ts";
import { END_TOKEN } from "./twin-request.ts";
import { TwinTiers } from "./twin-tiers.ts";

/** Steps that one plan may stand for: long rows cost little to price again when they are cut short. */
const MAX_STEPS_PER_PLAN = 32;

/** A request on its way into a worker's loop. */
export interface HeldSubmission {
  readonly request: Request;
  readonly task: WorkerTask;
}

/** One simulated worker: the production worker loop, scheduler and block manager over a modelled engine. */
export class TwinWorker {
  readonly id: string;
  readonly spec: TwinWorkerSpec;
  /** Place in the run's list of workers. */
  readonly index: number;
  readonly loop: WorkerLoop;
  readonly blocks: BlockManager;
  readonly scheduler: Scheduler;
  readonly engine: ModelledEngine;
  readonly tiers: TwinTiers | null;
  readonly prefetcher: Prefetcher | null;
  readonly hash = new TraceHash();
  /** Names the step end that is due; an earlier one that is still in the heap is stale. */
  rowVersion = 0;
  /** The wake-up that is due. */
  wakeAtMs = Number.POSITIVE_INFINITY;
  isAlive = true;
  /** What has come since the plan in flight began, on a worker that plans ahead: the next plan does not know of it. */
  held: HeldSubmission[] = [];

  constructor(
    spec: TwinWorkerSpec,
    options: {
      id: string;
      index: number;
      run: Pick<TwinSpec, "maxStepsPerPlan" | "handoffOrder" | "handoffWaitMs" | "incomingRetryMs" | "seed">;
      /** Whether the worker tells what its caches hold. */
      reportsKv: boolean;
      /** Whether it may be told to fetch prefixes from others. */
      fetches: boolean;
    },
  ) {
    const { maxStepsPerPlan = MAX_STEPS_PER_PLAN, handoffOrder = "reserve-first" } = options.run;
    const { incomingRetryMs } = options.run;
    const waitMs = options.run.handoffWaitMs ?? DEFAULT_HANDOFF_WAIT_MS;
    this.id = options.id;
    this.spec = spec;
    this.index = options.index;
    this.engine = new ModelledEngine(
      spec.perf,
      new Rng(options.run.seed ?? 1).stream(`steps of ${options.id}`),
    );
    const policy = findSchedulingPolicy(spec.policy, spec.policyOptions);
    assert(policy !== null, `no scheduling policy ${spec.policy}`);
    const numBlocks = spec.numBlocks ?? Math.floor(spec.perf.kvCapacityTokens / spec.blockTokens);
    const kvEvents = options.reportsKv ? new KvEventLog() : undefined;
    this.tiers = TwinTiers.of(spec, kvEvents, options.fetches);
    this.blocks = new BlockManager({
      numBlocks,
      blockSizeTokens: spec.blockTokens,
      // A modelled engine has as many names as could be asked for: each retained one is home to a block at least.
      numSlots: numBlocks + 2 * spec.maxRunning,
      modelId: "twin",
      ...(spec.lookaheadTokens === undefined ? {} : { lookaheadTokens: spec.lookaheadTokens }),
      ...(spec.maxCachedBlocks === undefined ? {} : { maxCachedBlocks: spec.maxCachedBlocks }),
      kvEvents,
      ...(this.tiers === null ? {} : { tiers: this.tiers.tiers }),
    });
    const onboarder =
      this.tiers === null ? null : new Onboarder(this.tiers.tiers, this.blocks, this.tiers.maxExportedBytes);
    if (this.tiers !== null && onboarder !== null && prefetches(spec))
      onboarder.prefetcher = new Prefetcher(this.tiers.tiers, this.blocks, onboarder);
    this.prefetcher = onboarder?.prefetcher ?? null;
    const onboarding = onboarder === null ? {} : { onboarder };
    this.scheduler = new Scheduler(
      {
        policy,
        tokenBudget: spec.tokenBudget,
        maxRunning: spec.maxRunning,
        maxWaiting: spec.maxWaiting,
        endOfGenerationTokens: new Set([END_TOKEN]),
        ordersIncoming: handoffOrder !== "compute-first",
        maxStepsPerPlan,
        ...(incomingRetryMs === undefined ? {} : { incomingRetryMs }),
        ...onboarding,
      },
      this.blocks,
    );
    this.loop = new WorkerLoop({
      scheduler: this.scheduler,
      blocks: this.blocks,
      maxRequests: spec.maxWaiting + 2 * spec.maxRunning,
      handoffOrder,
      timeouts: { grantMs: waitMs, ackMs: waitMs, reserveMs: waitMs, frameMs: waitMs },
      ...onboarding,
    });
  }

  /** What has come of its caches. */
  get caches(): WorkerCaches {
    return {
      tiers: this.tiers?.tiers.stats ?? [],
      prefetch: this.prefetcher?.stats ?? null,
      leases: this.blocks.leases.stats,
    };
  }

  /** What the dispatcher is told when the worker is ready. */
  get facts(): WorkerFacts {
    const { role, perf, tokenBudget, maxRunning } = this.spec;
    return {
      id: this.id,
      role,
      kvTokensTotal: this.blocks.numBlocks * this.blocks.blockSizeTokens,
      perf,
      tokenBudget,
      maxRunning,
      kvBytesPerToken: perf.kvBytesPerToken,
    };
  }
}
