import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { chainOf, PlacementFleet } from "../../../../test/support/placement-fleet.ts";
import type { KvTier } from "../../kv/kv-events.ts";
import type { PerfModel } from "../../perf/perf-model.ts";
import type { WorkerFacts } from "../placement.ts";
import { type PricedOptions, PricedPlacement } from "./priced-placement.ts";
import { MAX_ASSUMED_FAN_OUT } from "./pricer.ts";

/** 10 ms a step, 0.1 ms a prompt token, 0.2 ms a decode. */
const PERF: PerfModel = {
  host: { requestMs: 0, outputMs: 0 },
  kvCapacityTokens: 1_000_000,
  kvBytesPerToken: 100_000,
  stepTime(load, out) {
    out.deviceMs = 10 + 0.1 * load.numPrefillTokens + 0.2 * load.numDecodes;
    out.hostMs = 0;
  },
};

function fleetOf(
  ids: readonly string[],
  options: Partial<PricedOptions> = {},
  facts: Partial<WorkerFacts> = {},
): PlacementFleet & { policy: PricedPlacement } {
  const fleet = new PlacementFleet(new PricedPlacement(options));
  for (const id of ids)
    fleet.add(id, {
      kvTokensTotal: 1_000_000,
      perf: PERF,
      tokenBudget: 1000,
      maxRunning: 64,
      kvBytesPerToken: 100_000,
      ...facts,
    });
  return fleet as PlacementFleet & { policy: PricedPlacement };
}

/** A prompt of `numBlocks` blocks of 16 tokens that begins with `shared` blocks of a common prefix. */
function promptOf(own: number, shared: number, numBlocks = shared) {
  const names = Array.from({ length: numBlocks }, (_, i) => (i < shared ? i : 1000 * own + i));
  return { numPromptTokens: 16 * numBlocks + 1, promptBlockHashes: chainOf(...names) };
}

function holds(
  fleet: PlacementFleet,
  worker: string,
  own: number,
  shared: number,
  { sequence = 1, tier = "device" }: { sequence?: number; tier?: KvTier } = {},
): void {
  const hashes = promptOf(own, shared).promptBlockHashes;
  fleet.kv(worker, { sequence, isSnapshot: true, events: [{ kind: "stored", tier, parent: null, hashes }] });
}

/** Requests that decode on a worker. */
function decoding(fleet: PlacementFleet, worker: string, count: number): void {
  for (let i = 0; i < count; i++) {
    const booking = fleet.ledger.book(
      { prefillWorker: worker, decodeWorker: worker, reason: "aggregated" },
      1000,
      100,
    );
    fleet.ledger.prefilled(booking);
  }
}

