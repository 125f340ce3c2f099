import type { SchedulingPolicy } from "../policy.ts";

/**
 * Request-level batching, the practice before ORCA (NVIDIA FasterTransformer behind Triton): a batch is formed when the
 * previous one has finished entirely, and nobody joins it on the way. Kept as the baseline.
 */
export const staticPolicy: SchedulingPolicy = {
  name: "static",
  wholePrompts: true,
  build(step) {
    if (step.running.length === 0) {
      while (step.admitNext(Number.POSITIVE_INFINITY, "maximum") > 0);
    }
    for (const sequence of step.running) step.compute(sequence, Number.POSITIVE_INFINITY);
  },
};
