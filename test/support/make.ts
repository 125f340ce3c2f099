import { GREEDY, type Request, type SamplingParams } from "../../src/core/request.ts";
import { Sequence } from "../../src/core/sequence.ts";

export interface RequestOverrides
  extends Partial<Omit<Request, "promptTokens" | "resumedTokens" | "sampling">> {
  readonly prompt?: ArrayLike<number>;
  readonly resumed?: ArrayLike<number>;
  readonly sampling?: Partial<SamplingParams>;
}

/** A valid request; name only what the test is about. */
export function makeRequest(overrides: RequestOverrides = {}): Request {
  const { prompt, resumed, sampling, ...rest } = overrides;
  return {
    id: "request",
    epoch: 0,
    promptTokens: Int32Array.from(prompt ?? [1, 2, 3]),
    resumedTokens: Int32Array.from(resumed ?? []),
    maxOutputTokens: 16,
    minOutputTokens: 0,
    ignoreEndOfGeneration: false,
    cacheSalt: "",
    priority: 0,
    ...rest,
    sampling: { ...GREEDY, ...sampling },
  };
}

export function makeSequence(
  overrides: RequestOverrides & { order?: number; stopsAfterPrefill?: boolean } = {},
): Sequence {
  const { order = 0, stopsAfterPrefill = false, ...request } = overrides;
  return new Sequence(makeRequest(request), { order, stopsAfterPrefill });
}

/** Tokens `start`, `start + 1`, … */
export function tokenRange(start: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => start + i);
}
