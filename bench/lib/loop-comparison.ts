import type { StepPlan } from "../../src/core/scheduler/step-plan.ts";
import { type BareChunk, openBareContext } from "./bare-loop.ts";
import { BUILT_IN_MODEL, benchRequest, openInProcessWorker } from "./in-process-worker.ts";

/** Time of one run of a loop. */
export interface LoopTime {
  readonly wallMs: number;
  /** CPU of the whole process, engine thread included. */
  readonly cpuMs: number;
  readonly numSteps: number;
  readonly numTokens: number;
}

export interface Comparison {
  readonly batch: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly rounds: number;
  readonly modelPath?: string;
}

async function timed(run: () => Promise<number> | number, numTokens: number): Promise<LoopTime> {
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  const numSteps = await run();
  const wallMs = performance.now() - startMs;
  const { user, system } = process.cpuUsage(cpu);
  return { wallMs, cpuMs: (user + system) / 1000, numSteps, numTokens };
}

/**
 * Runs the same work through the worker (scheduler, block manager, engine queue, event emission) and through bare
 * `llama_decode` calls, in turn, in one process. The bare loop repeats the worker's batches token by token, and draws greedily as
 * the worker does: a loop that never looked at the logits could not generate anything.
 */
export async function compareLoops(options: Comparison): Promise<{ ours: LoopTime[]; bare: LoopTime[] }> {
  const { batch, promptTokens, outputTokens } = options;
  const modelPath = options.modelPath ?? BUILT_IN_MODEL;
  const tokensPerSequence = promptTokens + outputTokens;
  const kvTokens = Math.ceil((2 * batch * tokensPerSequence) / 256) * 256;
  const chunkTokens = Math.max(256, batch + 1);
  const worker = await openInProcessWorker({
    modelPath,
    chunkTokens,
    maxRunning: batch,
    contextTokens: tokensPerSequence,
    kvCapacityTokens: kvTokens,
    prefixCacheTokens: 0,
  });
  const bare = await openBareContext({ modelPath, kvTokens, maxStepTokens: chunkTokens, numSlots: batch });
  const times = { ours: [] as LoopTime[], bare: [] as LoopTime[] };
  const plans: StepPlan[] = [];
  const execute = worker.engine.execute.bind(worker.engine);
  worker.engine.execute = (plan) => {
    plans.push(plan);
    return execute(plan);
  };
  const numTokens = batch * tokensPerSequence;
  for (let round = 0; round < options.rounds; round++) {
    plans.length = 0;
    const requests = Array.from({ length: batch }, () => benchRequest(promptTokens, outputTokens));
    const ours = await timed(async () => {
      await worker.run(requests);
      return plans.length;
    }, numTokens);
    const batches = plans.map((plan) =>
      toBareBatch(
        plan,
        requests.map(({ id }) => id),
      ),
    );
    const bareTime = await timed(() => {
      for (const chunks of batches) bare.decode(chunks);
      return batches.length;
    }, numTokens);
    bare.clear();
    // The first round warms caches and the compiler.
    if (round === 0) continue;
    times.ours.push(ours);
    times.bare.push(bareTime);
  }
  bare.free();
  await worker.close();
  return times;
}

/** A step of the worker, with the tokens that it turned out to have. */
function toBareBatch(plan: StepPlan, requestIds: readonly string[]): BareChunk[] {
  return plan.chunks.map(({ sequence, start, numTokens, samples }) => ({
    slot: requestIds.indexOf(sequence.request.id),
    start,
    tokens: [...sequence.knownTokens().subarray(start, start + numTokens)],
    samples,
  }));
}
