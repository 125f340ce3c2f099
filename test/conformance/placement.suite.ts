import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { PlacementDecision, PlacementPolicy } from "../../src/core/router/placement.ts";
import { chainOf, PlacementFleet } from "../support/placement-fleet.ts";

export interface PlacementSuiteOptions {
  /** Whether the policy gives workers the other role when it sees fit. */
  readonly mixesRoles?: boolean;
  /** Fleets that it spreads load over: all of one kind, or workers for prefill and workers for decode. */
  readonly layouts?: ReadonlyArray<"aggregated" | "split">;
}

const BLOCK_TOKENS = 16;
const WORKERS = ["p0", "p1", "p2", "d0", "d1", "d2", "b0", "b1"];
/** Of them, those that are there from the beginning. */
const FIRST_WORKERS = ["p0", "p1", "d0", "b0"];

/** Something that happens to a fleet. Names are drawn from a few, so that they meet. */
const eventArbitrary = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom("add", "remove", "drain"),
      worker: fc.constantFrom(...WORKERS),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("place"),
      blocks: fc.array(fc.integer({ min: 0, max: 1 }), { maxLength: 8 }),
      extraTokens: fc.integer({ min: 0, max: BLOCK_TOKENS - 1 }),
      hashes: fc.boolean(),
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constantFrom("prefilled", "over"), at: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("stray"), at: fc.nat(20), isOver: fc.boolean() }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("kv"),
      worker: fc.constantFrom(...WORKERS, "stranger"),
      tier: fc.constantFrom("device", "device", "host", "disk"),
      change: fc.constantFrom("stored", "stored", "removed", "cleared"),
      blocks: fc.array(fc.integer({ min: 0, max: 1 }), { minLength: 1, maxLength: 8 }),
      isSnapshot: fc.boolean(),
      skips: fc.integer({ min: 0, max: 9 }).map((one) => one === 0),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("steps"),
      worker: fc.constantFrom(...WORKERS, "stranger"),
      ms: fc.double({ min: 0, max: 1e6, noNaN: true }),
      numPrefillTokens: fc.integer({ min: 0, max: 512 }),
      numDecodes: fc.integer({ min: 0, max: 16 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("transfer"),
      from: fc.constantFrom(...WORKERS),
      to: fc.constantFrom(...WORKERS, "stranger"),
      bytes: fc.integer({ min: 0, max: 1e9 }),
      ms: fc.double({ min: 0, max: 1e6, noNaN: true }),
    }),
  },
);
type Happening = typeof eventArbitrary extends fc.Arbitrary<infer T> ? T : never;