describe("priced placement", () => {
  it("waits for a warm worker when computing again takes longer, and computes again when waiting does", () => {
    for (const [numOthers, chosen] of [
      [1, "b1"],
      [6, "b0"],
    ] as const) {
      const fleet = fleetOf(["b0", "b1"], { canFetch: false });
      holds(fleet, "b0", 0, 0);
      holds(fleet, "b1", 0, 500);
      // Others take 330 ms each.
      for (let i = 0; i < 2 * numOthers; i++) fleet.place({ numPromptTokens: 3000 });
      for (const [id, { decision }] of fleet.placed) if (decision.prefillWorker === "b0") fleet.over(id);
      // 8,000 tokens take 880 ms; b1 has them.
      const { prefillWorker, candidates } = fleet.place(promptOf(1, 500, 520))!;
      expect(prefillWorker).toBe(chosen);
      const queue = candidates!.find((one) => one.prefillWorker === "b1")!.terms.queue!;
      expect(queue).toBeCloseTo(0.34 * numOthers, 1);
    }
  });

  it("spreads a burst of one hot prefix, and does not when the prefix is long and the queue short", () => {
    const ids = Array.from({ length: 8 }, (_, i) => `b${i}`);
    // 100 tokens are shared by prompts of 1,000: worth little waiting.
    const shortPrefix = fleetOf(ids);
    const spread = Array.from({ length: 16 }, (_, i) => shortPrefix.place(promptOf(i + 1, 6, 62))!);
    expect(new Set(spread.map(({ prefillWorker }) => prefillWorker)).size).toBe(8);
    // 48,000 tokens are shared by prompts of 48,160: seconds against milliseconds.
    const longPrefix = fleetOf(ids);
    for (const id of ids) holds(longPrefix, id, 0, id === "b3" ? 3000 : 0);
    const piled = Array.from({ length: 6 }, (_, i) => longPrefix.place(promptOf(i + 1, 3000, 3010))!);
    expect(new Set(piled.map(({ prefillWorker }) => prefillWorker))).toEqual(new Set(["b3"]));
  });

  it("prefills short or well cached prompts where they decode, and others elsewhere", () => {
    const fleet = fleetOf(["p0", "d0"]);
    decoding(fleet, "d0", 1);
    expect(fleet.place(promptOf(1, 2))).toMatchObject({ prefillWorker: "d0", decodeWorker: "d0" });
    expect(fleet.place(promptOf(2, 500))).toMatchObject({ prefillWorker: "p0", decodeWorker: "d0" });
    holds(fleet, "d0", 3, 500);
    const cached = promptOf(3, 500, 502);
    expect(fleet.place(cached)).toMatchObject({ prefillWorker: "d0", decodeWorker: "d0" });
  });

  it("does not let a busy decode worker prefill", () => {
    const fleet = fleetOf(["p0", "d0"]);
    const prompt = { numPromptTokens: 200 };
    expect(fleet.place(prompt)!.prefillWorker).toBe("d0");
    decoding(fleet, "d0", 40);
    expect(fleet.place(prompt)!.prefillWorker).toBe("p0");
  });

  it("lets a full decode worker prefill only what is far less work there than anywhere else", () => {
    const fleet = fleetOf(["p0", "d0"], { canFetch: false });
    holds(fleet, "p0", 0, 0);
    holds(fleet, "d0", 3, 500);
    const prompts = [promptOf(1, 0, 505), promptOf(3, 500, 505)];
    // p0 has seconds to do, so that the decode worker is the cheaper one for both as long as it has room.
    fleet.place({ numPromptTokens: 100_000, requestId: "long" });
    expect(fleet.placed.get("long")!.decision.prefillWorker).toBe("p0");
    for (const prompt of prompts) {
      expect(fleet.place({ ...prompt, requestId: "one" })!.prefillWorker).toBe("d0");
      fleet.over("one");
    }
    const decision = { prefillWorker: "d0", decodeWorker: "d0", reason: "aggregated" } as const;
    fleet.ledger.prefilled(fleet.ledger.book(decision, 895_000, 9));
    expect(prompts.map((prompt) => fleet.place(prompt)!.prefillWorker)).toEqual(["p0", "d0"]);
  });

  it("does not count prompts that wait for a decode worker as work of the prefill worker", () => {
    const fleet = fleetOf(["p0", "d0", "d1"], {}, { kvTokensTotal: 200_000, maxRunning: 128 });
    for (const id of ["d0", "d1"]) decoding(fleet, id, 100);
    const queueOf = (requestId: string): number => {
      const { decodeWorker, candidates } = fleet.place({ numPromptTokens: 30_000, requestId })!;
      return candidates!.find((one) => one.prefillWorker === "p0" && one.decodeWorker === decodeWorker)!.terms
        .queue!;
    };
    const queues = Array.from({ length: 9 }, (_, i) => queueOf(`r${i}`));
    // Three prompts of 3.3 s fit each decode worker. The others wait for them to end, not for p0.
    expect(queues.slice(0, 6).map((seconds) => Math.round(seconds / 3.3))).toEqual([0, 1, 2, 3, 4, 5]);
    expect(queues.slice(6).map((seconds) => Math.round(seconds / 3.3))).toEqual([6, 6, 6]);
    for (const id of ["r0", "r1", "r2"]) fleet.prefilled(id);
    expect(Math.round(queueOf("r9") / 3.3)).toBe(3);
    // Who gives up its room lets the first of its line in.
    const ended = fleet.placed.get("r0")!.decision.decodeWorker;
    expect(fleet.placed.get("r6")!.decision.decodeWorker).toBe(ended);
    fleet.over("r0");
    expect(Math.round(queueOf("r10") / 3.3)).toBe(4);
    fleet.policy.checkInvariants();
  });

  it("avoids decode workers without room for KV or without a place", () => {
    const fleet = fleetOf(["b0", "b1"]);
    decoding(fleet, "b0", 3);
    const full = fleet.ledger.book(
      { prefillWorker: "b1", decodeWorker: "b1", reason: "aggregated" },
      999_000,
      9,
    );
    fleet.ledger.prefilled(full);
    expect(fleet.place({ numPromptTokens: 4000 })!.decodeWorker).toBe("b0");
    const places = fleetOf(["b0", "b1"], {}, { maxRunning: 2 });
    decoding(places, "b0", 4);
    decoding(places, "b1", 1);
    expect(places.place({ numPromptTokens: 10 })!.decodeWorker).toBe("b1");
  });

  it("fetches what moves faster than it is computed, from a worker that surely has it", () => {
    const fleet = fleetOf(["p0", "p1", "d0"], { canFetch: true });
    holds(fleet, "p1", 0, 1000);
    holds(fleet, "p0", 9, 0);
    decoding(fleet, "d0", 30);
    // p1 is busy for seconds.
    for (let i = 0; i < 3; i++) fleet.place({ ...promptOf(0, 1000, 2000), requestId: `long${i}` });
    for (const [id, { decision }] of fleet.placed) if (decision.prefillWorker !== "p1") fleet.over(id);
    const decision = fleet.place(promptOf(5, 1000, 1010))!;
    expect(decision.prefillWorker).toBe("p0");
    expect(decision.fetch).toEqual({ from: "p1", numTokens: 16_000 });
    expect(decision.candidates![0]!.terms.move).toBeGreaterThan(0);
    fleet.remove("p1");
    expect(fleet.place(promptOf(6, 1000, 1010))!.fetch).toBeUndefined();
  });

  it.each([
    ["device", 0.128],
    ["host", 0.128 + 0.05],
    ["disk", 0.128 + 0.32],
  ] as const)("fetches from another worker's %s, and pays for what it reads there", (tier, moveSeconds) => {
    const fleet = fleetOf(["p0", "p1", "d0"]);
    holds(fleet, "p1", 0, 1000, { tier });
    holds(fleet, "p0", 9, 0);
    decoding(fleet, "d0", 30);
    for (let i = 0; i < 8; i++) fleet.place({ numPromptTokens: 32_000, requestId: `long${i}` });
    for (const [id, { decision }] of fleet.placed) if (decision.prefillWorker !== "p1") fleet.over(id);
    const { candidates } = fleet.place(promptOf(5, 1000, 1010))!;
    // 1.6 GB over 100 Gb/s, after memory or disk has been read.
    const fetching = candidates!.find(
      ({ fetch, prefillWorker }) => fetch !== null && prefillWorker === "p0",
    )!;
    expect(fetching.fetch).toEqual({ from: "p1", numTokens: 16_000 });
    expect(fetching.terms.move).toBeCloseTo(moveSeconds, 3);
    const computing = candidates!.find(
      ({ fetch, prefillWorker }) => fetch === null && prefillWorker === "p0",
    )!;
    expect(fetching.cost).toBeLessThan(computing.cost);
  });

  it("takes load from a worker that has become slow within seconds, and tries it again later", () => {
    const fleet = fleetOf(["b0", "b1", "b2", "b3"]);
    const step = { numPrefillTokens: 1000, prefillAttention: 500_000, numDecodes: 0, decodeContextTokens: 0 };
    /** Of four prompts at a time. */
    const shareOfSlow = (): number => {
      let slow = 0;
      for (let i = 0; i < 40; i++) {
        fleet.nowMs += 30;
        if (fleet.place({ requestId: `r${i}`, numPromptTokens: 900 })!.prefillWorker === "b0") slow++;
        fleet.over(`r${i - 3}`);
      }
      for (const id of fleet.placed.keys()) fleet.over(id);
      return slow / 40;
    };
    const observe = (numSteps: number, factor: number) => {
      for (let i = 0; i < numSteps; i++) {
        fleet.nowMs += 110;
        for (const id of fleet.workers.keys())
          fleet.steps(id, { ...step, ms: id === "b0" ? factor * 110 : 110 });
      }
    };
    observe(30, 1);
    expect(shareOfSlow()).toBeGreaterThan(0.1);
    observe(20, 3);
    expect(shareOfSlow()).toBe(0);
    fleet.nowMs += 1_200_000;
    expect(shareOfSlow()).toBeGreaterThan(0.1);
  });

  it("keeps a deadline at the expense of others", () => {
    const run = (firstTokenDeadlineMs: number | null) => {
      const fleet = fleetOf(["p0", "d0"]);
      decoding(fleet, "d0", 30);
      fleet.place({ numPromptTokens: 5000, requestId: "ahead" });
      return fleet.place({ numPromptTokens: 1000, firstTokenDeadlineMs })!;
    };
    const easy = run(null);
    expect(easy.prefillWorker).toBe("p0");
    expect(run(300).prefillWorker).toBe("d0");
    // Nobody can do it in a millisecond: then nobody pays for the attempt.
    expect(run(1)).toEqual(easy);
  });

  it("takes no output for longer than it may be, however long its handoff took", () => {
    const fleet = fleetOf(["p0", "d0"]);
    const expectedDecode = (): number => {
      const { candidates } = fleet.place({
        numPromptTokens: 1000,
        requestId: "asked",
        maxOutputTokens: 10_000,
      })!;
      fleet.over("asked");
      return candidates![0]!.terms.decode!;
    };
    const before = expectedDecode();
    for (let i = 0; i < 50; i++) {
      fleet.place({ numPromptTokens: 1000, requestId: `slow${i}`, maxOutputTokens: 20 });
      fleet.prefilled(`slow${i}`);
      fleet.nowMs += 60_000;
      fleet.over(`slow${i}`);
    }
    expect(expectedDecode()).toBeLessThan(before / 2);
  });

  it("spreads a prompt that many are going to begin with before they are there", () => {
    const workersOf = (expectedFanOut?: number): string[] => {
      const ids = ["w0", "w1", "w2", "w3"];
      const fleet = fleetOf(ids, { canFetch: false });
      for (const id of ids) fleet.kv(id, { sequence: 1, isSnapshot: true, events: [] });
      holds(fleet, "w0", 0, 300, { sequence: 2 });
      const fanOut = expectedFanOut === undefined ? {} : { expectedFanOut };
      return Array.from({ length: 4 }, (_, i) => {
        const { decodeWorker } = fleet.place({
          ...promptOf(i + 1, 300, 302),
          requestId: `r${i}`,
          ...fanOut,
        })!;
        return decodeWorker;
      });
    };
    const alone = workersOf();
    expect(new Set(alone)).toEqual(new Set(["w0"]));
    expect(workersOf(1)).toEqual(alone);
    expect(new Set(workersOf(24)).size).toBeGreaterThan(1);
    // Promises are worth so much and no more.
    expect(workersOf(4096)).toEqual(workersOf(MAX_ASSUMED_FAN_OUT));
  });

  it("does not make urgent prompts wait for others", () => {
    const fleet = fleetOf(["p0", "d0"]);
    decoding(fleet, "d0", 20);
    for (let i = 0; i < 3; i++) fleet.place({ numPromptTokens: 5000, requestId: `low${i}`, priority: 5 });
    const queued = (priority: number): number => {
      const { candidates } = fleet.place({ numPromptTokens: 1000, requestId: "asked", priority })!;
      fleet.over("asked");
      return candidates!.find(({ prefillWorker }) => prefillWorker === "p0")!.terms.queue!;
    };
    expect(queued(5)).toBeGreaterThan(1);
    expect(queued(0)).toBeLessThan(0.2);
  });

  it("prices no more than a few workers of a large fleet, the right ones among them", () => {
    const fleet = fleetOf(Array.from({ length: 400 }, (_, i) => `b${i}`));
    holds(fleet, "b250", 0, 500);
    const decision = fleet.place(promptOf(1, 500, 510))!;
    expect(decision.prefillWorker).toBe("b250");
    expect(decision.candidates!.length).toBeLessThanOrEqual(8);
  });

  it("keeps its books whatever happens", () => {
    const event = fc.record({
      kind: fc.constantFrom(
        "place",
        "place",
        "place",
        "place",
        "again",
        "prefilled",
        "over",
        "add",
        "remove",
        "transfer",
      ),
      at: fc.nat(),
    });
    fc.assert(
      // Two or three prompts fill a worker that is tight, in its KV or in its places.
      fc.property(fc.array(event, { maxLength: 80 }), fc.constantFrom(250, 1e6), (script, kvTokensTotal) => {
        const facts = { perf: PERF, kvTokensTotal, maxRunning: kvTokensTotal === 250 ? 3 : 64 };
        const fleet = fleetOf(["p0", "d0", "b0"], { indexBytes: 1 << 20 }, facts);
        for (const { kind, at } of script) {
          fleet.nowMs += 13;
          const requests = [...fleet.placed.keys()];
          const name = `${"pdb"[at % 3]}${at % 4}`;
          if (kind === "place") fleet.place(promptOf(at % 3, at % 5, 6));
          else if (kind === "add" && !fleet.workers.has(name)) fleet.add(name, facts);
          else if (kind === "remove" && fleet.workers.has(name)) fleet.remove(name);
          else if (kind === "transfer") fleet.transfer(name, `d${at % 2}`, 1e6, 1 + (at % 9));
          else if (requests.length === 0) continue;
          else if (kind === "prefilled") fleet.prefilled(requests[at % requests.length]!);
          else if (kind === "over") fleet.over(requests[at % requests.length]!);
          else if (kind === "again") {
            const requestId = requests[at % requests.length]!;
            fleet.over(requestId);
            fleet.place({ ...promptOf(at % 3, 5, 6), requestId });
          }
          fleet.policy.checkInvariants();
        }
      }),
    );
  });
});
