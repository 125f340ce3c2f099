import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { makeSequence } from "../../../test/support/make.ts";
import { BlockManager } from "../kv/block-manager.ts";
import type { Sequence } from "../sequence.ts";
import { findSchedulingPolicy, SCHEDULING_POLICY_NAMES } from "./policies/registry.ts";
import { Scheduler } from "./scheduler.ts";
import type { SampledToken, StepPlan } from "./step-plan.ts";

const DRAWN: SampledToken = { token: 7 };

interface Arrival {
  readonly atStep: number;
  readonly promptTokens: number;
  readonly maxOutputTokens: number;
  readonly prefix: number;
}

/** A scheduler with an engine that draws the same token always. */
class Rig {
  readonly blocks = new BlockManager({ numBlocks: 24, blockSizeTokens: 4, numSlots: 40, modelId: "m" });
  readonly scheduler: Scheduler;
  readonly sequences: Sequence[] = [];
  readonly #arrivals: Arrival[];

  constructor(policy: string, maxStepsPerPlan: number, arrivals: readonly Arrival[]) {
    const options = { tokenBudget: 64, maxRunning: 5, maxWaiting: 100, endOfGenerationTokens: new Set([0]) };
    this.scheduler = new Scheduler(
      { ...options, policy: findSchedulingPolicy(policy)!, maxStepsPerPlan },
      this.blocks,
    );
    this.#arrivals = [...arrivals].sort((a, b) => a.atStep - b.atStep);
  }

  /** Steps until the next arrival, which ends a row of repeated ones. */
  untilArrival(): number {
    const next = this.#arrivals[0];
    return next === undefined ? Number.POSITIVE_INFINITY : next.atStep - this.scheduler.numSteps;
  }

  admitArrivals(isIdle: boolean): void {
    while (this.#arrivals.length > 0 && (isIdle || this.untilArrival() <= 0)) {
      const { promptTokens, maxOutputTokens, prefix } = this.#arrivals.shift()!;
      const prompt = Array.from({ length: promptTokens }, (_, i) => (i < prefix ? i : 100 * prefix + i));
      const order = this.sequences.length;
      const sequence = makeSequence({ prompt, maxOutputTokens, order });
      this.sequences.push(sequence);
      this.scheduler.add(sequence);
      if (isIdle) return;
    }
  }

  /** Where everything lies once `numSteps` steps are over. */
  runTo(numSteps: number, rows: { longest: number }): string | null {
    for (;;) {
      this.admitArrivals(false);
      const plan = this.scheduler.schedule();
      if (plan === null) {
        if (this.untilArrival() === Number.POSITIVE_INFINITY) return null;
        this.admitArrivals(true);
        continue;
      }
      const row = Math.min(plan.maxSteps, this.untilArrival(), numSteps - this.scheduler.numSteps);
      rows.longest = Math.max(rows.longest, row);
      if (row > 1) this.scheduler.repeat(plan, Array(row - 1).fill(DRAWN));
      const state = this.scheduler.numSteps + 1 === numSteps ? this.#state(plan) : null;
      this.scheduler.apply(plan, {
        kind: "done",
        samples: plan.chunks.map((c) => (c.samples ? DRAWN : null)),
      });
      this.scheduler.checkInvariants();
      if (state !== null) return state;
    }
  }

  #state(plan: StepPlan): string {
    const sequences = this.sequences.map(({ numComputedTokens, blocks, status }) => ({
      numComputedTokens,
      blocks: blocks.join(),
      status,
    }));
    return JSON.stringify({ sequences, inStep: plan.chunks.map(({ sequence }) => sequence.order) });
  }
}

describe("repeated steps", () => {
  it.each(SCHEDULING_POLICY_NAMES)(
    "leave everything where single steps would have left it (%s)",
    (policy) => {
      const rows = { longest: 0 };
      const arrival = fc.record({
        atStep: fc.nat(60),
        promptTokens: fc.integer({ min: 1, max: 30 }),
        maxOutputTokens: fc.integer({ min: 1, max: 40 }),
        prefix: fc.constantFrom(0, 8, 16),
      });
      fc.assert(
        fc.property(fc.array(arrival, { minLength: 1, maxLength: 12 }), (arrivals) => {
          const single = new Rig(policy, 1, arrivals);
          const repeated = new Rig(policy, 32, arrivals);
          for (let step = 1; step < 400; step += 7) {
            const expected = single.runTo(step, { longest: 0 });
            expect(repeated.runTo(step, rows)).toBe(expected);
            if (expected === null) break;
          }
        }),
        { numRuns: 150 },
      );
      expect(rows.longest).toBeGreaterThan(4);
    },
  );
});
