import { describe, expect, it } from "vitest";
import { makeRequest, makeSequence, type RequestOverrides, tokenRange } from "../../../test/support/make.ts";
import { NaiveWorker, type NaiveWorkerOptions } from "../../../test/support/naive-worker.ts";
import type { RequestEvent } from "../worker-effects.ts";
import { findSchedulingPolicy } from "./policies/registry.ts";

/** A worker without peers, and what it emitted. */
function makeWorker(options: NaiveWorkerOptions = {}): {
  worker: NaiveWorker;
  events: RequestEvent[];
  submit(overrides: RequestOverrides): void;
  /** Runs one step and returns what was in it: [request, start, tokens]. */
  step(): Array<[string, number, number]>;
} {
  const events: RequestEvent[] = [];
  const outbox = {
    send: () => {
      throw new Error("there is no peer");
    },
    emit: (_: string, emitted: readonly RequestEvent[]) => {
      events.push(...emitted);
    },
  };
  const worker = new NaiveWorker("w", outbox, options);
  return {
    worker,
    events,
    submit(overrides) {
      worker.loop.submit(makeRequest({ ignoreEndOfGeneration: true, ...overrides }), { kind: "local" }, 0);
      worker.settle();
    },
    step() {
      while (worker.jobs.length > 0 && worker.jobs[0]!.kind !== "execute") worker.runJob(0);
      const plan = worker.plans.at(-1)!;
      worker.runJob(0);
      worker.check();
      return plan.chunks.map(({ sequence, start, numTokens }) => [sequence.request.id, start, numTokens]);
    },
  };
}

const A = { id: "a", prompt: tokenRange(100, 6), maxOutputTokens: 4 };
const B = { id: "b", prompt: tokenRange(200, 5), maxOutputTokens: 2 };
const LONG = { id: "long", prompt: tokenRange(300, 20), maxOutputTokens: 2 };

describe("scheduling policies", () => {
  it("static: nobody joins a batch before it has finished entirely", () => {
    const { submit, step } = makeWorker({ policy: "static", tokenBudget: 64 });
    submit(A);
    submit(B);
    // A alone was scheduled when it arrived; B has to wait for all four of its tokens.
    expect(step()).toEqual([["a", 0, 6]]);
    for (const start of [6, 7, 8]) expect(step()).toEqual([["a", start, 1]]);
    expect(step()).toEqual([["b", 0, 5]]);
  });

  it("orca: sequences join between steps, whole prompts beside decodes", () => {
    const { submit, step } = makeWorker({ policy: "orca", tokenBudget: 64 });
    submit(A);
    submit(B);
    expect(step()).toEqual([["a", 0, 6]]);
    expect(step()).toEqual([
      ["a", 6, 1],
      ["b", 0, 5],
    ]);
  });

  it("orca: reserves the longest output, so a second sequence waits although its prompt would fit", () => {
    const { submit, step } = makeWorker({ policy: "orca", numBlocks: 4, tokenBudget: 64 });
    submit({ ...A, maxOutputTokens: 8 });
    submit(B);
    expect(step()).toEqual([["a", 0, 6]]);
    expect(step()).toEqual([["a", 6, 1]]);
  });

  it("prefill-first: a prompt that arrives stops the decodes for a step of its own", () => {
    const { submit, step } = makeWorker({ policy: "prefill-first", tokenBudget: 64 });
    submit(A);
    expect(step()).toEqual([["a", 0, 6]]);
    submit(B);
    expect(step()).toEqual([["a", 6, 1]]);
    expect(step()).toEqual([["b", 0, 5]]);
    expect(step()).toEqual([
      ["a", 7, 1],
      ["b", 5, 1],
    ]);
  });

  it("chunked: decodes are in every step, and prompts share the rest of the budget", () => {
    const { submit, step } = makeWorker({ policy: "chunked", tokenBudget: 8 });
    submit(A);
    expect(step()).toEqual([["a", 0, 6]]);
    submit(LONG);
    submit(B);
    expect(step()).toEqual([["a", 6, 1]]);
    expect(step()).toEqual([
      ["a", 7, 1],
      ["long", 0, 7],
    ]);
    expect(step()).toEqual([
      ["a", 8, 1],
      ["long", 7, 7],
    ]);
    expect(step()).toEqual([
      ["long", 14, 6],
      ["b", 0, 2],
    ]);
    expect(step()).toEqual([
      ["long", 20, 1],
      ["b", 2, 3],
    ]);
  });

  it("has a registry that knows exactly these names", () => {
    expect(findSchedulingPolicy("static")?.name).toBe("static");
    expect(findSchedulingPolicy("nonsense")).toBeNull();
  });
});

