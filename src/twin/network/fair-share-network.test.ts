import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type NaiveFlow, NaiveNetwork, naiveRates } from "../../../test/support/naive-network.ts";
import { type RandomStream, Rng } from "../../core/util/rng.ts";
import { FairShareNetwork } from "./fair-share-network.ts";
import type { NetworkLayout } from "./layout.ts";

/** Endpoints a, b, c, …; path from i to j as `path` says; every endpoint owns the resources that its first path begins with. */
function layoutOf(
  bandwidths: readonly number[],
  numEndpoints: number,
  path: (from: number, to: number) => { resources: readonly number[]; latencyMs?: number; cap?: number },
  owned: (endpoint: number) => readonly number[] = () => [],
): NetworkLayout {
  return {
    resources: bandwidths.map((bytesPerSecond, i) => ({ name: `r${i}`, bytesPerSecond })),
    endpoints: Array.from({ length: numEndpoints }, (_, i) => `e${i}`),
    fillPath(from, to, out) {
      const { resources, latencyMs = 0, cap = Number.POSITIVE_INFINITY } = path(from, to);
      out.numResources = resources.length;
      out.resources.set(resources);
      out.latencyMs = latencyMs;
      out.capBytesPerSecond = cap;
    },
    resourcesOf: owned,
  };
}

/** Every endpoint has an out and an in resource of 1,000 bytes per second: one byte per millisecond. */
function star(numEndpoints: number, latencyMs = 0): NetworkLayout {
  return layoutOf(
    Array.from({ length: 2 * numEndpoints }, () => 1000),
    numEndpoints,
    (from, to) => ({ resources: [2 * from, 2 * to + 1], latencyMs }),
    (endpoint) => [2 * endpoint, 2 * endpoint + 1],
  );
}

function ends(network: FairShareNetwork, untilMs = Number.POSITIVE_INFINITY): Array<[number, number]> {
  const list: Array<[number, number]> = [];
  while (network.nextEndMs <= untilMs && network.nextEndMs < Number.POSITIVE_INFINITY) {
    const nowMs = network.nextEndMs;
    for (let flow = network.takeEnded(nowMs); flow !== null; flow = network.takeEnded(nowMs)) {
      list.push([flow, nowMs]);
    }
  }
  return list;
}

