import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Dispatcher } from "../../src/core/dispatch/dispatcher.ts";
import type { Request, WorkerId, WorkerRole } from "../../src/core/request.ts";
import { createLoadPlacement } from "../../src/core/router/placement.ts";
import type { SampledToken } from "../../src/core/scheduler/step-plan.ts";
import type { WorkerTask } from "../../src/core/worker-effects.ts";
import { chooserFrom, interleaving, LoopFleet, requestMaker, workerOptions } from "../support/loop-fleet.ts";
import { expectedOutput, type NaiveWorkerOptions } from "../support/naive-worker.ts";
import { workerFacts } from "../support/placement.ts";

const ROLES: Readonly<Record<string, WorkerRole>> = { p: "prefill", d: "decode", b: "both" };

/** A dispatcher over worker loops; workers are named by role and incarnation, such as `p0`. */
class DispatchedFleet {
  readonly dispatcher: Dispatcher;
  readonly fleet: LoopFleet;
  readonly text = new Map<string, number[]>();
  readonly ends = new Map<string, string>();
  #incarnation = 0;

  constructor(roles: readonly string[], options: NaiveWorkerOptions, choose: (count: number) => number) {
    this.dispatcher = new Dispatcher({
      placement: createLoadPlacement({ localPrefillBelowTokens: 8 }),
      maxRequests: 100,
      maxWaitMs: 10_000,
      maxAttempts: 3,
    });
    this.fleet = new LoopFleet([], options, choose);
    this.fleet.onEvents = (from, events) =>
      this.#act(() => this.dispatcher.workerEvents(from, events, this.fleet.nowMs));
    for (const role of roles) this.start(role);
  }

  start(role: string): void {
    const id = `${role}${this.#incarnation++}`;
    this.fleet.spawn(id);
    this.#act(() =>
      this.dispatcher.workerReady(
        workerFacts({ id, role: ROLES[role]!, kvTokensTotal: 200 }),
        this.fleet.nowMs,
      ),
    );
  }

  submit(request: Request): void {
    this.text.set(request.id, []);
    this.#act(() => expect(this.dispatcher.submit(request, this.fleet.nowMs)).toBe("accepted"));
  }

  cancel(request: Request): void {
    if (this.ends.has(request.id)) return;
    this.ends.set(request.id, "cancelled");
    this.#act(() => this.dispatcher.cancel(request.id, this.fleet.nowMs));
  }

  kill(id: WorkerId): void {
    this.fleet.kill(id);
    this.#act(() => this.dispatcher.workerLost(id, this.fleet.nowMs));
  }

  #act(input: () => void): void {
    input();
    for (const effect of this.dispatcher.takeEffects()) {
      if (effect.kind === "submit") this.#send(effect.worker, effect.request, effect.task);
      else if (effect.kind === "cancel") {
        const { worker, requestId, epoch } = effect;
        this.fleet.call(worker, ({ loop }) => loop.cancel(requestId, epoch, this.fleet.nowMs));
      } else if (effect.kind === "tokens") this.#receive(effect.requestId, effect.tokens);
      else if (effect.kind === "finish") this.#end(effect.requestId, "finished");
      else if (effect.kind === "error") this.#end(effect.requestId, effect.failure);
    }
    this.dispatcher.checkInvariants();
  }

  #send(worker: WorkerId, request: Request, task: WorkerTask): void {
    this.fleet.call(worker, ({ loop }) => {
      const outcome = loop.submit(request, task, this.fleet.nowMs);
      if (outcome === "added") return;
      const failure = outcome === "too_long" ? "too_long" : "kv_exhausted";
      this.#act(() => this.dispatcher.attemptFailed(request.id, request.epoch, failure, this.fleet.nowMs));
    });
  }

  #receive(requestId: string, tokens: readonly SampledToken[]): void {
    if (this.ends.has(requestId)) throw new Error("tokens after the end");
    this.text.get(requestId)!.push(...tokens.map(({ token }) => token));
  }

  #end(requestId: string, how: string): void {
    if (this.ends.has(requestId)) throw new Error("a second end");
    this.ends.set(requestId, how);
  }

  finish(): void {
    for (let rounds = 0; rounds < 1000; rounds++) {
      this.fleet.finish();
      const next = this.dispatcher.nextDeadlineMs;
      if (next === Number.POSITIVE_INFINITY) return;
      this.fleet.nowMs = Math.max(this.fleet.nowMs, next);
      this.#act(() => this.dispatcher.tick(this.fleet.nowMs));
    }
    throw new Error("the dispatcher does not come to rest");
  }
}

const fault = fc.record({
  atTurn: fc.nat(500),
  kind: fc.constantFrom("kill" as const, "start" as const, "cancel" as const),
  which: fc.nat(20),
});

describe("dispatcher over worker loops", () => {
  it("completes every request on a healthy fleet of any shape", () => {
    fc.assert(
      fc.property(
        workerOptions,
        fc.constantFrom(["b"], ["p", "d"], ["p", "p", "d", "d"], ["p", "b"], ["b", "b"], ["d"]),
        fc.array(requestMaker, { minLength: 1, maxLength: 8 }),
        interleaving,
        (options, roles, makers, numbers) => {
          const fleet = new DispatchedFleet(roles, options, chooserFrom(numbers));
          const requests = makers.map((make, i) => make(i));
          for (const request of requests) fleet.submit(request);
          fleet.finish();
          for (const request of requests) {
            expect(fleet.ends.get(request.id)).toBe("finished");
            expect(fleet.text.get(request.id)).toEqual(expectedOutput(request));
          }
          expect(fleet.dispatcher.numRequests).toBe(0);
          fleet.fleet.expectBaseline();
        },
      ),
      { numRuns: 200 },
    );
  });

  it("ends every request exactly once, with a true prefix of its text, whatever dies, returns or is cancelled", () => {
    fc.assert(
      fc.property(
        workerOptions,
        fc.array(requestMaker, { minLength: 1, maxLength: 8 }),
        fc.array(fault, { maxLength: 8 }),
        interleaving,
        (options, makers, faults, numbers) => {
          const fleet = new DispatchedFleet(["p", "d"], options, chooserFrom(numbers));
          const requests = makers.map((make, i) => make(i));
          for (const request of requests) fleet.submit(request);
          for (let turn = 0; turn < 500; turn++) {
            for (const { atTurn, kind, which } of faults) {
              if (atTurn !== turn) continue;
              const alive = [...fleet.fleet.workers.keys()];
              if (kind === "cancel") fleet.cancel(requests[which % requests.length]!);
              else if (kind === "start") fleet.start(which % 2 === 0 ? "p" : "d");
              else if (alive.length > 0) fleet.kill(alive[which % alive.length]!);
            }
            fleet.fleet.advance();
          }
          fleet.finish();
          for (const request of requests) {
            const end = fleet.ends.get(request.id);
            const expected = expectedOutput(request);
            const text = fleet.text.get(request.id)!;
            expect(["finished", "cancelled", "worker_lost", "no_workers", "kv_exhausted"]).toContain(end);
            expect(text).toEqual(end === "finished" ? expected : expected.slice(0, text.length));
          }
          expect(fleet.dispatcher.numRequests).toBe(0);
          fleet.fleet.expectBaseline();
        },
      ),
      { numRuns: 400 },
    );
  });
});
