import type { HandoffTimeouts } from "../../core/handoff/sender.ts";
import { BlockManager } from "../../core/kv/block-manager.ts";
import { KvEventLog } from "../../core/kv/kv-event-log.ts";
import { KvTiers } from "../../core/kv/tiers/kv-tiers.ts";
import { Onboarder } from "../../core/kv/tiers/onboarder.ts";
import { Prefetcher } from "../../core/kv/tiers/prefetcher.ts";
import { findSchedulingPolicy } from "../../core/scheduler/policies/registry.ts";
import { Scheduler } from "../../core/scheduler/scheduler.ts";
import { assert } from "../../core/util/assert.ts";
import { WorkerLoop } from "../../core/worker-loop.ts";
import type { WorkerConfig } from "../../protocol/worker-config.ts";
import type { Engine } from "../engine/engine.ts";
import { openEngine } from "../engine/open-engine.ts";
import type { WorkerTiers } from "../tiers/open-tiers.ts";
import { WorkerDriver } from "./worker-driver.ts";

/** Slots beyond those of the running sequences, in which the prefix cache keeps what finished ones leave. */
const CACHE_SLOTS = 64;
/** The most that libllama can tell apart, less those that the engine needs for itself. */
const MAX_SLOTS = 254;

/** Opens the engine that a worker's configuration asks for. Rejects with `EngineError`. */
export function openWorkerEngine(config: WorkerConfig): Promise<Engine> {
  const policy = findSchedulingPolicy(config.policy);
  assert(policy !== null, `the configuration names no policy ${config.policy}`);
  const sizes = {
    kvCapacityTokens: config.kvCapacityTokens,
    maxStepTokens: tokenBudgetOf(config),
    numSlots: config.numSlots ?? Math.min(2 * config.maxRunning + CACHE_SLOTS, MAX_SLOTS),
  };
  if (config.engine === "stub") {
    return openEngine({
      engine: "stub",
      ...sizes,
      trainedContextTokens: config.contextTokens,
      timing: config.stub,
    });
  }
  assert(config.modelPath !== null, "the llama engine needs a model file");
  return openEngine({ engine: "llama", modelPath: config.modelPath, threads: config.threads, ...sizes });
}

/** Tokens in one step. Policies that run whole prompts need room for the longest one. */
function tokenBudgetOf(config: WorkerConfig): number {
  const policy = findSchedulingPolicy(config.policy);
  return policy?.wholePrompts ? Math.max(config.contextTokens, config.chunkTokens) : config.chunkTokens;
}

/**
 * Puts block manager, scheduler, loop and driver together. `onFatal` is called when the engine fails for good.
 */
export function createDriver(
  config: WorkerConfig,
  engine: Engine,
  onFatal: (error: unknown) => void,
  tiers: WorkerTiers | null = null,
): WorkerDriver {
  const policy = findSchedulingPolicy(config.policy);
  assert(policy !== null, `the configuration names no policy ${config.policy}`);
  // Without tiers of its own a worker can still take prefixes from others.
  const kvTiers =
    tiers?.tiers ??
    new KvTiers({
      tiers: [],
      eviction: config.tiers.eviction,
      blockSizeTokens: config.blockSizeTokens,
      bytesPerToken: engine.info.kvBytesPerToken,
    });
  const blocks = new BlockManager({
    numBlocks: Math.floor(engine.info.kvCapacityTokens / config.blockSizeTokens),
    blockSizeTokens: config.blockSizeTokens,
    numSlots: engine.info.numSlots,
    modelId: engine.info.modelId,
    maxCachedBlocks: Math.floor(config.prefixCacheTokens / config.blockSizeTokens),
    tiers: kvTiers,
    // A worker does not know who will connect and ask.
    kvEvents: tiers?.kvEvents ?? new KvEventLog(),
  });
  const onboarder = new Onboarder(kvTiers, blocks);
  if (tiers !== null && config.tiers.prefetch)
    onboarder.prefetcher = new Prefetcher(kvTiers, blocks, onboarder);
  const scheduler = new Scheduler(
    {
      policy,
      tokenBudget: tokenBudgetOf(config),
      maxRunning: config.maxRunning,
      maxWaiting: config.maxWaiting,
      endOfGenerationTokens: new Set(engine.info.endOfGenerationTokens),
      onboarder,
    },
    blocks,
  );
  const maxRequests = config.maxWaiting + 2 * config.maxRunning;
  return new WorkerDriver({
    workerId: config.workerId,
    role: config.role,
    contextTokens: config.contextTokens,
    tokenBudget: tokenBudgetOf(config),
    maxRunning: config.maxRunning,
    engine,
    loop: new WorkerLoop({
      scheduler,
      blocks,
      maxRequests,
      timeouts: handoffTimeouts(config.handoffWaitMs),
      onboarder,
    }),
    tiers,
    prefetcher: onboarder.prefetcher,
    scheduler,
    blocks,
    nowMs: () => performance.now(),
    onFatal,
  });
}

/** One bound for every wait. */
function handoffTimeouts(waitMs: number): HandoffTimeouts {
  return { grantMs: waitMs, ackMs: waitMs, reserveMs: waitMs, frameMs: waitMs };
}
