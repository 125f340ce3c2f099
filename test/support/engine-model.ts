import { expect } from "vitest";
import type { KvOp } from "../../src/core/kv/kv-ops.ts";
import type { Engine } from "../../src/serve/engine/engine.ts";
import { chunkOf, planOf } from "./engine-plan.ts";
import { KvCells } from "./kv-cells.ts";
import { makeSequence } from "./make.ts";

const MAX_SLOT_TOKENS = 120;

/**
 * Drives an engine with random operations and keeps the naive truth beside it: which tokens every position of every slot was
 * computed from. What a slot really holds is compared with the KV that a second engine computes from scratch.
 */
export class EngineModel {
  numChecks = 0;
  readonly #engine: Engine;
  readonly #reference: Engine;
  readonly #random: (bound: number) => number;
  readonly #cells = new KvCells();
  /** The tokens that a slot's positions come from. Positions may be missing, but what is there comes from these. */
  readonly #histories: number[][];

  readonly #compareKv: (actual: Uint8Array, expected: Uint8Array) => void;

  constructor(
    engine: Engine,
    reference: Engine,
    random: (bound: number) => number,
    compareKv: (actual: Uint8Array, expected: Uint8Array) => void,
  ) {
    this.#compareKv = compareKv;
    this.#engine = engine;
    this.#reference = reference;
    this.#random = random;
    this.#histories = Array.from({ length: engine.info.numSlots }, () => []);
  }

  /** One random operation. */
  async step(): Promise<void> {
    const operations = [
      this.#extend,
      this.#extend,
      this.#fork,
      this.#drop,
      this.#drop,
      this.#move,
      this.#check,
    ];
    await operations[this.#random(operations.length)]!.call(this);
  }

  async checkAll(): Promise<void> {
    for (let slot = 0; slot < this.#histories.length; slot++) await this.#checkSlot(slot);
  }

  /** Computes new tokens in a few slots at once; sometimes the step is aborted. */
  async #extend(): Promise<void> {
    const slots = this.#completeSlots();
    const chosen = slots.filter(() => this.#random(3) === 0).slice(0, 4);
    if (chosen.length === 0) return;
    const chunks = chosen.map((slot) => {
      const start = this.#histories[slot]!.length;
      const added = 1 + (this.#random(3) === 0 ? this.#random(24) : 0);
      const tokens = Array.from({ length: added }, () => this.#random(this.#engine.info.vocabSize));
      const sequence = makeSequence({ prompt: [...this.#histories[slot]!, ...tokens] });
      sequence.slot = slot;
      return chunkOf(sequence, start, added);
    });
    const plan = planOf(...chunks);
    const result = this.#engine.execute(plan);
    if (this.#random(6) === 0) {
      this.#engine.abort();
      expect(await result).toEqual({ kind: "aborted" });
    } else if (this.#cells.numCells + plan.numTokens > this.#engine.info.kvCapacityTokens) {
      await expect(result).rejects.toMatchObject({ code: "kv_full" });
    } else {
      expect((await result).kind).toBe("done");
      for (const { sequence, start } of chunks) {
        const history = Array.from(sequence.request.promptTokens);
        this.#histories[sequence.slot] = history;
        for (let at = start; at < history.length; at++) this.#write(sequence.slot, at);
      }
    }
  }

  /** Shares a range of one slot with an empty one: a prefix mostly, else something from the middle. */
  async #fork(): Promise<void> {
    const to = this.#emptySlot();
    const from = this.#random(this.#histories.length);
    const range = this.#heldRange(from);
    if (to === undefined || range === null || from === to) return;
    await this.#apply({ kind: "share", slot: from, to, ...range });
    this.#histories[to] = this.#histories[from]!.slice(0, range.end);
  }

  async #drop(): Promise<void> {
    const slot = this.#random(this.#histories.length);
    const length = this.#histories[slot]!.length;
    const start = this.#random(2) === 0 ? 0 : this.#random(length + 1);
    const end = this.#random(2) === 0 ? length + 8 : start + this.#random(40);
    await this.#apply({ kind: "drop", slot, start, end: Math.max(start, end) });
    const last = this.#cells.positions(slot).at(-1) ?? -1;
    this.#histories[slot]!.length = last + 1;
  }

  /** Exports a range and imports it into an empty slot, as between two workers. */
  async #move(): Promise<void> {
    const to = this.#emptySlot();
    const from = this.#random(this.#histories.length);
    const range = this.#heldRange(from);
    if (to === undefined || range === null || from === to) return;
    const bytes = await this.#engine.exportKv({ slot: from, ...range });
    const imported = this.#engine.importKv({ slot: to, ...range }, bytes);
    if (this.#cells.numCells + range.end - range.start > this.#engine.info.kvCapacityTokens) {
      await expect(imported).rejects.toMatchObject({ code: "kv_full" });
      return;
    }
    await imported;
    this.#histories[to] = this.#histories[from]!.slice(0, range.end);
    for (let at = range.start; at < range.end; at++) this.#write(to, at);
  }

  async #check(): Promise<void> {
    await this.#checkSlot(this.#random(this.#histories.length));
  }

  /** Compares a held range with KV from scratch, and expects what is not held to be refused. */
  async #checkSlot(slot: number): Promise<void> {
    const history = this.#histories[slot]!;
    const past = { slot, start: history.length, end: history.length + 1 };
    await expect(this.#engine.exportKv(past)).rejects.toMatchObject({ code: "bad_argument" });
    const range = this.#heldRange(slot);
    if (range === null) return;
    this.numChecks++;
    const sequence = makeSequence({ prompt: history.slice(0, range.end) });
    sequence.slot = 0;
    for (let at = 0; at < range.end; at += this.#reference.info.maxStepTokens) {
      const numTokens = Math.min(this.#reference.info.maxStepTokens, range.end - at);
      await this.#reference.execute(planOf(chunkOf(sequence, at, numTokens, false)));
    }
    const expected = await this.#reference.exportKv({ slot: 0, ...range });
    await this.#reference.applyKvOps([{ kind: "drop", slot: 0, start: 0, end: range.end }]);
    this.#compareKv(await this.#engine.exportKv({ slot, ...range }), expected);
  }

  /** Slots that hold everything of their history and may grow, empty ones included. */
  #completeSlots(): number[] {
    return this.#histories.flatMap((history, slot) => {
      const isComplete = this.#cells.positions(slot).length === history.length;
      return isComplete && history.length < MAX_SLOT_TOKENS ? [slot] : [];
    });
  }

  #emptySlot(): number | undefined {
    const slots = this.#histories.flatMap((_, slot) =>
      this.#cells.positions(slot).length === 0 ? [slot] : [],
    );
    return slots[this.#random(Math.max(1, slots.length))];
  }

  /** A random range of positions that a slot holds without a gap, or null when it is empty. */
  #heldRange(slot: number): { start: number; end: number } | null {
    const positions = this.#cells.positions(slot);
    if (positions.length === 0) return null;
    const first = this.#random(2) === 0 ? 0 : this.#random(positions.length);
    let last = first;
    while (
      last + 1 < positions.length &&
      positions[last + 1] === positions[last]! + 1 &&
      this.#random(40) > 0
    )
      last++;
    return { start: positions[first]!, end: positions[last]! + 1 };
  }

  #write(slot: number, position: number): void {
    this.#cells.write(slot, position, this.#histories[slot]!.slice(0, position + 1).join());
  }

  async #apply(op: KvOp): Promise<void> {
    await this.#engine.applyKvOps([op]);
    this.#cells.apply([op]);
  }
}
