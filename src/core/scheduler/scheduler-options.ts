import type { Otherwise } from "../kv/tiers/onboard-rule.ts";
import type { Sequence } from "../sequence.ts";
import type { SchedulingPolicy } from "./policy.ts";

/** Brings KV of admitted sequences up from lower tiers. */
export interface OnboardPort {
  /**
   * Whether more of the prefix comes up, up to `reusableTokens`; `Scheduler.onboarded` or `onboardedIncoming` then says when it has.
   * `otherwise`: how the sequence would come by it.
   */
  begin(sequence: Sequence, reusableTokens: number, otherwise: Otherwise): boolean;
  /** The sequence gives its KV up before that. */
  forget(sequence: Sequence): void;
}

/** What a scheduler decides with, and its limits. */
export interface SchedulerOptions {
  readonly policy: SchedulingPolicy;
  /** The most tokens in one step: decodes and prefill chunks together. */
  readonly tokenBudget: number;
  /**
   * The most sequences in one step (the maximum batch size). As many again may hold KV outside the steps: receiving it,
   * ready to join, or waiting for their copy to be verified.
   */
  readonly maxRunning: number;
  /** The most sequences that wait for KV, incoming ones included. */
  readonly maxWaiting: number;
  /** Tokens that end a sequence. */
  readonly endOfGenerationTokens: ReadonlySet<number>;
  /**
   * Whether sequences that this worker computes and incoming ones wait in one order, so that neither overtakes the other: the
   * default. Otherwise an incoming one takes room as soon as there is any.
   */
  readonly ordersIncoming?: boolean;
  /**
   * An incoming sequence that finds no room asks again after this many milliseconds, for itself, instead of getting room in its turn.
   * Absent: in turn, as soon as there is any. Splitwise's simulator asks every second.
   */
  readonly incomingRetryMs?: number;
  /** Absent: KV is on the device or nowhere. */
  readonly onboarder?: OnboardPort;
  /** The most steps that one plan may stand for; 1, the default, for engines that run one step at a time. */
  readonly maxStepsPerPlan?: number;
}
