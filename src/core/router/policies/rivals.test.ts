import { describe, expect, it } from "vitest";
import { chainOf, PlacementFleet } from "../../../../test/support/placement-fleet.ts";
import { createPlacementPolicy, type PlacementOptions } from "./registry.ts";

function fleetOf(
  name: string,
  ids: readonly string[],
  options: Partial<PlacementOptions> = {},
): PlacementFleet {
  const fleet = new PlacementFleet(createPlacementPolicy(name, { seed: 3, ...options }));
  for (const id of ids) fleet.add(id, { kvTokensTotal: 100_000 });
  return fleet;
}

/** A worker says that it has these blocks. */
function tell(
  fleet: PlacementFleet,
  worker: string,
  hashes: Int32Array,
  tier: "device" | "host" | "disk" = "device",
): void {
  const events = [{ kind: "stored", tier, parent: null, hashes } as const];
  fleet.kv(worker, { sequence: 1, isSnapshot: true, events });
}

const prompt = (numTokens: number, ...blocks: number[]) => ({
  numPromptTokens: numTokens,
  promptBlockHashes: chainOf(...blocks),
});

describe("round-robin", () => {
  it("takes each half in turn by itself", () => {
    const fleet = fleetOf("round-robin", ["p0", "p1", "p2", "d0", "d1"]);
    const pairs = Array.from({ length: 4 }, () => fleet.place()!);
    expect(pairs.map(({ prefillWorker }) => prefillWorker)).toEqual(["p0", "p1", "p2", "p0"]);
    expect(pairs.map(({ decodeWorker }) => decodeWorker)).toEqual(["d0", "d1", "d0", "d1"]);
  });
});

describe("power-of-two", () => {
  it("never takes the fullest of the fleet", () => {
    const fleet = fleetOf("power-of-two", ["b0", "b1", "b2"]);
    for (const id of ["b0", "b0", "b0", "b1"]) {
      fleet.ledger.book({ prefillWorker: id, decodeWorker: id, reason: "aggregated" }, 10, 10);
    }
    const before = fleet.ledger.views().map(({ numDecodes }) => numDecodes);
    expect(before).toEqual([3, 1, 0]);
    expect([fleet.place(), fleet.place()].map((one) => one!.decodeWorker)).not.toContain("b0");
  });
});

describe("least-loaded", () => {
  it("weighs waiting tokens against KV pressure", () => {
    const fleet = fleetOf("least-loaded", ["b0", "b1"]);
    const on = (id: string) => ({ prefillWorker: id, decodeWorker: id, reason: "aggregated" }) as const;
    // b0 holds 60 % of its KV: 0.15 × 0.6 / 0.4 = 0.225 s; b1 has 400 tokens to compute: 0.2 s and next to no pressure.
    fleet.ledger.prefilled(fleet.ledger.book(on("b0"), 60_000, 10));
    fleet.ledger.book(on("b1"), 400, 10);
    expect(fleet.place()!.decodeWorker).toBe("b1");
    fleet.ledger.book(on("b1"), 100, 10);
    expect(fleet.place()!.decodeWorker).toBe("b0");
  });
});

describe("cache-aware", () => {
  it("follows more than 0.3 of a prompt, and the fewest requests otherwise", () => {
    const fleet = fleetOf("cache-aware", ["b0", "b1"]);
    expect(fleet.place(prompt(160, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10))!.decodeWorker).toBe("b0");
    expect(fleet.place(prompt(160, 1, 2, 3, 4, 15, 16, 17, 18, 19, 20))!.decodeWorker).toBe("b0");
    expect(fleet.place(prompt(160, 1, 2, 3, 24, 25, 26, 27, 28, 29, 30))!.decodeWorker).toBe("b1");
  });

  it("gives up affinity when load is out of balance", () => {
    const fleet = fleetOf("cache-aware", ["b0", "b1"]);
    const chosen = Array.from({ length: 66 }, () => fleet.place(prompt(48, 1, 2, 3))!.decodeWorker);
    expect(new Set(chosen.slice(0, 65))).toEqual(new Set(["b0"]));
    expect(chosen[65]).toBe("b1");
  });
});