/** What every placement policy promises, whatever it goes by. `create` makes a fresh one, always with the same seed. */
export function placementSuite(
  name: string,
  create: () => PlacementPolicy,
  { mixesRoles = false, layouts = ["aggregated", "split"] }: PlacementSuiteOptions = {},
): void {
  describe(name, () => {
    it("goes by its name", () => {
      expect(create().name).toBe(name);
    });

    it("gives up without a worker, and places again when one has come", () => {
      const fleet = new PlacementFleet(create());
      expect(fleet.place()).toBeNull();
      fleet.add("d1");
      expect(fleet.place()).toMatchObject({ prefillWorker: "d1", decodeWorker: "d1" });
      fleet.remove("d1");
      expect(fleet.place()).toBeNull();
    });

    if (!mixesRoles) {
      it("gives up without a worker that decodes", () => {
        const fleet = new PlacementFleet(create()).add("p1").add("p2");
        expect(fleet.place({ numPromptTokens: 900 })).toBeNull();
      });
    }

    it("keeps to ready workers and their roles, with and without hashes, whoever comes and goes", () => {
      fc.assert(
        fc.property(fc.array(eventArbitrary, { maxLength: 120 }), (script) => {
          run(create(), script, (decision, query, fleet) => check(decision, query, fleet, mixesRoles));
        }),
      );
    });

    it("fetches, if at all, whole blocks of the prompt from a worker that has them and takes requests", () => {
      const fleet = new PlacementFleet(create());
      const facts = { kvBytesPerToken: 1, kvTokensTotal: 1e6, maxRunning: 64 };
      for (const id of ["p0", "p1", "d0"]) fleet.add(id, facts);
      const chain = chainOf(...Array.from({ length: 64 }, (_, i) => i));
      const stored = { kind: "stored", tier: "device", parent: null, hashes: chain } as const;
      fleet.kv("p1", { sequence: 1, isSnapshot: false, events: [stored] });
      const numFetches = (): number => {
        let count = 0;
        for (let i = 0; i < 32; i++) {
          fleet.nowMs += 7;
          const query = { numPromptTokens: 64 * BLOCK_TOKENS + (i % 16), promptBlockHashes: chain };
          const decision = fleet.place(query);
          check(decision, query, fleet, mixesRoles);
          count += decision?.candidates?.filter(({ fetch }) => fetch !== null).length ?? 0;
        }
        for (const id of [...fleet.placed.keys()]) fleet.over(id);
        return count;
      };
      expect(numFetches() > 0).toBe(create().fetches === true);
      fleet.ledger.setAccepting("p1", false);
      expect(numFetches()).toBe(0);
    });

    it("decides the same after the same history", () => {
      fc.assert(
        fc.property(fc.array(eventArbitrary, { maxLength: 80 }), (script) => {
          const [first, second] = [0, 1].map(() => {
            const decisions: Array<PlacementDecision | null> = [];
            run(create(), script, (decision) => decisions.push(structuredClone(decision)));
            return decisions;
          });
          expect(first).toEqual(second);
        }),
        { numRuns: 30 },
      );
    });

    for (const [layout, withHashes] of layouts.flatMap((one) => [
      [one, true] as const,
      [one, false] as const,
    ])) {
      it(`spreads equal load over equal workers, ${layout}, ${withHashes ? "with" : "without"} hashes`, () => {
        const fleet = new PlacementFleet(create());
        const ids =
          layout === "split" ? ["p0", "p1", "p2", "p3", "d0", "d1", "d2", "d3"] : ["b0", "b1", "b2", "b3"];
        const counts = new Map(ids.map((id) => [id, 0]));
        for (const id of ids) fleet.add(id, { kvTokensTotal: 100_000 });
        const count = (id: string) => counts.set(id, counts.get(id)! + 1);
        for (let i = 0; i < 800; i++) {
          fleet.nowMs += 10;
          const promptBlockHashes = withHashes ? chainOf(...Array.from({ length: 32 }, () => i)) : null;
          const decision = fleet.place({ requestId: `r${i}`, numPromptTokens: 520, promptBlockHashes })!;
          count(decision.decodeWorker);
          if (decision.prefillWorker !== decision.decodeWorker) count(decision.prefillWorker);
          // Sixteen requests are prefilled at any time and as many decoded.
          fleet.prefilled(`r${i - 16}`, 0);
          fleet.over(`r${i - 32}`);
        }
        for (const kind of new Set(ids.map((id) => id[0]))) {
          const numbers = ids.filter((id) => id[0] === kind).map((id) => counts.get(id)!);
          const mean = numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
          expect(Math.min(...numbers)).toBeGreaterThanOrEqual(mean / 2);
          expect(Math.max(...numbers)).toBeLessThanOrEqual(1.5 * mean);
        }
      });
    }
  });
}

