import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { HandoffMessage } from "../../src/core/handoff/messages.ts";
import type { Request, WorkerId } from "../../src/core/request.ts";
import { SCHEDULING_POLICY_NAMES } from "../../src/core/scheduler/policies/registry.ts";
import type { RequestEvent, WorkerTask } from "../../src/core/worker-effects.ts";
import { makeRequest, tokenRange } from "../support/make.ts";
import { expectedOutput, NaiveWorker, type NaiveWorkerOptions } from "../support/naive-worker.ts";

interface Outcome {
  readonly tokens: Map<number, number>;
  end: "finished" | "failed" | "cancelled" | null;
}

/** Worker loops joined by ordered links, run in any order that the test's random choices give. */
class LoopFleet {
  readonly workers = new Map<WorkerId, NaiveWorker>();
  readonly outcomes = new Map<string, Outcome>();
  readonly #links = new Map<string, HandoffMessage[]>();
  readonly #pendingSubmits: Array<{ worker: WorkerId; request: Request; task: WorkerTask }> = [];
  /** Workers that will learn that a message could not be delivered. */
  readonly #unreachable: Array<{ worker: WorkerId; peer: WorkerId }> = [];
  readonly #choose: (count: number) => number;
  nowMs = 0;

  constructor(ids: readonly WorkerId[], options: NaiveWorkerOptions, choose: (count: number) => number) {
    this.#choose = choose;
    const outbox = {
      send: (from: WorkerId, to: WorkerId, message: HandoffMessage) => {
        if (this.workers.has(to)) this.#link(from, to).push(message);
        else this.#unreachable.push({ worker: from, peer: to });
      },
      emit: (_: WorkerId, events: readonly RequestEvent[]) => {
        for (const event of events) this.#record(event);
      },
    };
    for (const id of ids) this.workers.set(id, new NaiveWorker(id, outbox, options));
  }

  #link(from: WorkerId, to: WorkerId): HandoffMessage[] {
    const key = `${from}>${to}`;
    if (!this.#links.has(key)) this.#links.set(key, []);
    return this.#links.get(key)!;
  }

