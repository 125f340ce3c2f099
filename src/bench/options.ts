import type { LengthDistribution } from "../core/util/length-distribution.ts";
import type { Arrivals } from "./arrivals.ts";

/** Most requests of one run: each keeps a record of its times until the report is made. */
export const MAX_REQUESTS = 500_000;

/** Most requests in flight. Each has a connection of its own. */
export const MAX_IN_FLIGHT = 20_000;

/** Highest mean arrival rate, in requests per second. */
export const MAX_RATE = 10_000;

/** Longest run. */
export const MAX_DURATION_MS = 24 * 3_600_000;

/** What a request has to stay within to count for goodput. Null: no bound. */
export interface Slo {
  /** From the scheduled arrival. */
  readonly ttftMs: number | null;
  /** Mean gap between the content chunks of the request. */
  readonly itlMs: number | null;
  /** From the scheduled arrival. */
  readonly e2eMs: number | null;
}

/** One run of the load generator. */
export interface LoadOptions {
  /** Server without `/v1`: `http://127.0.0.1:8080`. */
  readonly url: URL;
  readonly endpoint: "completions" | "chat";
  /** Null: the first model that the server lists. */
  readonly model: string | null;
  /** Sent as bearer token. */
  readonly apiKey: string | null;
  readonly arrivals: Arrivals;
  /** Arrivals stop after this many requests. */
  readonly numRequests: number;
  /** Arrivals stop after this time, if it comes first. Null: only the count ends the run. */
  readonly durationMs: number | null;
  /** Prompt tokens. */
  readonly inputLengths: LengthDistribution;
  /** Output tokens: sent as `max_tokens`, and as `min_tokens` if the length is to be exact. */
  readonly outputLengths: LengthDistribution;
  /** Leading share of every prompt that all prompts have in common, in [0, 1]. */
  readonly sharedPrefixShare: number;
  /** Sends `ignore_eos` and `min_tokens` (vLLM's extensions), so that every output has its full length. */
  readonly ignoreEos: boolean;
  readonly temperature: number;
  readonly seed: number;
  /** Requests before the measured ones; they are not in the report. */
  readonly numWarmupRequests: number;
  /** Open-loop arrivals beyond this many requests in flight are not sent but counted as dropped. */
  readonly maxInFlight: number;
  /** From sending a request until its last byte. */
  readonly requestTimeoutMs: number;
  readonly slo: Slo;
}

/** A run that cannot start; the message says what to do. */
export class BenchError extends Error {
  override name = "BenchError";
  readonly code = "bench_failed";
}
