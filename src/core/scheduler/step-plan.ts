import type { FinishReason, TokenLogprobs } from "../request.ts";
import type { Sequence } from "../sequence.ts";

/** One sequence's share of a step: compute the KV of its tokens at positions [start, start + numTokens). */
export interface ScheduledChunk {
  readonly sequence: Sequence;
  /** Where its KV lies. The sequence itself may have lost it again by the time the step runs. */
  readonly slot: number;
  readonly start: number;
  readonly numTokens: number;
  /** Whether the chunk reaches the last known token, so that the next one is drawn from its logits. */
  readonly samples: boolean;
}

/** One iteration of the engine, as data. Chunks are in order of service. */
export interface StepPlan {
  /** Counts the steps of one scheduler, from 0. */
  readonly index: number;
  readonly chunks: readonly ScheduledChunk[];
  /** Sum of the chunks' tokens. */
  readonly numTokens: number;
  /**
   * How often the step may run in a row, each time one token further in every chunk, before the scheduler has to be asked
   * again: it would plan the same. More than 1 only for steps that decode every running sequence; anything that reaches the
   * worker meanwhile ends the row.
   */
  readonly maxSteps: number;
}

/** A drawn token. */
export interface SampledToken {
  readonly token: number;
  /** Present when the request asked for log probabilities. */
  readonly logprobs?: TokenLogprobs;
}

/** What the engine made of a plan. */
export type StepResult =
  /** One entry per chunk of the plan, in its order; null where the chunk does not sample. */
  | { readonly kind: "done"; readonly samples: ReadonlyArray<SampledToken | null> }
  /** The step was cut short by an abort. No chunk counts as computed; the engine holds no KV of the step. */
  | { readonly kind: "aborted" };

/** What became of one sequence in a step. */
export interface SequenceUpdate {
  readonly sequence: Sequence;
  /** The token to emit, or null when the step computed without emitting one. */
  readonly emitted: SampledToken | null;
  /** Set when the sequence ends with this step. */
  readonly finishReason: FinishReason | null;
}
