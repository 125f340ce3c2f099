import { describe, expect, it } from "vitest";
import { playWorkload } from "../../../test/support/workload-run.ts";
import { plainRequest } from "./plain-request.ts";
import { type Agent, type AgentStep, MAX_ACTIVE_SESSIONS, SessionSource } from "./session-source.ts";

interface Step {
  id?: string;
  delayMs?: number;
  afterArrivalMs?: number;
  starts?: { agent: Agent; delayMs: number }[];
  waits?: boolean;
}

function agent(...steps: Step[]): Agent {
  const left = steps.map(
    ({ id, delayMs = 0, afterArrivalMs = 0, starts = [], waits = false }): AgentStep => ({
      request: id === undefined ? null : plainRequest(id, 10, 1),
      delayMs,
      afterArrivalMs,
      starts,
      waitsForAgents: waits,
    }),
  );
  return { next: () => left.shift() ?? null };
}

function fromList(agents: Agent[]): () => Agent | null {
  return () => agents.shift() ?? null;
}

function times(source: SessionSource, serviceMs: number): [string, number][] {
  return playWorkload(source, { serviceMs }).map(({ id, arrivalMs }) => [id, arrivalMs]);
}

describe("sessions", () => {
  it("think after a request has ended, not after it arrived", () => {
    const lanes = { lanes: 1, staggerMs: 0, gapMs: 0 };
    const source = (): SessionSource =>
      new SessionSource(fromList([agent({ id: "a", delayMs: 5 }, { id: "b", delayMs: 20 })]), lanes);
    expect(times(source(), 100)).toEqual([
      ["a", 5],
      ["b", 125],
    ]);
    expect(times(source(), 1)).toEqual([
      ["a", 5],
      ["b", 26],
    ]);
  });

  it("that find no room start when another ends, not when they were due", () => {
    let numStarted = 0;
    const source = new SessionSource(() => agent({ id: String(numStarted++) }), {
      arrivals: () => numStarted,
    });
    const open = Array.from({ length: MAX_ACTIVE_SESSIONS }, () => source.take());
    expect(source.nextArrivalMs).toBe(Number.POSITIVE_INFINITY);
    const endMs = 5 * MAX_ACTIVE_SESSIONS;
    source.ended(open[0]!, endMs);
    expect(source.take()).toMatchObject({ id: String(MAX_ACTIVE_SESSIONS), arrivalMs: endMs });
  });

  it("keep their distance from the last arrival where its end is not known, unless it still runs", () => {
    const source = (): SessionSource =>
      new SessionSource(fromList([agent({ id: "a" }, { id: "b", afterArrivalMs: 50 })]), {
        lanes: 1,
        staggerMs: 0,
        gapMs: 0,
      });
    expect(times(source(), 10)).toEqual([
      ["a", 0],
      ["b", 50],
    ]);
    expect(times(source(), 80)).toEqual([
      ["a", 0],
      ["b", 80],
    ]);
  });

  it("run their sub-agents beside them, and a lane is free when all are over", () => {
    const child = agent({ id: "c1" }, { id: "c2", delayMs: 100 });
    const first = agent({ id: "a" }, { id: "b", delayMs: 1, starts: [{ agent: child, delayMs: 3 }] });
    const source = new SessionSource(fromList([first, agent({ id: "next" })]), {
      lanes: 1,
      staggerMs: 0,
      gapMs: 7,
    });
    expect(times(source, 10)).toEqual([
      ["a", 0],
      ["b", 11],
      ["c1", 13],
      ["c2", 123],
      ["next", 140],
    ]);
  });

  it("wait for sub-agents when they are told to", () => {
    const children = [agent({ id: "c" }), agent({ id: "d", delayMs: 30 })].map((one) => ({
      agent: one,
      delayMs: 0,
    }));
    const parent = agent({ id: "a" }, { id: "b", delayMs: 2, starts: children, waits: true });
    const source = new SessionSource(fromList([parent]), { lanes: 1, staggerMs: 0, gapMs: 0 });
    expect(times(source, 10)).toEqual([
      ["a", 0],
      ["c", 10],
      ["d", 40],
      ["b", 52],
    ]);
  });

  it("may end with sub-agents alone", () => {
    const last = agent({ id: "a" }, { starts: [{ agent: agent({ id: "c" }), delayMs: 5 }] });
    const source = new SessionSource(fromList([last, agent({ id: "z" })]), {
      lanes: 1,
      staggerMs: 0,
      gapMs: 0,
    });
    expect(times(source, 10)).toEqual([
      ["a", 0],
      ["c", 15],
      ["z", 25],
    ]);
  });

  it("keep lanes busy, staggered at the start", () => {
    let number = 0;
    const next = (): Agent | null => (number < 5 ? agent({ id: String(++number) }) : null);
    const source = new SessionSource(next, { lanes: 2, staggerMs: 4, gapMs: 1 });
    expect(times(source, 10)).toEqual([
      ["1", 0],
      ["2", 4],
      ["3", 11],
      ["4", 15],
      ["5", 22],
    ]);
  });

  it("start at given times whatever runs, opened no earlier than needed", () => {
    const starts = [0, 5, 30];
    let numOpened = 0;
    const next = (): Agent => agent({ id: String(++numOpened) }, { id: `${numOpened}+`, delayMs: 100 });
    const source = new SessionSource(next, { arrivals: () => starts.shift() ?? Number.POSITIVE_INFINITY });
    expect(source.nextArrivalMs).toBe(0);
    expect(numOpened).toBe(1);
    expect(times(source, 10)).toEqual([
      ["1", 0],
      ["2", 5],
      ["3", 30],
      ["1+", 110],
      ["2+", 115],
      ["3+", 140],
    ]);
  });

  it("give the next arrival as infinite while all wait for an end", () => {
    const source = new SessionSource(fromList([agent({ id: "a" }, { id: "b" })]), {
      lanes: 1,
      staggerMs: 0,
      gapMs: 0,
    });
    const request = source.take();
    expect(source.nextArrivalMs).toBe(Number.POSITIVE_INFINITY);
    source.ended(request, 77);
    expect(source.nextArrivalMs).toBe(77);
  });
});
