import { parseScenarioFile } from "../../src/protocol/scenario-file.ts";
import { PRODUCTION_PARTS } from "../../src/twin/production-parts.ts";

/**
 * The share of prompt tokens of a scenario's workload that one cache without bounds would have, if every prompt were computed before the
 * next one comes: no placement can find more. Identities name whole blocks of the trace.
 */
export function unlimitedHitRate(scenario: string, seed: number): number {
  const { workload } = parseScenarioFile(scenario, "scenario", []).values;
  const source = PRODUCTION_PARTS.workload(workload, seed, process.cwd());
  const seen = new Set<string>();
  let tokens = 0;
  let hits = 0;
  while (source.nextArrivalMs !== Number.POSITIVE_INFINITY) {
    const nowMs = source.nextArrivalMs;
    const request = source.take();
    const { blocks, inputTokens } = request;
    tokens += inputTokens;
    // The last token is always computed.
    const numFull = blocks === null ? 0 : Math.floor((inputTokens - 1) / blocks.blockTokens);
    let numHits = 0;
    let isHit = true;
    for (const [i, id] of (blocks?.ids ?? []).entries()) {
      const name = `${blocks!.scope} ${i} ${id}`;
      isHit &&= seen.has(name) && i < numFull;
      if (isHit) numHits++;
      seen.add(name);
    }
    hits += numHits * (blocks?.blockTokens ?? 0);
    source.ended(request, nowMs);
  }
  source.close?.();
  return hits / tokens;
}
