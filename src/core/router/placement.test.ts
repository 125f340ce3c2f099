import { describe, expect, it } from "vitest";
import { placementQuery } from "../../../test/support/placement.ts";
import { FleetLedger } from "./fleet-ledger.ts";
import {
  createLoadPlacement,
  decodeRoom,
  type FleetExtremes,
  type PlacementQuery,
  prefillRoom,
  type WorkerView,
} from "./placement.ts";

function worker(id: string, overrides: Partial<WorkerView> = {}): WorkerView {
  const role = id.startsWith("p") ? "prefill" : id.startsWith("d") ? "decode" : "both";
  const load = { numPrefills: 0, numDecodes: 0, boundKvTokens: 0, numQueued: 0, numIdleSpells: 0 };
  return {
    id,
    role,
    outstandingPrefillTokens: 0,
    kvTokensTotal: 1000,
    freeKvTokens: 1000,
    ...load,
    ...overrides,
  };
}

function query(numPromptTokens: number): PlacementQuery {
  return placementQuery({ numPromptTokens, maxOutputTokens: 16 });
}

function extremesOf(workers: readonly WorkerView[]): FleetExtremes {
  const highest = (score: (worker: WorkerView) => number) =>
    workers.filter((one) => score(one) > -1e9).sort((a, b) => score(b) - score(a))[0] ?? null;
  return { leastPrefill: highest(prefillRoom), mostDecodeRoom: highest(decodeRoom) };
}

describe("load placement", () => {
  const placement = createLoadPlacement({ localPrefillBelowTokens: 32 });

  it("prefills where the fewest prompt tokens are outstanding and decodes where the most KV is free", () => {
    const workers = [
      worker("p1", { outstandingPrefillTokens: 500 }),
      worker("p2", { outstandingPrefillTokens: 100 }),
      worker("d1", { freeKvTokens: 300 }),
      worker("d2", { freeKvTokens: 700 }),
    ];
    expect(placement.place(query(100), workers, extremesOf(workers))).toEqual({
      prefillWorker: "p2",
      decodeWorker: "d2",
      reason: "split",
    });
  });

  it("keeps short prompts on the decode worker", () => {
    const decision = placement.place(
      query(31),
      [worker("p1"), worker("d1")],
      extremesOf([worker("p1"), worker("d1")]),
    );
    expect(decision).toEqual({ prefillWorker: "d1", decodeWorker: "d1", reason: "short_prompt" });
  });

  it("uses decode workers alone when no prefill worker is ready, and gives up without a decode worker", () => {
    expect(placement.place(query(900), [worker("d1")], extremesOf([worker("d1")]))?.reason).toBe(
      "no_prefill_workers",
    );
    expect(placement.place(query(900), [worker("p1")], extremesOf([worker("p1")]))).toBeNull();
    expect(placement.place(query(900), [], extremesOf([]))).toBeNull();
  });

  it("spreads equal requests over workers that do both, counting what it has placed itself", () => {
    const ledger = new FleetLedger();
    for (const id of ["b1", "b2"]) ledger.add({ id, role: "both", kvTokensTotal: 1000 });
    const chosen = Array.from({ length: 4 }, () => {
      const decision = placement.place(query(100), ledger.views(), ledger.extremes())!;
      ledger.book(decision, 100, 16);
      return decision.decodeWorker;
    });
    expect(chosen).toEqual(["b1", "b2", "b1", "b2"]);
  });
});

describe("FleetLedger", () => {
  it("takes back exactly what a booking has become, also after its worker has gone", () => {
    const ledger = new FleetLedger();
    ledger.add({ id: "p", role: "prefill", kvTokensTotal: 1000 });
    ledger.add({ id: "d", role: "decode", kvTokensTotal: 1000 });
    const booking = ledger.book({ prefillWorker: "p", decodeWorker: "d", reason: "split" }, 100, 16);
    ledger.grew(booking, 7);
    ledger.checkInvariants([booking]);
    expect(ledger.views()[1]!.freeKvTokens).toBe(893);
    ledger.prefilled(booking);
    expect(ledger.views()[0]!.outstandingPrefillTokens).toBe(0);
    ledger.remove("d");
    ledger.settle(booking);
    ledger.add({ id: "d2", role: "decode", kvTokensTotal: 500 });
    ledger.checkInvariants([]);
  });

  it("hides workers that do not accept", () => {
    const ledger = new FleetLedger();
    ledger.add({ id: "d", role: "decode", kvTokensTotal: 1000 });
    ledger.setAccepting("d", false);
    expect(ledger.views()).toEqual([]);
  });
});

describe("idle spells", () => {
  const split = { prefillWorker: "p", decodeWorker: "d", reason: "split" } as const;

  function ledgerOf(): { ledger: FleetLedger; spells: () => Record<string, number> } {
    const ledger = new FleetLedger();
    ledger.add({ id: "p", role: "prefill", kvTokensTotal: 1000 });
    ledger.add({ id: "d", role: "decode", kvTokensTotal: 1000 });
    const spells = () =>
      Object.fromEntries(ledger.views().map(({ id, numIdleSpells }) => [id, numIdleSpells]));
    return { ledger, spells };
  }

  it("count when the last prompt or output is over", () => {
    const { ledger, spells } = ledgerOf();
    const booking = ledger.book(split, 10, 5);
    ledger.prefilled(booking);
    expect(spells()).toEqual({ p: 1, d: 0 });
    ledger.handedOver(booking);
    ledger.settle(booking);
    expect(spells()).toEqual({ p: 1, d: 1 });
  });

  it("count for the worker that computed when an attempt ends early, and not for the one that waited", () => {
    const { ledger, spells } = ledgerOf();
    ledger.settle(ledger.book(split, 10, 5));
    expect(spells()).toEqual({ p: 1, d: 0 });
  });
});
