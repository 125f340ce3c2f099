import type { TwinSpec, TwinWorkerSpec } from "../twin-spec.ts";

/** A specification that cannot be run. The message says what to change. */
export class TwinSpecError extends Error {
  override name = "TwinSpecError";
  readonly code = "bad_twin_spec";
}

/** Most blocks of KV of one worker, and of a fleet: each takes 64 bytes of records, whether it is used or not. */
export const MAX_WORKER_BLOCKS = 2 ** 24;
export const MAX_FLEET_BLOCKS = 2 ** 27;

/** Throws {@link TwinSpecError} unless the fleet can be run. */
export function checkSpec({ workers, faults }: TwinSpec): void {
  if (workers.length === 0) throw new TwinSpecError("a fleet needs at least one worker");
  const ids = new Set(workers.map(({ id }) => id));
  if (ids.size !== workers.length) throw new TwinSpecError("two workers have one id");
  const problem = findBlockProblem(workers);
  if (problem !== null) throw new TwinSpecError(problem);
  for (const fault of faults) {
    if (fault.kind !== "slow-link" && !ids.has(fault.worker))
      throw new TwinSpecError(`a fault names worker ${fault.worker}, which the fleet does not have`);
  }
}

/** What makes the workers' blocks impossible, and what to do; or null. */
export function findBlockProblem(workers: readonly TwinWorkerSpec[]): string | null {
  const sizes = new Set(workers.map(({ blockTokens }) => blockTokens));
  if (sizes.size > 1) return `workers that hand KV over need one block size, not ${[...sizes].join(" and ")}`;
  let numFleetBlocks = 0;
  for (const { id, numBlocks, perf, blockTokens } of workers) {
    const count = numBlocks ?? Math.floor(perf.kvCapacityTokens / blockTokens);
    numFleetBlocks += count;
    if (count < 1) return `worker ${id} has no room for a block of KV`;
    if (count > MAX_WORKER_BLOCKS)
      return `worker ${id} has ${count} blocks of KV; allowed: ${MAX_WORKER_BLOCKS}; use larger blocks or less KV`;
  }
  if (numFleetBlocks <= MAX_FLEET_BLOCKS) return null;
  return `the workers have ${numFleetBlocks} blocks of KV; allowed: ${MAX_FLEET_BLOCKS}; use larger blocks, less KV or fewer workers`;
}