describe("dynamo", () => {
  it("adds what is left to prefill and the decode blocks, discounting tiers", () => {
    const fleet = fleetOf("dynamo", ["b0", "b1", "b2"]);
    const chain = chainOf(1, 2, 3, 4, 5, 6, 7, 8);
    // Costs of 160 tokens in blocks of 16: prefill 10 less the credit, and decode 10 on top of what is placed.
    tell(fleet, "b0", chain);
    tell(fleet, "b1", chain, "host");
    tell(fleet, "b2", chain, "disk");
    const asked = { numPromptTokens: 160, promptBlockHashes: chainOf(1, 2, 3, 4, 5, 6, 7, 8, 9, 10) };
    // 12 on b0, 14 on b1, 18 on b2.
    expect(fleet.place(asked)!.decodeWorker).toBe("b0");
    // Now 2 more blocks to prefill and 10 more to decode on b0: 24, and b1 is the cheapest.
    expect(fleet.place(asked)!.decodeWorker).toBe("b1");
    expect(fleet.place(asked)!.decodeWorker).toBe("b2");
    // 30 on b2 for 8 left blocks of the last one; b0 is the cheapest again.
    expect(fleet.place(asked)!.decodeWorker).toBe("b0");
  });

  it("decides decode by its blocks alone", () => {
    const fleet = fleetOf("dynamo", ["p0", "d0", "d1"]);
    tell(fleet, "d0", chainOf(1, 2));
    fleet.ledger.book({ prefillWorker: "p0", decodeWorker: "d0", reason: "split" }, 10, 10);
    expect(fleet.place(prompt(40, 1, 2))).toMatchObject({ prefillWorker: "p0", decodeWorker: "d1" });
  });

  it("draws the more evenly the higher the temperature", () => {
    const share = (temperature: number): number => {
      const fleet = fleetOf("dynamo", ["b0", "b1"], { temperature });
      tell(fleet, "b0", chainOf(1, 2));
      tell(fleet, "b1", chainOf(9));
      let hits = 0;
      for (let i = 0; i < 400; i++) {
        const decision = fleet.place({ requestId: "one", ...prompt(40, 1, 2) })!;
        if (decision.decodeWorker === "b0") hits++;
        fleet.over("one");
      }
      return hits / 400;
    };
    expect(share(0)).toBe(1);
    // Two costs are scaled to 0 and 1: the odds are exp(1 / T).
    expect(share(0.5)).toBeCloseTo(Math.exp(2) / (1 + Math.exp(2)), 1);
    expect(share(100)).toBeCloseTo(0.5, 1);
  });
});

describe("llm-d", () => {
  it("weighs the matched share with the queue", () => {
    const fleet = fleetOf("llm-d", ["b0", "b1"]);
    tell(fleet, "b0", chainOf(1, 2, 3, 4));
    expect(fleet.place(prompt(64, 1, 2, 3, 4))!.decodeWorker).toBe("b0");
    // The longest queue loses 2, as much as a whole match wins; its KV is fuller.
    fleet.ledger.setQueued("b0", 5);
    expect(fleet.place(prompt(64, 1, 2, 3, 4))!.decodeWorker).toBe("b1");
  });

  it("prefills elsewhere only what the decode worker lacks much of", () => {
    const fleet = fleetOf("llm-d", ["p0", "d0"]);
    expect(fleet.place({ numPromptTokens: 600 })).toMatchObject({ prefillWorker: "p0", reason: "split" });
    expect(fleet.place({ numPromptTokens: 500 })).toMatchObject({
      prefillWorker: "d0",
      reason: "short_prompt",
    });
  });
});

describe("prefix-hash", () => {
  it("keeps a beginning on one worker, but for 1.25 times the average load", () => {
    const fleet = fleetOf("prefix-hash", ["b0", "b1", "b2", "b3"]);
    const first = fleet.place(prompt(40, 1, 2))!.decodeWorker;
    fleet.over("r0");
    expect(fleet.place(prompt(40, 1, 2))!.decodeWorker).toBe(first);
    fleet.over("r1");
    const chosen = Array.from({ length: 8 }, () => fleet.place(prompt(40, 1, 2))!.decodeWorker);
    const counts = fleet.ledger.views().map(({ numDecodes }) => numDecodes);
    expect(chosen[0]).toBe(first);
    expect(Math.max(...counts)).toBeLessThanOrEqual(4);
    expect(new Set(chosen).size).toBe(4);
  });
});
