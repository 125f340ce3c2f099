import { Agent } from "undici";
import { monotonicClock } from "../../src/bench/clock.ts";
import { callCompletion } from "../../src/bench/completion-call.ts";
import type { ResponseTrace } from "../../src/bench/record.ts";

const TIMEOUT_MS = 120_000;
const agent = new Agent({ connections: 256, pipelining: 1, bodyTimeout: 0, headersTimeout: 0 });

/** Streams one completion of exactly `max_tokens` tokens; throws when it fails. */
export async function streamCompletion(
  origin: string,
  body: { model: string; prompt: readonly number[] | string; max_tokens: number },
): Promise<ResponseTrace> {
  const request = {
    origin,
    path: "/v1/completions",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      ...body,
      temperature: 0,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    }),
    timeoutMs: TIMEOUT_MS,
  };
  const trace = await callCompletion(agent, request, monotonicClock, new AbortController().signal);
  if (trace.failure !== null) throw new Error(`${trace.failure.kind}: ${trace.failure.message}`);
  return trace;
}

/** Gaps between the content chunks of a response, in milliseconds. */
export function gapsOf({ contentTimesMs }: ResponseTrace): number[] {
  return contentTimesMs.slice(1).map((timeMs, i) => timeMs - contentTimesMs[i]!);
}
