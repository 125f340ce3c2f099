import fc from "fast-check";
import { expect } from "vitest";
import type { HandoffMessage } from "../../src/core/handoff/messages.ts";
import type { Request, WorkerId } from "../../src/core/request.ts";
import { SCHEDULING_POLICY_NAMES } from "../../src/core/scheduler/policies/registry.ts";
import type { RequestEvent, WorkerTask } from "../../src/core/worker-effects.ts";
import { makeRequest, tokenRange } from "./make.ts";
import { NaiveWorker, type NaiveWorkerOptions, type Outbox } from "./naive-worker.ts";

interface Outcome {
  readonly tokens: Map<number, number>;
  end: "finished" | "failed" | "cancelled" | null;
}

/** Worker loops joined by ordered links, run in any order that the test's random choices give. */
export class LoopFleet {
  readonly workers = new Map<WorkerId, NaiveWorker>();
  readonly outcomes = new Map<string, Outcome>();
  readonly #links = new Map<string, HandoffMessage[]>();
  readonly #pendingSubmits: Array<{ worker: WorkerId; request: Request; task: WorkerTask }> = [];
  /** Workers that will learn that a message could not be delivered. */
  readonly #unreachable: Array<{ worker: WorkerId; peer: WorkerId }> = [];
  readonly #choose: (count: number) => number;
  nowMs = 0;
  /** When set, receives the workers' reports, each at some later moment but in order per worker. */
  onEvents: ((from: WorkerId, events: readonly RequestEvent[]) => void) | null = null;
  readonly #reports: Array<{ from: WorkerId; events: readonly RequestEvent[] }> = [];
  /** Calls on their way to a worker, in order per worker. */
  readonly #calls: Array<{ worker: WorkerId; run: (worker: NaiveWorker) => void }> = [];
  readonly #options: NaiveWorkerOptions;
  readonly #outbox: Outbox;