  #record(event: RequestEvent): void {
    const outcome = this.outcomes.get(event.requestId)!;
    if (event.kind === "token") {
      expect(outcome.tokens.has(event.index), `token ${event.index} of ${event.requestId} comes twice`).toBe(
        false,
      );
      outcome.tokens.set(event.index, event.sampled.token);
    } else if (event.kind === "finish") {
      expect(outcome.end).not.toBe("finished");
      outcome.end ??= "finished";
    } else if (event.kind === "failed") {
      outcome.end ??= "failed";
    }
  }

  /** Submits to both legs; each arrives whenever its turn comes. */
  split(request: Request, prefill: WorkerId, decode: WorkerId): void {
    this.outcomes.set(request.id, { tokens: new Map(), end: null });
    this.#pendingSubmits.push({ worker: prefill, request, task: { kind: "prefill", peer: decode } });
    this.#pendingSubmits.push({ worker: decode, request, task: { kind: "decode", peer: prefill } });
  }

  local(request: Request, worker: WorkerId): void {
    this.outcomes.set(request.id, { tokens: new Map(), end: null });
    this.#pendingSubmits.push({ worker, request, task: { kind: "local" } });
  }

  cancel(request: Request): void {
    const outcome = this.outcomes.get(request.id);
    if (outcome === undefined || outcome.end !== null) return;
    outcome.end = "cancelled";
    for (let i = this.#pendingSubmits.length - 1; i >= 0; i--) {
      if (this.#pendingSubmits[i]!.request === request) this.#pendingSubmits.splice(i, 1);
    }
    for (const worker of this.workers.values()) {
      worker.loop.cancel(request.id, request.epoch, this.nowMs);
      worker.settle();
    }
  }

  /** Does one thing that could happen next. Returns false when nothing can. */
  advance(): boolean {
    const choices: Array<() => void> = [];
    if (this.#pendingSubmits.length > 0) choices.push(() => this.#submit());
    for (const worker of this.workers.values()) {
      if (worker.jobs.length > 0) choices.push(() => worker.runJob(this.nowMs));
    }
    if (this.#unreachable.length > 0) {
      const { worker, peer } = this.#unreachable[0]!;
      choices.push(
        () => this.#unreachable.shift() && this.workers.get(worker)?.loop.peerLost(peer, this.nowMs),
      );
    }
    for (const [key, messages] of this.#links) {
      if (messages.length > 0) choices.push(() => this.#deliver(key, messages));
    }
    if (choices.length === 0) return false;
    choices[this.#choose(choices.length)]!();
    for (const worker of this.workers.values()) {
      worker.settle();
      worker.check();
    }
    return true;
  }

  #submit(): void {
    const at = this.#choose(this.#pendingSubmits.length);
    const { worker, request, task } = this.#pendingSubmits.splice(at, 1)[0]!;
    const outcome = this.workers.get(worker)!.loop.submit(request, task, this.nowMs);
    if (outcome !== "added") this.cancel(request);
  }

  #deliver(key: string, messages: HandoffMessage[]): void {
    const [from, to] = key.split(">") as [WorkerId, WorkerId];
    this.workers.get(to)!.loop.receive(from, messages.shift()!, this.nowMs);
  }

  /** Kills a worker: its peers learn that it is lost, and what was on the way is gone. */
  kill(id: WorkerId): void {
    this.workers.delete(id);
    for (const key of [...this.#links.keys()]) if (key.split(">").includes(id)) this.#links.delete(key);
    for (let i = this.#pendingSubmits.length - 1; i >= 0; i--) {
      if (this.#pendingSubmits[i]!.worker === id) this.#pendingSubmits.splice(i, 1);
    }
    for (const worker of this.workers.values()) {
      worker.loop.peerLost(id, this.nowMs);
      worker.settle();
    }
  }

  /** Runs until nothing happens any more, letting waits run out when everything else stands still. */
  finish(): void {
    for (let turns = 0; turns < 200_000; turns++) {
      if (this.advance()) continue;
      const deadlines = [...this.workers.values()].map((worker) => worker.loop.nextDeadlineMs);
      const next = Math.min(...deadlines, Number.POSITIVE_INFINITY);
      if (next === Number.POSITIVE_INFINITY) return;
      this.nowMs = next;
      for (const worker of this.workers.values()) {
        worker.loop.tick(this.nowMs);
        worker.settle();
      }
    }
    throw new Error("the fleet does not come to rest");
  }

  expectBaseline(): void {
    for (const worker of this.workers.values()) {
      worker.check();
      expect(worker.loop.numRequests).toBe(0);
      expect(worker.blocks.numUsedBlocks).toBe(0);
      expect(worker.cells.numCells).toBeLessThanOrEqual(
        worker.blocks.numCachedBlocks * worker.blocks.blockSizeTokens,
      );
    }
  }

  textOf(request: Request): number[] {
    const { tokens } = this.outcomes.get(request.id)!;
    return Array.from({ length: tokens.size }, (_, i) => tokens.get(i)!);
  }
}

/** Requests with shared prefixes in a few families. */
const requestArbitrary = fc
  .record({
    family: fc.nat(2),
    shared: fc.nat(30),
    own: fc.integer({ min: 1, max: 25 }),
    maxOutputTokens: fc.integer({ min: 1, max: 20 }),
    priority: fc.nat(1),
  })
  .map(
    (shape) => (index: number) =>
      makeRequest({
        id: `r${index}`,
        prompt: [
          ...tokenRange(shape.family * 100 + 1, shape.shared),
          ...tokenRange(index * 1000 + 500, shape.own),
        ],
        maxOutputTokens: shape.maxOutputTokens,
        priority: shape.priority,
      }),
  );

const optionsArbitrary = fc.record({
  policy: fc.constantFrom(...SCHEDULING_POLICY_NAMES),
  numBlocks: fc.integer({ min: 20, max: 60 }),
  numSlots: fc.integer({ min: 9, max: 16 }),
  tokenBudget: fc.integer({ min: 6, max: 40 }),
  maxRunning: fc.integer({ min: 1, max: 4 }),
});

/** Choices from a list of numbers, so that fast-check can shrink an interleaving. */
function chooserFrom(numbers: readonly number[]): (count: number) => number {
  let at = 0;
  return (count) => numbers[at++ % numbers.length]! % count;
}

const interleaving = fc.array(fc.nat(1000), { minLength: 1, maxLength: 200 });

describe("worker loops", () => {
  it("give every request its exact output, split or not, under any policy, pressure and interleaving", () => {
    fc.assert(
      fc.property(
        optionsArbitrary,
        fc.array(fc.tuple(requestArbitrary, fc.nat(2)), { minLength: 1, maxLength: 8 }),
        interleaving,
        (options, shapes, numbers) => {
          const fleet = new LoopFleet(["p", "d"], options, chooserFrom(numbers));
          const requests = shapes.map(([make, place], i) => ({ request: make(i), place }));
          for (const { request, place } of requests) {
            if (place === 0) fleet.local(request, "d");
            else fleet.split(request, "p", "d");
          }
          fleet.finish();
          for (const { request } of requests) {
            expect(fleet.outcomes.get(request.id)!.end).toBe("finished");
            expect(fleet.textOf(request)).toEqual(expectedOutput(request));
          }
          fleet.expectBaseline();
        },
      ),
      { numRuns: 250 },
    );
  });

  it("return to the baseline after cancels at any moment, and never emit a wrong token", () => {
    fc.assert(
      fc.property(
        optionsArbitrary,
        fc.array(fc.tuple(requestArbitrary, fc.nat(2), fc.nat(400)), { minLength: 1, maxLength: 8 }),
        interleaving,
        (options, shapes, numbers) => {
          const fleet = new LoopFleet(["p", "d"], options, chooserFrom(numbers));
          const requests = shapes.map(([make, place, cancelAt], i) => ({
            request: make(i),
            place,
            cancelAt,
          }));
          for (const { request, place } of requests) {
            if (place === 0) fleet.local(request, "d");
            else fleet.split(request, "p", "d");
          }
          for (let turn = 0; turn < 400; turn++) {
            for (const { request, cancelAt } of requests) if (cancelAt === turn) fleet.cancel(request);
            if (!fleet.advance()) break;
          }
          fleet.finish();
          for (const { request } of requests) {
            const { tokens, end } = fleet.outcomes.get(request.id)!;
            const expected = expectedOutput(request);
            expect(end).not.toBeNull();
            for (const [index, token] of tokens) expect(token).toBe(expected[index]);
            if (end === "finished") expect(tokens.size).toBe(expected.length);
          }
          fleet.expectBaseline();
        },
      ),
      { numRuns: 250 },
    );
  });

  it("fail or finish every request when the other worker dies, and hold nothing afterwards", () => {
    fc.assert(
      fc.property(
        optionsArbitrary,
        fc.array(requestArbitrary, { minLength: 1, maxLength: 6 }),
        fc.nat(300),
        fc.boolean(),
        interleaving,
        (options, shapes, killAt, killPrefill, numbers) => {
          const fleet = new LoopFleet(["p", "d"], options, chooserFrom(numbers));
          const requests = shapes.map((make, i) => make(i));
          for (const request of requests) fleet.split(request, "p", "d");
          for (let turn = 0; turn < killAt; turn++) if (!fleet.advance()) break;
          fleet.kill(killPrefill ? "p" : "d");
          fleet.finish();
          for (const request of requests) {
            const { tokens, end } = fleet.outcomes.get(request.id)!;
            const expected = expectedOutput(request);
            for (const [index, token] of tokens) expect(token).toBe(expected[index]);
            if (end === "finished" && !killPrefill) expect(tokens.size).toBeLessThanOrEqual(expected.length);
          }
          fleet.expectBaseline();
        },
      ),
      { numRuns: 250 },
    );
  });
});
