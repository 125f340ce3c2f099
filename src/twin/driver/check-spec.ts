import type { TwinSpec } from "../twin-spec.ts";

/** A specification that cannot be run. The message says what to change. */
export class TwinSpecError extends Error {
  override name = "TwinSpecError";
  readonly code = "bad_twin_spec";
}

/** Throws {@link TwinSpecError} unless the fleet can be run. */
export function checkSpec(spec: TwinSpec): void {
  const { workers } = spec;
  if (workers.length === 0) throw new TwinSpecError("a fleet needs at least one worker");
  const ids = new Set(workers.map(({ id }) => id));
  if (ids.size !== workers.length) throw new TwinSpecError("two workers have one id");
  const sizes = new Set(workers.map(({ blockTokens }) => blockTokens));
  if (sizes.size > 1) {
    throw new TwinSpecError(`workers that hand KV over need one block size, not ${[...sizes].join(" and ")}`);
  }
  for (const { id, numBlocks, perf, blockTokens } of workers) {
    if ((numBlocks ?? Math.floor(perf.kvCapacityTokens / blockTokens)) < 1)
      throw new TwinSpecError(`worker ${id} has no room for a block of KV`);
  }
  for (const fault of spec.faults) {
    if (fault.kind !== "slow-link" && !ids.has(fault.worker))
      throw new TwinSpecError(`a fault names worker ${fault.worker}, which the fleet does not have`);
  }
}
