import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ListObserver, twinSpec, twinWorker, workloadRequest } from "../../../test/support/twin.ts";
import type { PlacementPolicy } from "../../core/router/placement.ts";
import { createPlacementPolicy } from "../../core/router/policies/registry.ts";
import { ListSource } from "../workload/list-source.ts";
import type { WorkloadRequest } from "../workload/workload.ts";
import { runTwin } from "./run-twin.ts";

const BLOCK_TOKENS = 16;
/** Policies that look at caches, beside the plain one. Not those that place by a hash alone: it is another one for another prompt. */
const PLACEMENTS = ["priced", "load", "mooncake"];

/** Time to first token and cached tokens of every request, on two prefill workers and one that decodes. */
function run(placement: PlacementPolicy, requests: readonly WorkloadRequest[]) {
  const observer = new ListObserver();
  const workers = [
    twinWorker({ id: "p1", endpoint: "p1", role: "prefill" }),
    twinWorker({ id: "p2", endpoint: "p2", role: "prefill" }),
    twinWorker({ id: "d", endpoint: "d", role: "decode" }),
  ];
  runTwin(twinSpec({ placement, workers, checks: false }), new ListSource(requests), observer);
  return new Map(
    [...observer.outcomes].map(([id, { ttftMs, numCachedTokens }]) => [id, { ttftMs, numCachedTokens }]),
  );
}

const request = fc.record({
  gapMs: fc.nat(60),
  /** Which of a few texts the prompt begins with. */
  text: fc.nat(3),
  numBlocks: fc.integer({ min: 1, max: 20 }),
  outputTokens: fc.integer({ min: 1, max: 20 }),
  isProbe: fc.boolean(),
});

describe("tenants in the twin", () => {
  it.each(PLACEMENTS)("cannot tell another tenant's prompt from one never seen: %s", (name) => {
    let numHits = 0;
    fc.assert(
      fc.property(fc.array(request, { minLength: 4, maxLength: 12 }), (script) => {
        /** Bob probes with Ann's texts, or with texts that nobody has sent. */
        const requestsOf = (probeWith: "Ann's" | "fresh") => {
          let arrivalMs = 0;
          return script.map(({ gapMs, text, numBlocks, outputTokens, isProbe }, i) => {
            arrivalMs += gapMs;
            const words = isProbe && probeWith === "fresh" ? 1000 + text : text;
            return workloadRequest({
              ...{ id: `r${i}`, arrivalMs, outputTokens, tenant: isProbe ? "bob" : "ann" },
              inputTokens: numBlocks * BLOCK_TOKENS + 1,
              blocks: {
                blockTokens: BLOCK_TOKENS,
                scope: "",
                ids: Array.from({ length: numBlocks }, (__, at) => 100 * words + at),
              },
            });
          });
        };
        const probing = run(createPlacementPolicy(name), requestsOf("Ann's"));
        expect(probing).toEqual(run(createPlacementPolicy(name), requestsOf("fresh")));
        for (const { numCachedTokens } of probing.values()) numHits += numCachedTokens > 0 ? 1 : 0;
      }),
      { numRuns: 40 },
    );
    // Each tenant does find its own.
    expect(numHits).toBeGreaterThan(20);
  });
});
