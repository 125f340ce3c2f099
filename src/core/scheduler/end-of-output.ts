import type { Sequence } from "../sequence.ts";
import type { SampledToken } from "./step-plan.ts";

/** Whether a token that was drawn for a sequence ends it, and so is no part of its output. */
export function endsOutput(
  { request, numOutputTokens }: Sequence,
  token: number,
  endOfGenerationTokens: ReadonlySet<number>,
): boolean {
  if (request.ignoreEndOfGeneration || numOutputTokens < request.minOutputTokens) return false;
  return endOfGenerationTokens.has(token);
}

/** Whether one of the tokens, which may be many equal ones in a row, is in the set. */
export function hasAny(tokens: readonly SampledToken[], set: ReadonlySet<number>): boolean {
  for (let i = 0; i < tokens.length; i++) {
    const { token } = tokens[i]!;
    if ((i === 0 || token !== tokens[i - 1]!.token) && set.has(token)) return true;
  }
  return false;
}