function check(
  decision: PlacementDecision | null,
  query: { numPromptTokens: number },
  fleet: PlacementFleet,
  mixesRoles: boolean,
): void {
  const ready = new Map(fleet.ledger.views().map(({ id, role }) => [id, role]));
  const decoders = [...ready.values()].filter((role) => role !== "prefill");
  if (decision === null) {
    expect(mixesRoles ? ready.size : decoders.length).toBe(0);
    return;
  }
  const { prefillWorker, decodeWorker, fetch, candidates = [] } = decision;
  const { numPromptTokens } = query;
  expect(ready.has(prefillWorker)).toBe(true);
  expect(ready.has(decodeWorker)).toBe(true);
  if (!mixesRoles) {
    expect(ready.get(decodeWorker)).not.toBe("prefill");
    // A decode worker prefills for nobody but itself.
    if (prefillWorker !== decodeWorker) expect(ready.get(prefillWorker)).not.toBe("decode");
  }
  if (candidates.length > 0) {
    expect(candidates[0]).toMatchObject({ prefillWorker, decodeWorker, fetch: fetch ?? null });
    const least = Math.min(...candidates.map(({ cost }) => cost));
    expect(candidates[0]!.cost).toBe(least);
  }
  for (const candidate of [{ prefillWorker, fetch: fetch ?? null }, ...candidates]) {
    if (candidate.fetch === null) continue;
    expect(candidate.fetch.from).not.toBe(candidate.prefillWorker);
    // Nor does one that drains, which is not among the views.
    expect(ready.has(candidate.fetch.from)).toBe(true);
    expect(candidate.fetch.numTokens).toBeGreaterThan(0);
    expect(candidate.fetch.numTokens).toBeLessThanOrEqual(numPromptTokens);
    expect(candidate.fetch.numTokens % BLOCK_TOKENS).toBe(0);
  }
  for (const { terms, cost } of candidates) {
    expect(Number.isFinite(cost)).toBe(true);
    const sum = Object.values(terms).reduce((total, term) => total + term, 0);
    expect(sum).toBeCloseTo(cost, 6);
  }
}

function run(
  policy: PlacementPolicy,
  script: readonly Happening[],
  onDecision: (
    decision: PlacementDecision | null,
    query: { numPromptTokens: number },
    fleet: PlacementFleet,
  ) => void,
): void {
  const fleet = new PlacementFleet(policy);
  // KV is small enough to be worth fetching, whatever is said of links.
  const facts = { kvBytesPerToken: 1 };
  for (const id of FIRST_WORKERS) fleet.add(id, facts);
  const sequences = new Map<string, number>();
  for (const event of script) {
    fleet.nowMs += 7;
    if (event.kind === "add") {
      if (!fleet.workers.has(event.worker)) fleet.add(event.worker, facts);
    } else if (event.kind === "remove") {
      sequences.delete(event.worker);
      if (fleet.workers.has(event.worker)) fleet.remove(event.worker);
    } else if (event.kind === "drain") fleet.ledger.setAccepting(event.worker, false);
    else if (event.kind === "place") {
      const { blocks, extraTokens, hashes } = event;
      const query = {
        numPromptTokens: Math.max(1, blocks.length * BLOCK_TOKENS + extraTokens),
        promptBlockHashes: hashes ? chainOf(...blocks) : null,
      };
      onDecision(fleet.place(query), query, fleet);
    } else if (event.kind === "prefilled" || event.kind === "over") {
      const ids = [...fleet.placed.keys()];
      const id = ids[event.at % ids.length];
      if (id === undefined) continue;
      if (event.kind === "prefilled") fleet.prefilled(id);
      else fleet.over(id);
    } else if (event.kind === "stray") {
      // Of a request that was never placed, is over, or has had its first token.
      const requestId = `r${event.at}`;
      const placed = fleet.placed.get(requestId);
      if (event.isOver ? placed !== undefined : placed?.isPrefilled === false) continue;
      const kind = event.isOver ? "over" : "prefilled";
      policy.observe?.({ kind, requestId, numCachedTokens: null }, fleet.nowMs);
    } else if (event.kind === "kv") {
      const { worker, tier, change, blocks, isSnapshot, skips } = event;
      const sequence = (sequences.get(worker) ?? 0) + (skips ? 2 : 1);
      if (fleet.workers.has(worker)) sequences.set(worker, sequence);
      const hashes = chainOf(...blocks);
      const kvEvent =
        change === "stored"
          ? ({ kind: "stored", tier, parent: null, hashes } as const)
          : change === "removed"
            ? ({ kind: "removed", tier, hashes } as const)
            : ({ kind: "cleared", tier } as const);
      fleet.kv(worker, { sequence, isSnapshot, events: [kvEvent] });
    } else if (event.kind === "steps") {
      const { worker, ms, numPrefillTokens, numDecodes } = event;
      const load = { prefillAttention: 100 * numPrefillTokens, decodeContextTokens: 100 * numDecodes };
      fleet.steps(worker, { ms, numPrefillTokens, numDecodes, ...load });
    } else if (event.kind === "transfer") fleet.transfer(event.from, event.to, event.bytes, event.ms);
  }
}
