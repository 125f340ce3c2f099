import { assert } from "../util/assert.ts";
import { BlockRecords, FIELD, RECORD_WORDS } from "./block-records.ts";

const NONE = -1;

/**
 * Engine slots: the names under which an engine such as libllama addresses KV. It knows sequences of positions, not blocks,
 * and has a few hundred names at most.
 *
 * A slot is `free`, `active` (a sequence owns it) or `retained`: its sequence has gone, but it still holds cached blocks.
 * Every cached block has one home slot, in which the engine can find it. When a sequence shares a cached prefix, its slot
 * becomes the home of those blocks, so a growing conversation needs one retained slot, not one per turn.
 */
export class SlotTable {
  readonly numSlots: number;
  readonly #free: number[] = [];
  readonly #active: Uint8Array;
  readonly #homed: Int32Array;
  readonly #numBlocks: number;
  /** Records of the blocks: home slot, or -1, and depth. A block holds tokens [depth × blockSize, (depth + 1) × blockSize). */
  readonly #words: Int32Array;
  /** Retained slots, least recently retained first. */
  readonly #retained = new Set<number>();

  constructor(options: { numSlots: number; numBlocks: number; records?: BlockRecords }) {
    this.numSlots = options.numSlots;
    this.#active = new Uint8Array(options.numSlots);
    this.#homed = new Int32Array(options.numSlots);
    this.#numBlocks = options.numBlocks;
    this.#words = (options.records ?? new BlockRecords(options.numBlocks)).words;
    for (let slot = options.numSlots - 1; slot >= 0; slot--) this.#free.push(slot);
  }

  get numFree(): number {
    return this.#free.length;
  }

  get numRetained(): number {
    return this.#retained.size;
  }

  home(block: number): number {
    return this.#words[block * RECORD_WORDS + FIELD.home]!;
  }

  depth(block: number): number {
    return this.#words[block * RECORD_WORDS + FIELD.depth]!;
  }

  isActive(slot: number): boolean {
    return this.#active[slot] === 1;
  }

  /** Takes a free slot for a sequence, or -1 when there is none. */
  take(): number {
    const slot = this.#free.pop();
    if (slot === undefined) return NONE;
    this.#active[slot] = 1;
    return slot;
  }

  /** The retained slot that has been retained for longest, or -1. */
  oldestRetained(): number {
    for (const slot of this.#retained) return slot;
    return NONE;
  }

  /** Makes `slot` the home of a block at `depth`. Returns the former home, or -1. */
  settle(block: number, depth: number, slot: number): number {
    const former = this.home(block);
    if (former === slot) return former;
    assert(this.#active[slot] === 1, "only an active slot becomes a home");
    if (former !== NONE) this.unsettle(block);
    this.#words[block * RECORD_WORDS + FIELD.home] = slot;
    this.#words[block * RECORD_WORDS + FIELD.depth] = depth;
    this.#homed[slot] = this.#homed[slot]! + 1;
    return former;
  }

  /** Takes a block from its home. A retained slot that is nobody's home any more becomes free. */
  unsettle(block: number): void {
    const slot = this.home(block);
    assert(slot !== NONE, "the block has no home");
    this.#words[block * RECORD_WORDS + FIELD.home] = NONE;
    this.#homed[slot] = this.#homed[slot]! - 1;
    if (this.#homed[slot] === 0 && this.#retained.delete(slot)) this.#free.push(slot);
  }

  /** The sequence leaves its slot, which is retained while it is a home. Returns whether it is. */
  leave(slot: number): boolean {
    assert(this.#active[slot] === 1, "the slot is not active");
    this.#active[slot] = 0;
    const retained = this.#homed[slot]! > 0;
    if (retained) this.#retained.add(slot);
    else this.#free.push(slot);
    return retained;
  }

  /** Blocks whose home is `slot`. Linear in the number of blocks: for the rare reclaim and for checks. */
  blocksAt(slot: number): number[] {
    const blocks: number[] = [];
    for (let block = 0; block < this.#numBlocks; block++) if (this.home(block) === slot) blocks.push(block);
    return blocks;
  }

  /** Throws unless the table is consistent and the active slots are exactly `activeSlots`. */
  checkInvariants(activeSlots: ReadonlySet<number>): void {
    const counts = new Int32Array(this.numSlots);
    for (let block = 0; block < this.#numBlocks; block++) {
      const slot = this.home(block);
      if (slot !== NONE) counts[slot] = counts[slot]! + 1;
    }
    const free = new Set(this.#free);
    assert(free.size === this.#free.length, "a slot is free twice");
    for (let slot = 0; slot < this.numSlots; slot++) {
      assert(
        counts[slot] === this.#homed[slot],
        `slot ${slot} is home to ${counts[slot]}, not ${this.#homed[slot]}`,
      );
      assert((this.#active[slot] === 1) === activeSlots.has(slot), `slot ${slot} has the wrong state`);
      const states = (free.has(slot) ? 1 : 0) + this.#active[slot]! + (this.#retained.has(slot) ? 1 : 0);
      assert(states === 1, `slot ${slot} is in ${states} states`);
      assert(!free.has(slot) || counts[slot] === 0, `free slot ${slot} is a home`);
      assert(!this.#retained.has(slot) || counts[slot]! > 0, `retained slot ${slot} is nobody's home`);
    }
  }
}