describe("FairShareNetwork", () => {
  it("ends a lone flow after its bytes at full bandwidth and the latency", () => {
    const network = new FairShareNetwork(star(2, 3));
    const flow = network.start("e0", "e1", 500, 10);
    expect(network.latencyMs("e0", "e1")).toBe(3);
    expect(network.bytesPerSecondOf(flow)).toBe(1000);
    expect(ends(network)).toEqual([[flow, 513]]);
    expect(network.nextEndMs).toBe(Number.POSITIVE_INFINITY);
    expect(network.numFlows).toBe(0);
  });

  it("shares a sender between two flows and gives all of it to the one that is left", () => {
    const network = new FairShareNetwork(star(3));
    const long = network.start("e0", "e1", 300, 0);
    const short = network.start("e0", "e2", 100, 0);
    expect(network.bytesPerSecondOf(long)).toBe(500);
    expect(ends(network)).toEqual([
      [short, 200],
      [long, 400],
    ]);
  });

  it("frees the bandwidth when the last byte leaves, not when it arrives", () => {
    const layout = layoutOf([1000], 3, (_, to) => ({ resources: [0], latencyMs: to === 1 ? 50 : 0 }));
    const network = new FairShareNetwork(layout);
    const first = network.start("e0", "e1", 100, 0);
    const second = network.start("e0", "e2", 130, 0);
    // Both at 0.5 byte per ms until 200; then the second one has 30 bytes left and everything to itself.
    expect(network.nextEndMs).toBe(200);
    expect(network.takeEnded(200)).toBeNull();
    expect(ends(network)).toEqual([
      [second, 230],
      [first, 250],
    ]);
  });

  it("gives what a flow held back elsewhere cannot use to the others: the textbook chain", () => {
    // Link 0 carries A and B, link 1 carries B and C; link 1 has twice the bandwidth.
    const layout = layoutOf([1000, 2000], 3, (from) => ({ resources: [[0], [0, 1], [1]][from]! }));
    const network = new FairShareNetwork(layout);
    const flows = ["e0", "e1", "e2"].map((from) => network.start(from, "e0", 1e6, 0));
    expect(flows.map((flow) => network.bytesPerSecondOf(flow))).toEqual([500, 500, 1500]);
    network.cancel(flows[0]!, 100);
    expect(network.bytesPerSecondOf(flows[1]!)).toBe(1000);
    expect(network.bytesPerSecondOf(flows[2]!)).toBe(1000);
  });

  it("returns flows that end at the same time in order of start, also when slots are used again", () => {
    const network = new FairShareNetwork(star(6));
    const gone = network.start("e0", "e1", 1, 0);
    const first = network.start("e2", "e3", 100, 0);
    expect(network.takeEnded(1)).toBe(gone);
    const second = network.start("e4", "e5", 99, 1);
    const third = network.start("e0", "e1", 99, 1);
    expect(ends(network)).toEqual([first, second, third].map((flow) => [flow, 100]));
  });

  it("keeps a flow at its path's cap and leaves the rest to others", () => {
    const layout = layoutOf([1000], 2, (from) => ({ resources: [0], ...(from === 0 ? { cap: 200 } : {}) }));
    const network = new FairShareNetwork(layout);
    const capped = network.start("e0", "e1", 1e6, 0);
    const free = network.start("e1", "e0", 1e6, 0);
    expect(network.bytesPerSecondOf(capped)).toBe(200);
    expect(network.bytesPerSecondOf(free)).toBe(800);
    network.scale("e0", 0.5, 0);
    expect(network.bytesPerSecondOf(capped)).toBe(100);
  });

  it("ends a flow without bytes, or without anything in its way, after the latency alone", () => {
    const network = new FairShareNetwork(star(2, 7));
    const empty = network.start("e0", "e1", 0, 1);
    expect(ends(network)).toEqual([[empty, 8]]);
    const open = new FairShareNetwork(layoutOf([], 2, () => ({ resources: [], latencyMs: 2 })));
    const flow = open.start("e0", "e1", 1e15, 0);
    expect(ends(open)).toEqual([[flow, 2]]);
  });

  it("slows flows down with a link, stops them when it is dead, and lets them go on after the repair", () => {
    const network = new FairShareNetwork(star(3));
    const slow = network.start("e0", "e1", 100, 0);
    const other = network.start("e2", "e1", 1000, 0);
    network.scale("e0", 0.25, 40);
    expect(network.bytesPerSecondOf(slow)).toBe(250);
    expect(network.bytesPerSecondOf(other)).toBe(750);
    network.scale("e0", 0, 80);
    expect(network.bytesPerSecondOf(slow)).toBe(0);
    expect(network.bytesPerSecondOf(other)).toBe(1000);
    expect(ends(network)).toEqual([[other, 80 + 1000 - 20 - 30]]);
    expect(network.nextEndMs).toBe(Number.POSITIVE_INFINITY);
    network.scale("e0", 1, 2000);
    expect(ends(network)).toEqual([[slow, 2000 + 100 - 20 - 10]]);
  });

  it("never ends a cancelled flow, whether it sends or arrives, and takes no flow twice", () => {
    const network = new FairShareNetwork(star(2, 50));
    const first = network.start("e0", "e1", 100, 0);
    const second = network.start("e0", "e1", 100, 0);
    network.cancel(first, 10);
    expect(ends(network, 120)).toEqual([]);
    network.cancel(second, 210);
    expect(network.nextEndMs).toBe(Number.POSITIVE_INFINITY);
    expect(() => network.cancel(second, 220)).toThrow(/not under way/);
  });

  it("names an endpoint that it does not have", () => {
    const network = new FairShareNetwork(star(2));
    expect(() => network.start("e0", "nowhere", 1, 0)).toThrow("no endpoint nowhere");
    expect(() => network.latencyMs("elsewhere", "e0")).toThrow("no endpoint elsewhere");
    expect(network.numFlows).toBe(0);
  });
});

interface World {
  readonly bandwidths: number[];
  readonly numEndpoints: number;
  readonly path: (from: number, to: number) => { resources: number[]; latencyMs: number; cap: number };
}

