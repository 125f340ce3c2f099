import type { PerfModel } from "./perf-model.ts";

/** KV of a prompt that does not grow with it: sliding windows and recurrent states, of all layers and devices, without copies. */
export interface HandoffTail {
  /** Positions before the prompt's end that windowed layers keep. */
  readonly windowTokens: number;
  /** Bytes of all windowed layers for each of them. */
  readonly windowBytesPerToken: number;
  /** Recurrent states as they are at the prompt's end. */
  readonly stateBytes: number;
}

/** Bytes that a handoff moves for the tokens [start, end) of a prompt of `promptTokens`. States go with the last of them. */
export function handoffBytes(
  perf: Pick<PerfModel, "kvBytesPerToken" | "handoffTail">,
  start: number,
  end: number,
  promptTokens: number,
): number {
  const { kvBytesPerToken, handoffTail } = perf;
  const bytes = (end - start) * kvBytesPerToken;
  if (handoffTail === undefined) return bytes;
  const { windowTokens, windowBytesPerToken, stateBytes } = handoffTail;
  const inWindow = Math.max(0, end - Math.max(start, promptTokens - windowTokens));
  return bytes + inWindow * windowBytesPerToken + (end >= promptTokens ? stateBytes : 0);
}
