import { isDecoding, type SchedulingPolicy } from "../policy.ts";

/**
 * Stall-free batching with chunked prefill (Agrawal et al., SARATHI, 2023, and Sarathi-Serve, OSDI 2024): decodes first,
 * then prompts in pieces that fit the rest of the token budget, so that no decode waits longer than one bounded step.
 */
export const chunkedPolicy: SchedulingPolicy = {
  name: "chunked",
  wholePrompts: false,
  build(step) {
    const { running } = step;
    for (const sequence of running) if (isDecoding(sequence)) step.compute(sequence, 1);
    for (const sequence of running) {
      if (!isDecoding(sequence)) step.compute(sequence, step.remainingTokens);
    }
    while (step.remainingTokens > 0 && step.admitNext(step.remainingTokens, "known") > 0);
  },
};