describe("Scheduler", () => {
  it("serves lower priority values first, then arrivals in order", () => {
    const { submit, step } = makeWorker({ tokenBudget: 5, maxRunning: 1 });
    submit({ id: "first", prompt: tokenRange(1, 5), maxOutputTokens: 1 });
    submit({ id: "later", prompt: tokenRange(1, 5), maxOutputTokens: 1 });
    submit({ id: "urgent", prompt: tokenRange(1, 5), maxOutputTokens: 1, priority: -1 });
    const order = [step(), step(), step()].map((chunks) => chunks[0]![0]);
    expect(order).toEqual(["first", "urgent", "later"]);
  });

  it("preempts the sequence that came last when KV runs out, and finishes both", () => {
    const { worker, submit, events } = makeWorker({ numBlocks: 5, tokenBudget: 32 });
    submit({ id: "old", prompt: tokenRange(100, 7), maxOutputTokens: 10 });
    submit({ id: "young", prompt: tokenRange(200, 7), maxOutputTokens: 10 });
    while (worker.runJob(0)) worker.check();
    expect(worker.scheduler.numPreemptions).toBeGreaterThan(0);
    const finished = events.flatMap((event) => (event.kind === "finish" ? [event.requestId] : []));
    expect(finished).toEqual(["old", "young"]);
    expect(events.filter((event) => event.kind === "token")).toHaveLength(20);
  });

  it("rejects what can never fit, and what exceeds the queue", () => {
    const { worker } = makeWorker({ numBlocks: 4, maxWaiting: 1, maxRunning: 1 });
    const take = (id: string, length: number) =>
      worker.loop.submit(
        makeRequest({ id, prompt: tokenRange(1, length), maxOutputTokens: 2 }),
        { kind: "local" },
        0,
      );
    expect(take("huge", 17)).toBe("too_long");
    expect([take("runs", 4), take("waits", 4), take("excess", 4)]).toEqual(["added", "added", "queue_full"]);
  });

  it("counts prompt tokens found in the prefix cache once, at the first admission", () => {
    const { worker, submit, events } = makeWorker({ tokenBudget: 64 });
    submit({ id: "first", prompt: tokenRange(100, 13), maxOutputTokens: 1 });
    while (worker.runJob(0));
    submit({ id: "again", prompt: tokenRange(100, 13), maxOutputTokens: 1 });
    while (worker.runJob(0));
    const cached = events.flatMap((event) => (event.kind === "cached" ? [event.numTokens] : []));
    expect(cached).toEqual([0, 12]);
    expect(worker.scheduler.prefixTokens).toEqual({ queried: 26, hit: 12 });
  });

  it("goes on from resumed tokens as if it had drawn them itself", () => {
    const { worker, submit, events } = makeWorker({ tokenBudget: 64 });
    submit({ id: "whole", prompt: tokenRange(100, 5), maxOutputTokens: 8 });
    while (worker.runJob(0));
    const whole = events.flatMap((event) => (event.kind === "token" ? [event.sampled.token] : []));
    events.length = 0;
    submit({ id: "rest", prompt: tokenRange(100, 5), resumed: whole.slice(0, 3), maxOutputTokens: 8 });
    while (worker.runJob(0));
    const rest = events.flatMap((event) =>
      event.kind === "token" ? [[event.index, event.sampled.token]] : [],
    );
    expect(rest).toEqual(whole.slice(3).map((token, i) => [i + 3, token]));
  });

  it("leaves a step that was aborted to be done again", () => {
    const { worker } = makeWorker({ tokenBudget: 64 });
    worker.scheduler.add(makeSequence({ prompt: tokenRange(1, 5) }));
    const plan = worker.scheduler.schedule()!;
    expect(worker.scheduler.apply(plan, { kind: "aborted" })).toEqual([]);
    const again = worker.scheduler.schedule()!;
    expect(again.chunks[0]!.start).toBe(0);
    expect(again.index).toBe(plan.index + 1);
  });
});
