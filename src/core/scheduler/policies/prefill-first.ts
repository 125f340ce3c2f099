import { isDecoding, type SchedulingPolicy } from "../policy.ts";

/**
 * Prefills before decodes, never in one step (vLLM before version 1): the shortest time to the first token, bought with a
 * pause of every running decode for as long as prompts keep arriving.
 */
export const prefillFirstPolicy: SchedulingPolicy = {
  name: "prefill-first",
  wholePrompts: true,
  build(step) {
    let prefillTokens = 0;
    for (const sequence of step.running) {
      if (!isDecoding(sequence)) prefillTokens += step.compute(sequence, Number.POSITIVE_INFINITY);
    }
    for (;;) {
      const admitted = step.admitNext(Number.POSITIVE_INFINITY, "known");
      if (admitted === 0) break;
      prefillTokens += admitted;
    }
    if (prefillTokens > 0) return;
    for (const sequence of step.running) step.compute(sequence, 1);
  },
};
