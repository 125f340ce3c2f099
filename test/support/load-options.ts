import type { LoadOptions } from "../../src/bench/options.ts";

/** Options of a small load that a test overrides where it matters: four requests of 20 tokens in and 3 out, 10 per second. */
export function loadOptionsFor(url: URL, overrides: Partial<LoadOptions> = {}): LoadOptions {
  return {
    url,
    endpoint: "completions",
    model: null,
    apiKey: null,
    arrivals: { kind: "uniform", requestsPerSecond: 10 },
    numRequests: 4,
    durationMs: null,
    inputLengths: { kind: "fixed", tokens: 20 },
    outputLengths: { kind: "fixed", tokens: 3 },
    sharedPrefixShare: 0,
    ignoreEos: true,
    temperature: 0,
    seed: 1,
    numWarmupRequests: 0,
    maxInFlight: 100,
    requestTimeoutMs: 1_000_000,
    slo: { ttftMs: null, itlMs: null, e2eMs: null },
    ...overrides,
  };
}
