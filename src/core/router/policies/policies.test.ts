import { describe, expect, it } from "vitest";
import { placementQuery } from "../../../../test/support/placement.ts";
import { FleetLedger } from "../fleet-ledger.ts";
import type { FleetExtremes, PlacementDecision, PlacementPolicy, WorkerView } from "../placement.ts";
import { createFewestRequestsPlacement } from "./fewest-requests.ts";
import { createMixedPoolPlacement } from "./mixed-pool.ts";
import { createMooncakePlacement } from "./mooncake.ts";
import { createTokenJsqPlacement } from "./token-jsq.ts";

/** A ledger with workers `p…` for prefill, `d…` for decode and `b…` for both, each with 1,000 tokens of KV. */
function ledgerOf(...ids: string[]): FleetLedger {
  const ledger = new FleetLedger();
  for (const id of ids) {
    const role = id.startsWith("p") ? "prefill" : id.startsWith("d") ? "decode" : "both";
    ledger.add({ id, role, kvTokensTotal: 1000 });
  }
  return ledger;
}

/** These policies look at every worker. */
const NO_EXTREMES: FleetExtremes = { leastPrefill: null, mostDecodeRoom: null };

function place(
  policy: PlacementPolicy,
  views: readonly WorkerView[],
  numPromptTokens: number,
  promptBlockHashes: Int32Array | null = null,
): PlacementDecision {
  return policy.place(placementQuery({ numPromptTokens, promptBlockHashes }), views, NO_EXTREMES)!;
}

describe("token-jsq", () => {
  it("counts prompt tokens until they are computed, and one token for each decode", () => {
    const ledger = ledgerOf("b1", "b2");
    const policy = createTokenJsqPlacement();
    const first = ledger.book(place(policy, ledger.views(), 300), 300, 100);
    expect(first.prefillWorker).toBe("b1");
    ledger.book(place(policy, ledger.views(), 200), 200, 100);
    expect(place(policy, ledger.views(), 10).prefillWorker).toBe("b2");
    ledger.prefilled(first);
    expect(place(policy, ledger.views(), 10).prefillWorker).toBe("b1");
  });
});

describe("fewest-requests", () => {
  it("counts requests, not tokens, at both halves", () => {
    const ledger = ledgerOf("p1", "p2", "d1", "d2");
    const policy = createFewestRequestsPlacement();
    const pairs = [900, 1, 1, 1].map((numTokens) => {
      const decision = place(policy, ledger.views(), numTokens);
      ledger.book(decision, numTokens, 100);
      return `${decision.prefillWorker} ${decision.decodeWorker}`;
    });
    expect(pairs).toEqual(["p1 d1", "p2 d2", "p1 d1", "p2 d2"]);
  });

  it("places on one worker when nobody prefills only", () => {
    expect(place(createFewestRequestsPlacement(), ledgerOf("d1").views(), 5)).toEqual({
      prefillWorker: "d1",
      decodeWorker: "d1",
      reason: "no_prefill_workers",
    });
  });
});