  constructor(ids: readonly WorkerId[], options: NaiveWorkerOptions, choose: (count: number) => number) {
    this.#choose = choose;
    this.#options = options;
    this.#outbox = {
      send: (from: WorkerId, to: WorkerId, message: HandoffMessage) => {
        if (this.workers.has(to)) this.#link(from, to).push(message);
        else this.#unreachable.push({ worker: from, peer: to });
      },
      emit: (from: WorkerId, events: readonly RequestEvent[]) => {
        if (this.onEvents !== null) this.#reports.push({ from, events });
        else for (const event of events) this.#record(event);
      },
    };
    for (const id of ids) this.spawn(id);
  }

  spawn(id: WorkerId): void {
    this.workers.set(id, new NaiveWorker(id, this.#outbox, this.#options));
  }

  /** Lets `run` reach a worker at some later moment, in order with other calls to it; never if it dies before. */
  call(worker: WorkerId, run: (worker: NaiveWorker) => void): void {
    if (this.workers.has(worker)) this.#calls.push({ worker, run });
  }

  #link(from: WorkerId, to: WorkerId): HandoffMessage[] {
    const key = `${from}>${to}`;
    if (!this.#links.has(key)) this.#links.set(key, []);
    return this.#links.get(key)!;
  }

  #record(event: RequestEvent): void {
    const outcome = this.outcomes.get(event.requestId)!;
    if (event.kind === "token") {
      // Both legs report the first token; any other comes once.
      const known = outcome.tokens.get(event.index);
      if (known !== undefined && (event.index !== 0 || event.sampled.token !== known))
        throw new Error(`token ${event.index} comes twice, as ${known} and ${event.sampled.token}`);
      outcome.tokens.set(event.index, event.sampled.token);
    } else if (event.kind === "finish") {
      if (outcome.end === "finished") throw new Error("a request finishes twice");
      outcome.end ??= "finished";
    } else if (event.kind === "failed") {
      outcome.end ??= "failed";
    }
  }

  /** Submits to both legs; each arrives whenever its turn comes. */
  split(request: Request, prefill: WorkerId, decode: WorkerId, from?: WorkerId): void {
    this.outcomes.set(request.id, { tokens: new Map(), end: null });
    const numTokens = request.promptTokens.length;
    const fetch = from === undefined ? undefined : { from, numTokens };
    this.#pendingSubmits.push({ worker: prefill, request, task: { kind: "prefill", peer: decode, fetch } });
    this.#pendingSubmits.push({ worker: decode, request, task: { kind: "decode", peer: prefill } });
  }

  /** `from`: the worker that may have the beginning of the prompt. */
  local(request: Request, worker: WorkerId, from?: WorkerId): void {
    this.outcomes.set(request.id, { tokens: new Map(), end: null });
    const numTokens = request.promptTokens.length;
    const fetch = from === undefined ? undefined : { from, numTokens };
    this.#pendingSubmits.push({ worker, request, task: { kind: "local", fetch } });
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
      worker.check();
    }
  }

  /** Does one thing that could happen next. Returns false when nothing can. */
  advance(): boolean {
    // Each says which worker it has changed, if it has.
    const choices: Array<() => WorkerId | null> = [];
    if (this.#pendingSubmits.length > 0) choices.push(() => this.#submit());
    for (const worker of this.workers.values()) {
      if (worker.io.length > 0) {
        choices.push(() => {
          worker.io.splice(this.#choose(worker.io.length), 1)[0]!(this.nowMs);
          return worker.id;
        });
      }
      if (worker.jobs.length > 0)
        choices.push(() => {
          worker.runJob(this.nowMs);
          return worker.id;
        });
    }
    for (const from of new Set(this.#reports.map((report) => report.from))) {
      const at = this.#reports.findIndex((report) => report.from === from);
      choices.push(() => {
        this.onEvents!(from, this.#reports.splice(at, 1)[0]!.events);
        return null;
      });
    }
    for (const id of new Set(this.#calls.map(({ worker }) => worker))) {
      const at = this.#calls.findIndex(({ worker }) => worker === id);
      choices.push(() => {
        this.#calls.splice(at, 1)[0]!.run(this.workers.get(id)!);
        return id;
      });
    }
    if (this.#unreachable.length > 0) {
      const { worker, peer } = this.#unreachable[0]!;
      choices.push(() => {
        this.#unreachable.shift();
        this.workers.get(worker)?.loop.peerLost(peer, this.nowMs);
        return worker;
      });
    }
    for (const [key, messages] of this.#links) {
      if (messages.length > 0) choices.push(() => this.#deliver(key, messages));
    }
    if (choices.length === 0) return false;
    const changed = choices[this.#choose(choices.length)]!();
    for (const worker of this.workers.values()) worker.settle();
    if (changed !== null) this.workers.get(changed)?.check();
    return true;
  }

  #submit(): WorkerId {
    const at = this.#choose(this.#pendingSubmits.length);
    const { worker, request, task } = this.#pendingSubmits.splice(at, 1)[0]!;
    const outcome = this.workers.get(worker)!.loop.submit(request, task, this.nowMs);
    if (outcome !== "added") this.cancel(request);
    return worker;
  }

  #deliver(key: string, messages: HandoffMessage[]): WorkerId {
    const [from, to] = key.split(">") as [WorkerId, WorkerId];
    this.workers.get(to)!.loop.receive(from, messages.shift()!, this.nowMs);
    return to;
  }

  /** Kills a worker: its peers learn that it is lost, and what was on the way is gone. */
  kill(id: WorkerId): void {
    this.workers.delete(id);
    for (const key of [...this.#links.keys()]) if (key.split(">").includes(id)) this.#links.delete(key);
    for (let i = this.#pendingSubmits.length - 1; i >= 0; i--) {
      if (this.#pendingSubmits[i]!.worker === id) this.#pendingSubmits.splice(i, 1);
    }
    for (let i = this.#calls.length - 1; i >= 0; i--)
      if (this.#calls[i]!.worker === id) this.#calls.splice(i, 1);
    for (const worker of this.workers.values()) {
      worker.loop.peerLost(id, this.nowMs);
      worker.settle();
      worker.check();
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
        worker.check();
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
export const requestMaker = fc
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

export const workerOptions = fc.record({
  policy: fc.constantFrom(...SCHEDULING_POLICY_NAMES),
  numBlocks: fc.integer({ min: 20, max: 60 }),
  numSlots: fc.integer({ min: 9, max: 16 }),
  tokenBudget: fc.integer({ min: 6, max: 40 }),
  maxRunning: fc.integer({ min: 1, max: 4 }),
});

/** Choices from a list of numbers, so that fast-check can shrink an interleaving. */
export function chooserFrom(numbers: readonly number[]): (count: number) => number {
  let at = 0;
  return (count) => numbers[at++ % numbers.length]! % count;
}

export const interleaving = fc.array(fc.nat(1000), { minLength: 1, maxLength: 200 });
