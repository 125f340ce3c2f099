import { afterEach, describe, expect, it } from "vitest";
import {
  answerFully,
  BenchServer,
  type BenchServerOptions,
  fullStream,
  ManualClock,
  wordsOf,
} from "../../test/support/bench-server.ts";
import { loadOptionsFor } from "../../test/support/load-options.ts";
import { Rng } from "../core/util/rng.ts";
import type { CacheWishes } from "../protocol/cache-hints.ts";
import { plainRequest } from "../twin/workload/plain-request.ts";
import { SessionSource } from "../twin/workload/session-source.ts";
import { PulledSource } from "../twin/workload/trace-source.ts";
import { WorkloadError, type WorkloadSource } from "../twin/workload/workload.ts";
import type { LoadOptions } from "./options.ts";
import { loadReportSchema } from "./report.ts";
import { runLoad } from "./run-load.ts";

const servers: BenchServer[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

async function start(options: BenchServerOptions = {}): Promise<{ server: BenchServer; url: URL }> {
  const server = new BenchServer({ tokenize: "twofold", ...options });
  servers.push(server);
  return { server, url: await server.listen() };
}

function optionsFor(url: URL, source: WorkloadSource, overrides: Partial<LoadOptions> = {}): LoadOptions {
  return loadOptionsFor(url, {
    arrivals: { kind: "workload", name: "test", open: () => source },
    numRequests: 1000,
    ...overrides,
  });
}

function environment() {
  const clock = new ManualClock();
  const interrupt = new AbortController();
  return { clock, interrupt, given: { clock, signal: interrupt.signal, startedAt: new Date(0) } };
}

/** Requests at their times: [arrivalMs, output tokens, block ids of 16 tokens]. */
function openLoop(...rows: [number, number, number[], CacheWishes?][]): WorkloadSource {
  const left = rows.map(([arrivalMs, outputTokens, ids, wishes = null], index) => ({
    ...plainRequest(`r${index}`, ids.length * 16, outputTokens),
    arrivalMs,
    wishes,
    blocks: { blockTokens: 16, scope: "", ids },
  }));
  return new PulledSource(() => left.shift() ?? null);
}

function session(...steps: { id: string; delayMs: number }[]): SessionSource {
  const left = steps.map(({ id, delayMs }) => ({
    request: plainRequest(id, 20, 2),
    delayMs,
    afterArrivalMs: 0,
    starts: [],
    waitsForAgents: false,
  }));
  let isOver = false;
  const nextSession = () => {
    if (isOver) return null;
    isOver = true;
    return { next: () => left.shift() ?? null };
  };
  return new SessionSource(nextSession, { lanes: 1, staggerMs: 0, gapMs: 0 });
}

describe("replaying a workload", () => {
  it("sends each request on time with its lengths, and prompts that share what the ids share", async () => {
    const { server, url } = await start();
    const { clock, given } = environment();
    const source = openLoop([0, 5, [1, 2]], [100, 7, [1, 3, 4]], [250, 9, [8]]);
    const running = runLoad(optionsFor(url, source), given);
    for (const [arrivalMs, outputTokens] of [
      [0, 5],
      [100, 7],
      [250, 9],
    ] as const) {
      clock.advanceTo(arrivalMs);
      const exchange = await server.next();
      expect(exchange.body).toMatchObject({
        max_tokens: outputTokens,
        min_tokens: outputTokens,
        ignore_eos: true,
      });
      answerFully(exchange, outputTokens);
    }
    const report = await running;
    expect(report.requests).toMatchObject({ scheduled: 3, completed: 3 });
    expect(report.load).toMatchObject({ arrivals: "workload", workload: "test", requestsPerSecond: null });
    expect(report.latency.sendDelayMs?.max).toBe(0);
    expect(loadReportSchema.parse(JSON.parse(JSON.stringify(report)))).toEqual(report);
    const prompts = server.bodies.map(wordsOf);
    expect(prompts.map((words) => words.length)).toEqual([32, 48, 16]);
    expect(prompts[0]?.slice(0, 16)).toEqual(prompts[1]?.slice(0, 16));
    expect(prompts[0]?.slice(16)).not.toEqual(prompts[1]?.slice(16, 32));
    expect(prompts[2]).not.toEqual(prompts[0]?.slice(0, 16));
  });

  it("says of the KV what the workload says, and nothing else", async () => {
    const { server, url } = await start();
    const { clock, given } = environment();
    const wishes = { retention: { keep: "long", ttlMs: 5000 }, expectedFanOut: 3, nextTurnMs: 1500 } as const;
    const running = runLoad(
      optionsFor(url, openLoop([0, 5, [1], wishes], [10, 5, [2], {}], [20, 5, [3]])),
      given,
    );
    const caches: unknown[] = [];
    for (const arrivalMs of [0, 10, 20]) {
      clock.advanceTo(arrivalMs);
      const exchange = await server.next();
      caches.push(exchange.body.cache);
      answerFully(exchange, 5);
    }
    await running;
    expect(caches).toEqual([
      { keep: "long", ttl_seconds: 5, fan_out: 3, next_turn_seconds: 1.5 },
      undefined,
      undefined,
    ]);
  });

  it("sends a session's next request when the one before has ended and its thought is over", async () => {
    const { server, url } = await start();
    const { clock, given } = environment();
    const running = runLoad(
      optionsFor(url, session({ id: "a", delayMs: 0 }, { id: "b", delayMs: 50 })),
      given,
    );
    const first = await server.next();
    clock.advanceTo(1000);
    expect(server.bodies).toHaveLength(1);
    answerFully(first, 2);
    // The clock moves until the second comes: it cannot before 1050.
    const second = server.next();
    let timeMs = 1000;
    let isSent = false;
    void second.then(() => {
      isSent = true;
    });
    while (!isSent) {
      await clock.yieldToIo();
      clock.advanceTo(timeMs++);
    }
    expect(timeMs).toBeGreaterThan(1050);
    answerFully(await second, 2);
    const report = await running;
    expect(report.requests).toMatchObject({ scheduled: 2, completed: 2 });
  });

  it("goes on with a session whose request failed or was dropped", async () => {
    const { server, url } = await start();
    const { given } = environment();
    const failed = runLoad(optionsFor(url, session({ id: "a", delayMs: 0 }, { id: "b", delayMs: 0 })), given);
    (await server.next()).response.writeHead(500).end();
    answerFully(await server.next(), 2);
    expect((await failed).requests).toMatchObject({ scheduled: 2, completed: 1, failed: 1 });
  });

  it("tells the workload of requests that it drops", async () => {
    const { server, url } = await start();
    const { given } = environment();
    const endedIds: string[] = [];
    const inner = openLoop([0, 1, [1]], [0, 1, [2]], [0, 1, [3]]);
    const source: WorkloadSource = {
      get nextArrivalMs() {
        return inner.nextArrivalMs;
      },
      take: () => inner.take(),
      ended: ({ id }) => void endedIds.push(id),
    };
    const running = runLoad(optionsFor(url, source, { maxInFlight: 1 }), given);
    answerFully(await server.next(), 1);
    expect((await running).requests).toMatchObject({ scheduled: 3, completed: 1, dropped: 2 });
    expect(endedIds).toEqual(["r1", "r2", "r0"]);
  });

  it("stops at the number of requests, or at a time", async () => {
    const { url } = await start({ autoAnswer: (body) => fullStream(Number(body.max_tokens)) });
    const rows = Array.from({ length: 50 }, (): [number, number, number[]] => [0, 1, [1]]);
    const limited = await runLoad(
      optionsFor(url, openLoop(...rows), { numRequests: 20 }),
      environment().given,
    );
    expect(limited.requests).toMatchObject({ scheduled: 20, completed: 20 });
    const timed = openLoop([0, 1, [1]], [0, 1, [1]], [5000, 1, [1]]);
    const report = await runLoad(optionsFor(url, timed, { durationMs: 4000 }), environment().given);
    expect(report.requests).toMatchObject({ scheduled: 2, completed: 2 });
  });

  it("ends at an interrupt while it waits, and reports", async () => {
    const { server, url } = await start();
    const { given, interrupt } = environment();
    const running = runLoad(optionsFor(url, openLoop([0, 1, [1]], [1e9, 1, [1]])), given);
    await server.next();
    interrupt.abort();
    expect(await running).toMatchObject({ isInterrupted: true, requests: { scheduled: 1, aborted: 1 } });
  });

  it("ends with the reason when the workload turns out to be bad, wherever that is noticed", async () => {
    const { url } = await start({ autoAnswer: () => fullStream(1) });
    const bad = new WorkloadError("trace.jsonl", 7, "is not JSON");
    let numPulled = 0;
    const late = new PulledSource(() => {
      if (numPulled++ > 0) throw bad;
      return { ...plainRequest("a", 5, 1), arrivalMs: 0 };
    });
    await expect(runLoad(optionsFor(url, late), environment().given)).rejects.toThrow(
      "trace.jsonl:7: is not JSON",
    );
    const inner = session({ id: "a", delayMs: 0 });
    const atEnd: WorkloadSource = {
      get nextArrivalMs() {
        return inner.nextArrivalMs;
      },
      take: () => inner.take(),
      ended: () => {
        throw bad;
      },
    };
    await expect(runLoad(optionsFor(url, atEnd), environment().given)).rejects.toThrow("trace.jsonl:7");
  });

  it("is opened with the run's own seed", async () => {
    const { url } = await start({ autoAnswer: () => fullStream(1) });
    const seeds: number[] = [];
    const open = (rng: Rng): WorkloadSource => {
      seeds.push(rng.seed);
      return openLoop([0, 1, [1]]);
    };
    const arrivals = { kind: "workload", name: "test", open } as const;
    await runLoad(optionsFor(url, openLoop(), { arrivals, seed: 42 }), environment().given);
    expect(seeds).toEqual([new Rng(42).seed]);
  });
});
