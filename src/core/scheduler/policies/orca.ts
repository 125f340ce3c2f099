import type { SchedulingPolicy } from "../policy.ts";

/**
 * Iteration-level scheduling (Yu et al., ORCA, OSDI 2022): sequences join and leave between steps, first come first
 * served, and each reserves KV for its longest output. Prompts run whole beside the decodes, which wait for them.
 */
export const orcaPolicy: SchedulingPolicy = {
  name: "orca",
  wholePrompts: true,
  build(step) {
    for (const sequence of step.running) step.compute(sequence, Number.POSITIVE_INFINITY);
    while (step.admitNext(Number.POSITIVE_INFINITY, "maximum") > 0);
  },
};