/** Random resources of very different bandwidth, and a random path for every pair. */
function randomWorld(random: RandomStream, numResources: number, numEndpoints: number, maxLength = 5): World {
  const bandwidths = Array.from({ length: numResources }, () => 10 ** (3 * random.nextFloat()) * 1000);
  const paths = Array.from({ length: numEndpoints ** 2 }, () => {
    const resources = new Set<number>();
    const length = 1 + random.nextBelow(Math.min(maxLength, numResources));
    while (resources.size < length) resources.add(random.nextBelow(numResources));
    const latencyMs = random.nextBelow(3) === 0 ? 0 : random.nextFloat() * 20;
    const cap = random.nextBelow(3) === 0 ? 10 ** (3 * random.nextFloat()) * 500 : Number.POSITIVE_INFINITY;
    return { resources: [...resources], latencyMs, cap };
  });
  return { bandwidths, numEndpoints, path: (from, to) => paths[from * numEndpoints + to]! };
}

/** Fails unless the allocation is feasible, and every flow is at its cap or at a full resource where nobody gets more. */
function expectMaxMin(network: FairShareNetwork, flows: readonly NaiveFlow[], bandwidths: readonly number[]) {
  const used = bandwidths.map(() => 0);
  const most = bandwidths.map(() => 0);
  const rates = flows.map(({ id }) => network.bytesPerSecondOf(id));
  for (const [i, flow] of flows.entries()) {
    for (const r of flow.resources) {
      used[r] = used[r]! + rates[i]!;
      most[r] = Math.max(most[r]!, rates[i]!);
    }
  }
  const problems: string[] = [];
  for (const [r, bandwidth] of bandwidths.entries()) {
    if (used[r]! > bandwidth * (1 + 2e-9)) problems.push(`resource ${r} carries ${used[r]} of ${bandwidth}`);
  }
  for (const [i, flow] of flows.entries()) {
    const rate = rates[i]!;
    const isBottleneck = (r: number): boolean =>
      used[r]! >= bandwidths[r]! * (1 - 1e-8) && rate >= most[r]! * (1 - 1e-8);
    const isHeldBack = rate >= flow.cap * 1000 * (1 - 1e-9) || flow.resources.some(isBottleneck);
    if (!isHeldBack) problems.push(`flow ${flow.id} could get more than ${rate}`);
    if (Math.abs(rate - flow.rate * 1000) > 1e-7 * rate) {
      problems.push(`flow ${flow.id} gets ${rate}, not ${flow.rate * 1000}`);
    }
  }
  expect(problems).toEqual([]);
}

