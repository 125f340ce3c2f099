import { describe, expect, it } from "vitest";
import { playWorkload } from "../../../test/support/workload-run.ts";
import { Rng } from "../../core/util/rng.ts";
import { plainRequest } from "./plain-request.ts";
import { SessionSource } from "./session-source.ts";
import { PulledSource } from "./trace-source.ts";
import {
  LimitedSource,
  MergedSource,
  repeatSource,
  spreadBuckets,
  TenantSource,
  TimeScaledSource,
} from "./transforms.ts";
import { paced } from "./untimed.ts";
import type { WorkloadRequest, WorkloadSource } from "./workload.ts";

function fromTimes(...times: number[]): WorkloadSource {
  const left = times.map((arrivalMs, index) => ({ ...plainRequest(String(index), 10, 1), arrivalMs }));
  return new PulledSource(() => left.shift() ?? null);
}

/** Two requests with 20 ms of thought between them. */
function closedLoop(): WorkloadSource {
  let isOver = false;
  const steps = ["a", "b"].map((id) => ({
    request: { ...plainRequest(id, 10, 1), blocks: { blockTokens: 5, scope: "", ids: [1] }, sessionId: "s" },
    delayMs: 20,
    afterArrivalMs: 0,
    starts: [],
    waitsForAgents: false,
  }));
  const nextSession = () => {
    if (isOver) return null;
    isOver = true;
    return { next: () => steps.shift() ?? null };
  };
  return new SessionSource(nextSession, { lanes: 1, staggerMs: 0, gapMs: 0 });
}

const arrivals = (requests: readonly WorkloadRequest[]): number[] =>
  requests.map(({ arrivalMs }) => arrivalMs);

describe("scaling time", () => {
  it("moves arrivals and keeps every request", () => {
    expect(arrivals(playWorkload(new TimeScaledSource(fromTimes(0, 10, 30), 0.5)))).toEqual([0, 5, 15]);
  });

  it("scales thought, and not the time that the server takes", () => {
    const played = playWorkload(new TimeScaledSource(closedLoop(), 10), { serviceMs: 7 });
    expect(arrivals(played)).toEqual([200, 407]);
  });

  it("never send what follows an end before it, whatever the factor loses in rounding", () => {
    let numMade = 0;
    const make = () => (numMade < 2000 ? plainRequest(String(numMade++), 10, 1) : null);
    const played = playWorkload(new TimeScaledSource(paced(make, { concurrency: 1, thinkMs: 0 }), 0.7), {
      serviceMs: 1.1,
    });
    let endMs = 0;
    for (const { arrivalMs } of played) {
      expect(arrivalMs).toBeGreaterThanOrEqual(endMs);
      endMs = arrivalMs + 1.1;
    }
    expect(played).toHaveLength(2000);
  });
});

describe("limits", () => {
  it("end after a number of requests or before a time", () => {
    expect(playWorkload(new LimitedSource(fromTimes(0, 10, 30), { requests: 2 }))).toHaveLength(2);
    expect(arrivals(playWorkload(new LimitedSource(fromTimes(0, 10, 30), { durationMs: 30 })))).toEqual([
      0, 10,
    ]);
    expect(playWorkload(new LimitedSource(closedLoop(), { requests: 1 }))).toHaveLength(1);
  });
});

describe("spreading buckets", () => {
  it("puts equal times in equal gaps up to the next time", () => {
    const spread = spreadBuckets(fromTimes(0, 0, 0, 2, 10, 10), 3, null);
    const played = playWorkload(spread);
    expect(arrivals(played)).toEqual([0, 2 / 3, 4 / 3, 2, 10, 11.5]);
    expect(played.map(({ id }) => id)).toEqual(["0", "1", "2", "3", "4", "5"]);
  });

  it("by chance stays within the bucket and in order", () => {
    const times = Array.from({ length: 300 }, (_, index) => Math.floor(index / 10) * 3000);
    const played = arrivals(
      playWorkload(spreadBuckets(fromTimes(...times), 3000, new Rng(1).stream("spread"))),
    );
    expect(new Set(played).size).toBe(300);
    played.forEach((arrivalMs, index) => {
      expect(Math.floor(arrivalMs / 3000) * 3000).toBe(times[index]);
      expect(arrivalMs).toBeGreaterThan(played[index - 1] ?? -1);
    });
  });
});

describe("repeating", () => {
  const withBlocks = (): WorkloadSource => {
    const inner = fromTimes(100, 110, 130);
    return new PulledSource(() =>
      inner.nextArrivalMs === Number.POSITIVE_INFINITY
        ? null
        : { ...inner.take(), blocks: { blockTokens: 5, scope: "s", ids: [1] }, sessionId: "x" },
    );
  };

  it("goes on one mean gap later, with fresh ids, sessions and scopes", () => {
    const played = playWorkload(repeatSource(withBlocks, 3, false));
    expect(arrivals(played)).toEqual([100, 110, 130, 145, 155, 175, 190, 200, 220]);
    expect(new Set(played.map(({ id }) => id)).size).toBe(9);
    expect(played.map(({ blocks }) => blocks?.scope).filter((_, index) => index % 3 === 0)).toEqual([
      "s",
      "s#1",
      "s#2",
    ]);
    expect(played[4]?.sessionId).toBe("x#1");
  });

  it("may share its blocks", () => {
    const scopes = playWorkload(repeatSource(withBlocks, 2, true)).map(({ blocks }) => blocks?.scope);
    expect(new Set(scopes)).toEqual(new Set(["s"]));
  });
});

describe("tenants", () => {
  const tenants = [
    { name: "big", share: 3, priority: 1 },
    { name: "small", share: 1, priority: 0 },
  ];

  it("have their share of the requests and their priority", () => {
    const inner = fromTimes(...Array.from({ length: 4000 }, (_, index) => index));
    const played = playWorkload(new TenantSource(inner, tenants, new Rng(3).stream("tenants")));
    const big = played.filter(({ tenant }) => tenant === "big");
    expect(big.length / played.length).toBeCloseTo(0.75, 1);
    expect(new Set(big.map(({ priority }) => priority))).toEqual(new Set([1]));
  });

  it("keep their sessions, and closed loops go on", () => {
    const played = playWorkload(new TenantSource(closedLoop(), tenants, new Rng(3).stream("tenants")));
    expect(played).toHaveLength(2);
    expect(played[0]?.tenant).toBe(played[1]?.tenant);
  });
});

describe("merging", () => {
  it("orders by time, keeps names apart and tells each part of its ends", () => {
    const merged = new MergedSource(
      new Map([
        ["one", closedLoop()],
        ["two", fromTimes(5, 60)],
        ["three", closedLoop()],
      ]),
    );
    expect(merged.isClosedLoop).toBe(true);
    const played = playWorkload(merged, { serviceMs: 10 });
    expect(played.map(({ id, arrivalMs }) => [id, arrivalMs])).toEqual([
      ["two/0", 5],
      ["one/a", 20],
      ["three/a", 20],
      ["one/b", 50],
      ["three/b", 50],
      ["two/1", 60],
    ]);
    expect(played[1]?.blocks?.scope).toBe("one/");
    expect(played[2]?.sessionId).toBe("three/s");
  });
});
