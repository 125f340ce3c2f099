import { LearnedSteps } from "../../src/core/router/priced/learned-steps.ts";
import { StepPrices } from "../../src/core/router/priced/step-prices.ts";
import { parseScenarioFile } from "../../src/protocol/scenario-file.ts";
import { PRODUCTION_PARTS } from "../../src/twin/production-parts.ts";
import { Simulation } from "../../src/twin/simulate.ts";
import type { WorkloadRequest } from "../../src/twin/workload/workload.ts";

/** What no placement can do better than, on a fleet whose workers compute a prompt each. */
export interface Unlimited {
  /** Share of prompt tokens found in the cache. */
  readonly hitRate: number;
  /** 99th percentile of the time to first token. */
  readonly ttftP99Ms: number;
  /** Requests per second whose first token can come in time, of those that arrive; null where arrivals wait for answers. */
  readonly goodputPerS: number | null;
}

/**
 * A scenario's workload with one cache without bounds, in which every prompt is before the next one comes, and for each prompt an idle
 * worker that computes what is not cached. Identities name whole blocks of the trace.
 *
 * @param ttftMs what is in time
 */
export function unlimitedCache(scenario: string, seed: number, ttftMs: number): Unlimited {
  const file = parseScenarioFile(scenario, "scenario", []);
  const source = PRODUCTION_PARTS.workload(file.values.workload, seed, process.cwd());
  const [fleet] = Object.keys(file.values.fleets);
  const [worker] = new Simulation(file, PRODUCTION_PARTS, process.cwd()).plan(fleet!).workers;
  const { perf, tokenBudget } = worker!;
  const prices = new StepPrices(perf, new LearnedSteps());
  const seen = new Set<string>();
  const ttftsMs: number[] = [];
  let tokens = 0;
  let hits = 0;
  let lastArrivalMs = 0;
  while (source.nextArrivalMs !== Number.POSITIVE_INFINITY) {
    lastArrivalMs = source.nextArrivalMs;
    const request = source.take();
    const numHits = hitTokens(request, seen);
    tokens += request.inputTokens;
    hits += numHits;
    let prefillMs = 0;
    for (let at = numHits; at < request.inputTokens; at += tokenBudget)
      prefillMs += prices.baseMs(at, Math.min(tokenBudget, request.inputTokens - at), 0, 0);
    // Workers refuse what their KV can't hold, so that no time is measured.
    if (request.inputTokens < perf.kvCapacityTokens - request.outputTokens) ttftsMs.push(prefillMs);
    source.ended(request, lastArrivalMs);
  }
  source.close?.();
  const numInTime = ttftsMs.filter((ms) => ms <= ttftMs).length;
  ttftsMs.sort((a, b) => a - b);
  return {
    hitRate: hits / tokens,
    ttftP99Ms: ttftsMs[Math.floor(0.99 * (ttftsMs.length - 1))]!,
    goodputPerS: file.values.workload.kind === "trace" ? (1000 * numInTime) / lastArrivalMs : null,
  };
}

/** Tokens of a prompt that the cache has; it has all of them afterwards. */
function hitTokens({ blocks, inputTokens }: WorkloadRequest, seen: Set<string>): number {
  if (blocks === null) return 0;
  // The last token is always computed.
  const numFull = Math.floor((inputTokens - 1) / blocks.blockTokens);
  let numHits = 0;
  let isHit = true;
  for (const [i, id] of blocks.ids.entries()) {
    const name = `${blocks.scope} ${i} ${id}`;
    isHit &&= seen.has(name) && i < numFull;
    if (isHit) numHits++;
    seen.add(name);
  }
  return numHits * blocks.blockTokens;
}
