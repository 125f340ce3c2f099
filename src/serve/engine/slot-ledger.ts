import type { KvOp, KvRange } from "../../core/kv/kv-ops.ts";
import type { ScheduledChunk, StepPlan } from "../../core/scheduler/step-plan.ts";
import { EngineError } from "./engine.ts";
import { PositionSet } from "./position-set.ts";

export interface SlotLedgerLimits {
  readonly numSlots: number;
  readonly vocabSize: number;
  readonly maxStepTokens: number;
  /** Positions are below this: a slot cannot hold more than the engine has cells. */
  readonly kvCapacityTokens: number;
}

/**
 * Which positions every slot holds. Engines ask it before they act, so that an argument that is out of bounds becomes an
 * `EngineError` with code `bad_argument` instead of corrupt KV or a native abort, and changes nothing.
 *
 * All `check…` methods throw and change nothing; the others assume that the check has passed.
 */
export class SlotLedger {
  readonly #limits: SlotLedgerLimits;
  readonly #slots: PositionSet[];
  /** The number of the last checked plan in which a slot took part, to find slots that occur twice. */
  readonly #lastCheck: Int32Array;
  #numChecks = 0;

  constructor(limits: SlotLedgerLimits) {
    this.#limits = limits;
    this.#slots = Array.from({ length: limits.numSlots }, () => new PositionSet());
    this.#lastCheck = new Int32Array(limits.numSlots);
  }

  checkPlan(plan: StepPlan): void {
    const { numSlots, maxStepTokens } = this.#limits;
    const { chunks } = plan;
    if (chunks.length === 0) fail("the step plan has no chunks");
    if (chunks.length > numSlots)
      fail(`the step plan has ${chunks.length} chunks, the engine ${numSlots} slots`);
    const check = ++this.#numChecks | 0;
    let numTokens = 0;
    for (const chunk of chunks) {
      const { slot } = chunk;
      this.#checkSlot(slot);
      if (this.#lastCheck[slot] === check) fail(`slot ${slot} occurs twice in the step plan`);
      this.#lastCheck[slot] = check;
      this.#checkChunk(chunk);
      numTokens += chunk.numTokens;
    }
    if (numTokens !== plan.numTokens) {
      fail(`the step plan says ${plan.numTokens} tokens, its chunks have ${numTokens}`);
    }
    if (numTokens > maxStepTokens)
      fail(`the step plan has ${numTokens} tokens, the engine takes ${maxStepTokens}`);
  }

  /** Records that the plan's chunks have been computed. */
  commitPlan(plan: StepPlan): void {
    for (const { slot, start, numTokens } of plan.chunks) this.#slots[slot]!.add(start, start + numTokens);
  }

  /** Checks the operations one after the other and records them; all of them, or none when one is out of bounds. */
  applyOps(ops: readonly KvOp[]): void {
    const before = new Map<number, Int32Array>();
    const remember = (slot: number) => {
      if (!before.has(slot)) before.set(slot, this.#slots[slot]!.snapshot());
    };
    try {
      for (const op of ops) {
        this.#checkOp(op);
        const changed = op.kind === "share" ? op.to : op.slot;
        remember(changed);
        if (op.kind === "share") this.#slots[changed]!.add(op.start, op.end);
        else this.#slots[changed]!.remove(op.start, op.end);
      }
    } catch (error) {
      for (const [slot, snapshot] of before) this.#slots[slot]!.restore(snapshot);
      throw error;
    }
  }

  checkExport(range: KvRange): void {
    this.#checkTransfer(range);
    if (!this.#slots[range.slot]!.covers(range.start, range.end)) {
      fail(`slot ${range.slot} does not hold all positions of ${text(range)}`);
    }
  }

  checkImport(range: KvRange): void {
    this.#checkTransfer(range);
    if (this.#slots[range.slot]!.intersects(range.start, range.end)) {
      fail(`slot ${range.slot} already holds positions of ${text(range)}: drop them first`);
    }
  }

  /** Records that an import has been written. */
  commitImport(range: KvRange): void {
    this.#slots[range.slot]!.add(range.start, range.end);
  }

  #checkChunk(chunk: ScheduledChunk): void {
    const { slot, start, numTokens, sequence } = chunk;
    const held = this.#slots[slot]!;
    if (!Number.isInteger(numTokens) || numTokens < 1) fail(`slot ${slot}: a chunk of ${numTokens} tokens`);
    if (start !== held.end)
      fail(`slot ${slot}: a chunk at ${start}, but the slot's positions end at ${held.end}`);
    if (!held.isPrefix) fail(`slot ${slot}: a chunk at ${start}, but positions before it have been dropped`);
    const end = start + numTokens;
    if (end > sequence.numKnownTokens) {
      fail(`slot ${slot}: a chunk up to ${end}, but only ${sequence.numKnownTokens} tokens are known`);
    }
    if (end > this.#limits.kvCapacityTokens) {
      fail(
        `slot ${slot}: a chunk up to ${end}, but the engine has ${this.#limits.kvCapacityTokens} KV cells`,
      );
    }
    if (chunk.samples && end !== sequence.numKnownTokens) {
      fail(`slot ${slot}: a chunk up to ${end} samples, but ${sequence.numKnownTokens} tokens are known`);
    }
    const { vocabSize } = this.#limits;
    for (let i = start; i < end; i++) {
      const token = sequence.tokenAt(i);
      if (token < 0 || token >= vocabSize) {
        fail(`slot ${slot}: token ${token} at position ${i} is outside the vocabulary of ${vocabSize}`);
      }
    }
  }

  #checkOp(op: KvOp): void {
    this.#checkSlot(op.slot);
    this.#checkRange(op.start, op.end);
    if (op.kind === "drop") return;
    this.#checkSlot(op.to);
    if (op.to === op.slot) fail(`slot ${op.slot} cannot share with itself`);
    if (!this.#slots[op.slot]!.covers(op.start, op.end)) {
      fail(`slot ${op.slot} does not hold all positions of ${text(op)}, which slot ${op.to} is to share`);
    }
    if (this.#slots[op.to]!.intersects(op.start, op.end)) {
      fail(`slot ${op.to} already holds positions of ${text(op)}: drop them first`);
    }
  }

  #checkTransfer(range: KvRange): void {
    this.#checkSlot(range.slot);
    this.#checkRange(range.start, range.end);
    if (range.start === range.end) fail(`the range ${text(range)} is empty`);
    if (range.end > this.#limits.kvCapacityTokens) {
      fail(`the range ${text(range)} is beyond the engine's ${this.#limits.kvCapacityTokens} KV cells`);
    }
  }

  #checkSlot(slot: number): void {
    if (!Number.isInteger(slot) || slot < 0 || slot >= this.#limits.numSlots) {
      fail(`slot ${slot} is not one of 0 to ${this.#limits.numSlots - 1}`);
    }
  }

  /** A dropped range may reach past what exists, as when the last block of a sequence is only partly filled. */
  #checkRange(start: number, end: number): void {
    const isRange = Number.isInteger(start) && Number.isInteger(end) && start >= 0 && start <= end;
    if (!isRange || end > MAX_POSITION) fail(`[${start}, ${end}) is not a range of positions`);
  }
}

/** Positions are 32-bit signed integers in every engine. */
const MAX_POSITION = 0x7fffffff;

function text(range: { readonly start: number; readonly end: number }): string {
  return `[${range.start}, ${range.end})`;
}

function fail(message: string): never {
  throw new EngineError("bad_argument", message);
}
