import { describe, expect, it } from "vitest";
import { makeSequence, tokenRange } from "../../../../test/support/make.ts";
import { BlockManager } from "../../kv/block-manager.ts";
import type { Sequence } from "../../sequence.ts";
import { Scheduler } from "../scheduler.ts";
import { findSchedulingPolicy, type PolicyOptions } from "./registry.ts";

/** A scheduler whose engine draws the same token always. */
class Rig {
  readonly scheduler: Scheduler;
  #order = 0;

  constructor(numBlocks = 20_000, options: PolicyOptions = {}) {
    const kv = { numBlocks, blockSizeTokens: 1, numSlots: 600, modelId: "m", maxCachedBlocks: 0 };
    const blocks = new BlockManager(kv);
    const bounds = { tokenBudget: 65_536, maxRunning: 600, maxWaiting: 600 };
    const policy = findSchedulingPolicy("splitwise", options)!;
    this.scheduler = new Scheduler({ ...bounds, policy, endOfGenerationTokens: new Set() }, blocks);
  }

  add(promptTokens: number, maxOutputTokens: number, stopsAfterPrefill = false): Sequence {
    const prompt = tokenRange(1, promptTokens);
    const sequence = makeSequence({ prompt, maxOutputTokens, order: this.#order++, stopsAfterPrefill });
    expect(this.scheduler.add(sequence)).toBe("added");
    return sequence;
  }

  /** Runs one step and returns the lengths of its chunks, by order of arrival of their sequences. */
  step(): Array<readonly [order: number, numTokens: number]> {
    const plan = this.scheduler.schedule();
    if (plan === null) return [];
    this.scheduler.apply(plan, { kind: "done", samples: plan.chunks.map(() => ({ token: 7 })) });
    this.scheduler.checkInvariants();
    return plan.chunks.map(({ sequence, numTokens }) => [sequence.order, numTokens] as const);
  }
}

describe("the splitwise policy", () => {
  it("batches whole prompts up to 2,048 tokens, and a longer one alone", () => {
    const rig = new Rig();
    for (const promptTokens of [1000, 1000, 100, 3000]) rig.add(promptTokens, 1);
    expect(rig.step()).toEqual([
      [0, 1000],
      [1, 1000],
    ]);
    expect(rig.step()).toEqual([[2, 100]]);
    expect(rig.step()).toEqual([[3, 3000]]);
  });

  it("passes decodes over that do not fit beside the prompts, and lets them go first afterwards", () => {
    const rig = new Rig();
    rig.add(10, 20);
    rig.step();
    rig.add(10, 20);
    expect(rig.step()).toEqual([
      [1, 10],
      [0, 1],
    ]);
    rig.add(2048, 20);
    expect(rig.step()).toEqual([[2, 2048]]);
    // The first was passed over; the second has not decoded yet.
    expect(rig.step()).toEqual([
      [0, 1],
      [1, 1],
      [2, 1],
    ]);
  });

  it("does not let a long prompt that decodes elsewhere break into a row of decodes until somebody leaves", () => {
    const rig = new Rig();
    rig.add(10, 4);
    rig.step();
    expect(rig.step()).toEqual([[0, 1]]);
    rig.add(2049, 1, true);
    expect(rig.step()).toEqual([[0, 1]]);
    expect(rig.step()).toEqual([[0, 1]]);
    expect(rig.step()).toEqual([[1, 2049]]);
  });

  it("lets a short prompt in at once, and a long one with it", () => {
    const rig = new Rig();
    rig.add(10, 20);
    rig.step();
    rig.step();
    rig.add(2049, 1, true);
    rig.step();
    rig.add(5, 1, true);
    expect(rig.step()).toEqual([[1, 2049]]);
  });

  it("takes KV for the whole output with the first decode, and goes on when nobody can have that", () => {
    const rig = new Rig(30);
    const [first, second] = [rig.add(12, 12), rig.add(12, 12)];
    rig.step();
    expect(rig.step().length).toBeGreaterThan(0);
    for (let step = 0; step < 100 && second.status !== "finished"; step++) rig.step();
    expect([first.status, second.status]).toEqual(["finished", "finished"]);
  });

  it("lets a decode go first that prompts have passed over so often, and otherwise never", () => {
    const stepsUntilDecode = (options: PolicyOptions) => {
      const rig = new Rig(3000, options);
      rig.add(10, 20);
      rig.step();
      // Prompts that leave no place, one for every step. Those that came later would stand before the decode, without a pass.
      for (let prompt = 0; prompt < 12; prompt++) rig.add(2048, 1);
      for (let step = 1; step <= 12; step++) {
        if (rig.step().some(([order]) => order === 0)) return step;
      }
      return null;
    };
    expect(stepsUntilDecode({})).toBeNull();
    expect(stepsUntilDecode({ maxPasses: 4 })).toBe(5);
    expect(stepsUntilDecode({ maxPasses: 2 })).toBe(3);
  });

  it("takes no KV for a decode that finds no place in the step", () => {
    const rig = new Rig(2100);
    const first = rig.add(10, 30);
    rig.step();
    rig.add(2048, 1);
    expect(rig.step()).toEqual([[1, 2048]]);
    // Its prompt and nothing for the output.
    expect(first.blocks.length).toBe(10);
  });
});
