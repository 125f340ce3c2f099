import type { Sequence } from "../sequence.ts";

/** Prompt tokens looked for in caches at first admissions, and how many of them were there. */
export class PrefixTokens {
  queried = 0;
  hit = 0;

  /** A sequence has been given what there is of its prefix. After a preemption that is its own work, and does not count. */
  count(sequence: Sequence): void {
    if (sequence.numPreemptions > 0) return;
    sequence.numCachedTokens = Math.min(sequence.numComputedTokens, sequence.numPromptTokens);
    this.hit += sequence.numCachedTokens;
    this.queried += sequence.numPromptTokens;
  }
}