/** Random starts, cancels, waits and slow links, checked against the naive network after each. Returns flows that ended. */
function compareWithNaive(seed: number, numEvents: number, maxFlows: number, isSparse = false): number {
  const random = new Rng(seed).stream("network");
  const world = isSparse
    ? randomWorld(random, 80, 40, 2)
    : randomWorld(random, 1 + random.nextBelow(12), 1 + random.nextBelow(8));
  const { bandwidths, numEndpoints, path } = world;
  // Every endpoint owns one resource, so that a slow endpoint slows other endpoints' flows as well.
  const owned = (endpoint: number): number[] => [endpoint % bandwidths.length];
  const network = new FairShareNetwork(layoutOf(bandwidths, numEndpoints, path, owned));
  const naive = new NaiveNetwork(bandwidths);
  const factors = Array.from({ length: numEndpoints }, () => 1);
  const ids: number[] = [];
  const bytesOf = new Map<number, NaiveFlow & { from: number; to: number }>();
  let numStarted = 0;
  let numEnded = 0;
  let nowMs = 0;
  const settle = (): void => {
    const expected = naive.advance(nowMs);
    const got: number[] = [];
    for (let flow = network.takeEnded(nowMs); flow !== null; flow = network.takeEnded(nowMs)) got.push(flow);
    // Rounding may swap ends that are less than a millionth of a millisecond apart.
    expect([...got].sort()).toEqual(expected.map(({ id }) => id).sort());
    for (const id of got) {
      bytesOf.delete(id);
      ids.splice(ids.indexOf(id), 1);
    }
    numEnded += got.length;
  };
  for (let event = 0; event < numEvents; event++) {
    const kind = random.nextBelow(10);
    if (kind < 5 && ids.length < maxFlows) {
      const from = random.nextBelow(numEndpoints);
      const to = random.nextBelow(numEndpoints);
      const bytes = Math.ceil(10 ** (1 + 4 * random.nextFloat()));
      const { resources, latencyMs, cap } = path(from, to);
      const id = network.start(`e${from}`, `e${to}`, bytes, nowMs);
      const limit = (cap / 1000) * Math.min(factors[from]!, factors[to]!);
      const flow = { id, order: numStarted++, resources, cap: limit, latencyMs, bytes, left: bytes, rate: 0 };
      naive.start(flow);
      bytesOf.set(id, Object.assign(flow, { from, to }));
      ids.push(id);
    } else if (kind === 5 && ids.length > 0) {
      const [id] = ids.splice(random.nextBelow(ids.length), 1);
      network.cancel(id!, nowMs);
      naive.cancel(id!);
      bytesOf.delete(id!);
    } else if (kind === 6) {
      const endpoint = random.nextBelow(numEndpoints);
      const factor = [0.1, 0.5, 1, 1][random.nextBelow(4)]!;
      network.scale(`e${endpoint}`, factor, nowMs);
      factors[endpoint] = factor;
      for (const r of owned(endpoint)) naive.bandwidths[r] = (bandwidths[r]! / 1000) * factor;
      naive.sending = naive.sending.map((flow) => {
        const { from, to } = bytesOf.get(flow.id)!;
        const cap = (path(from, to).cap / 1000) * Math.min(factors[from]!, factors[to]!);
        const changed = Object.assign({}, flow, { cap, from, to });
        bytesOf.set(flow.id, changed);
        return changed;
      });
      naiveRates(naive.sending, naive.bandwidths);
    } else {
      // Waits end between the flows' ends, where rounding cannot change what is over.
      nowMs += random.nextExponential(200);
      settle();
    }
    expectMaxMin(
      network,
      naive.sending,
      naive.bandwidths.map((value) => value * 1000),
    );
  }
  return numEnded;
}

describe("FairShareNetwork against a naive network", () => {
  it("has the same rates and ends in worlds and orders of any kind", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (seed) => {
        compareWithNaive(seed, 60, 25);
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  it("finds how far a change reaches where flows depend on each other loosely", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (seed) => {
        compareWithNaive(seed, 200, 100, true);
      }),
      { numRuns: 10 },
    );
  }, 60_000);

  it("stays equal over 10,000 random events", () => {
    const SEED = 20_260_301;
    expect(compareWithNaive(SEED, 10_000, 30)).toBeGreaterThan(1000);
  }, 60_000);

  it("gives rates that do not depend on the order in which flows began", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 31 }), (seed) => {
        const random = new Rng(seed).stream("order");
        const { bandwidths, numEndpoints, path } = randomWorld(random, 8, 6);
        const layout = layoutOf(bandwidths, numEndpoints, path);
        const pairs = Array.from({ length: 20 }, () => [random.nextBelow(6), random.nextBelow(6)] as const);
        const rates = (order: readonly number[]): number[] => {
          const network = new FairShareNetwork(layout);
          const flows: number[] = [];
          for (const i of order) flows[i] = network.start(`e${pairs[i]![0]}`, `e${pairs[i]![1]}`, 1e9, 0);
          return pairs.map((_, i) => network.bytesPerSecondOf(flows[i]!));
        };
        const order = pairs.map((_, i) => i);
        const expected = rates(order);
        const shuffled = order.toSorted((a, b) => ((a * 7 + seed) % 20) - ((b * 7 + seed) % 20));
        for (const [i, rate] of rates(shuffled).entries()) {
          expect(Math.abs(rate - expected[i]!)).toBeLessThanOrEqual(1e-9 * rate);
        }
      }),
      { numRuns: 100 },
    );
  });

  it("holds 500 flows at once and gives the same ends when it is run again", () => {
    const run = (): number[] => {
      const network = new FairShareNetwork(star(100, 1));
      const random = new Rng(7).stream("many");
      for (let i = 0; i < 500; i++) {
        network.start(
          `e${random.nextBelow(100)}`,
          `e${random.nextBelow(100)}`,
          1 + random.nextBelow(1000),
          0,
        );
      }
      return ends(network).flat();
    };
    const first = run();
    expect(first).toHaveLength(1000);
    expect(run()).toEqual(first);
  });
});
