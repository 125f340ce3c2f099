import { assert } from "../util/assert.ts";

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
  /** Home slot of each block, or -1. */
  readonly #home: Int32Array;
  /** Position of each block in its chain: it holds tokens [depth × blockSize, (depth + 1) × blockSize). */
  readonly #depth: Int32Array;
  /** Retained slots, least recently retained first. */
  readonly #retained = new Set<number>();

  constructor(options: { numSlots: number; numBlocks: number }) {
    this.numSlots = options.numSlots;
    this.#active = new Uint8Array(options.numSlots);
    this.#homed = new Int32Array(options.numSlots);
    this.#home = new Int32Array(options.numBlocks).fill(NONE);
    this.#depth = new Int32Array(options.numBlocks);
    for (let slot = options.numSlots - 1; slot >= 0; slot--) this.#free.push(slot);
  }

  get numFree(): number {
    return this.#free.length;
  }

  get numRetained(): number {
    return this.#retained.size;
  }

  home(block: number): number {
    return this.#home[block]!;
  }

  depth(block: number): number {
    return this.#depth[block]!;
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
    const former = this.#home[block]!;
    if (former === slot) return former;
    assert(this.#active[slot] === 1, "only an active slot becomes a home");
    if (former !== NONE) this.unsettle(block);
    this.#home[block] = slot;
    this.#depth[block] = depth;
    this.#homed[slot] = this.#homed[slot]! + 1;
    return former;
  }

  /** Takes a block from its home. A retained slot that is nobody's home any more becomes free. */
  unsettle(block: number): void {
    const slot = this.#home[block]!;
    assert(slot !== NONE, "the block has no home");
    this.#home[block] = NONE;
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
    for (let block = 0; block < this.#home.length; block++)
      if (this.#home[block] === slot) blocks.push(block);
    return blocks;
  }

  /** Throws unless the table is consistent and the active slots are exactly `activeSlots`. */
  checkInvariants(activeSlots: ReadonlySet<number>): void {
    const counts = new Int32Array(this.numSlots);
    for (const slot of this.#home) if (slot !== NONE) counts[slot] = counts[slot]! + 1;
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