describe("mixed-pool", () => {
  it("takes a token machine for prompts while the prompt queue is long, and gives it back when it is idle", () => {
    const ledger = ledgerOf("p1", "d1", "d2");
    const policy = createMixedPoolPlacement({ maxPendingTokens: 400 });
    const book = (numTokens: number) => {
      const decision = place(policy, ledger.views(), numTokens);
      return ledger.book(decision, numTokens, 100);
    };
    expect(book(300).prefillWorker).toBe("p1");
    // Long, but nobody waits behind the step that is under way.
    const second = book(300);
    expect(second.prefillWorker).toBe("p1");
    ledger.setQueued("p1", 1);
    const helped = book(300);
    // Both choices fall on the emptiest token machine, which then serves the request alone.
    expect([helped.prefillWorker, helped.decodeWorker]).toEqual(["d1", "d1"]);
    const next = place(policy, ledger.views(), 10);
    expect([next.prefillWorker, next.decodeWorker]).toEqual(["d1", "d2"]);
    ledger.prefilled(helped);
    ledger.settle(helped);
    // The helper has run out of work: it is the last of the token machines again, so that another one is taken.
    expect(place(policy, ledger.views(), 10).prefillWorker).toBe("d2");
  });

  it("counts decodes of a prompt under way as a queue where it is told to", () => {
    const workersOf = (countsLocalDecodes: boolean) => {
      const ledger = ledgerOf("p1", "d1");
      const policy = createMixedPoolPlacement({ maxPendingTokens: 150, countsLocalDecodes });
      ledger.book(place(policy, ledger.views(), 100), 100, 10);
      ledger.setQueued("p1", 1);
      // p1 has a queue: d1 takes the prompt and its decodes.
      const local = place(policy, ledger.views(), 100);
      expect([local.prefillWorker, local.decodeWorker]).toEqual(["d1", "d1"]);
      ledger.book(local, 100, 10);
      return { ledger, policy };
    };
    const quiet = workersOf(false);
    expect(place(quiet.policy, quiet.ledger.views(), 100)).toMatchObject({ prefillWorker: "d1" });
    const counting = workersOf(true);
    // No machine without a queue is left that could be mixed in: the fewest pending tokens decide.
    expect(place(counting.policy, counting.ledger.views(), 100)).toMatchObject({ prefillWorker: "p1" });
    counting.policy.observe!(
      { kind: "prefilled", requestId: placementQuery().requestId, numCachedTokens: 0 },
      0,
    );
    expect(place(counting.policy, counting.ledger.views(), 100)).toMatchObject({ prefillWorker: "d1" });
  });

  it("takes a prompt machine for decodes when memory is full by the bound of the outputs", () => {
    const ledger = ledgerOf("p1", "p2", "d1");
    const policy = createMixedPoolPlacement({ maxPendingTokens: 4000 });
    ledger.book(place(policy, ledger.views(), 500), 500, 100);
    const decision = place(policy, ledger.views(), 500);
    expect(decision).toEqual({ prefillWorker: "p2", decodeWorker: "p2", reason: "overload" });
  });

  it("follows workers that come and go", () => {
    const ledger = ledgerOf("p1", "d1");
    const policy = createMixedPoolPlacement({ maxPendingTokens: 400 });
    place(policy, ledger.views(), 5);
    ledger.remove("p1");
    expect(place(policy, ledger.views(), 5)).toMatchObject({ prefillWorker: "d1", decodeWorker: "d1" });
    ledger.add({ id: "p2", role: "prefill", kvTokensTotal: 1000 });
    expect(place(policy, ledger.views(), 5).prefillWorker).toBe("p2");
    ledger.remove("p2");
    ledger.remove("d1");
    expect(policy.place(placementQuery(), [], NO_EXTREMES)).toBeNull();
  });
});

describe("mooncake", () => {
  const prompt = (...blocks: number[]) => Int32Array.from(blocks.flatMap((block) => [block, 0, 0, 0]));
  const ask = (policy: PlacementPolicy, ledger: FleetLedger, requestId: string, blocks: Int32Array) =>
    policy.place(
      placementQuery({ requestId, numPromptTokens: blocks.length, promptBlockHashes: blocks }),
      ledger.views(),
      NO_EXTREMES,
    )!.prefillWorker;

  it("goes where a prefix lies unless what waits there outweighs it", () => {
    const ledger = ledgerOf("p1", "p2", "d1");
    const policy = createMooncakePlacement({ maxBlocksPerWorker: 100 });
    expect(ask(policy, ledger, "a", prompt(1, 2, 3, 4))).toBe("p1");
    expect(ask(policy, ledger, "b", prompt(9, 8, 7, 6))).toBe("p2");
    for (const requestId of ["a", "b"])
      policy.observe!({ kind: "prefilled", requestId, numCachedTokens: 0 }, 0);
    expect(ask(policy, ledger, "c", prompt(1, 2, 3, 5))).toBe("p1");
    // Four tokens of c wait at p1, twelve are cached there.
    expect(ask(policy, ledger, "d", prompt(1, 2, 3, 6))).toBe("p1");
    expect(ask(policy, ledger, "e", prompt(1, 2, 3, 7, 8, 9))).toBe("p1");
    expect(ask(policy, ledger, "f", prompt(1, 2, 3, 10))).toBe("p2");
  });

  it("forgets the blocks that were sent longest ago", () => {
    const ledger = ledgerOf("p1", "p2", "d1");
    const policy = createMooncakePlacement({ maxBlocksPerWorker: 2 });
    const settle = (requestId: string) =>
      policy.observe!({ kind: "over", requestId, numCachedTokens: null }, 0);
    ask(policy, ledger, "a", prompt(1, 2));
    settle("a");
    ask(policy, ledger, "b", prompt(1, 3, 4));
    settle("b");
    // p1 remembers 3 and 4 alone; without block 1 in front they are no prefix.
    ask(policy, ledger, "c", prompt(7));
    expect(ask(policy, ledger, "d", prompt(1, 3))).toBe("p2");
  });

  it("believes workers that say what they have", () => {
    const ledger = ledgerOf("p1", "p2", "d1");
    const policy = createMooncakePlacement({ maxBlocksPerWorker: 100 });
    const stored = { kind: "stored", tier: "host", parent: null, hashes: prompt(1, 2) } as const;
    policy.observe!(
      { kind: "kv", worker: "p2", batch: { sequence: 1, isSnapshot: true, events: [stored] } },
      0,
    );
    expect(ask(policy, ledger, "a", prompt(1, 2, 3))).toBe("p2");
    policy.observe!({ kind: "gone", worker: "p2" }, 0);
    expect(ask(policy, ledger, "b", prompt(1, 2, 3))).toBe("p1");
  });
});
