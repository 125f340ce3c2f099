/** What a cell holds of the prefix before the first token. */
const INITIAL_STATE = 0x2f0fd;
const NO_CELL = -1;

/** A 32-bit hash of a prefix, from the hash of all but its last token, that token and its position. */
export function nextState(previous: number, token: number, position: number): number {
  let h =
    Math.imul(previous ^ Math.imul(token + 1, 0x9e3779b1), 0x85ebca6b) ^ Math.imul(position + 1, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return h ^ (h >>> 13);
}

/**
 * A unified KV cache that holds a hash of the prefix per cell instead of keys and values. Cells belong to any number of slots and
 * are free when they belong to none, as in llama.cpp. Arguments must have been validated.
 */
export class StubCells {
  readonly #states: Int32Array;
  readonly #numOwners: Uint16Array;
  readonly #free: Int32Array;
  #numFree: number;
  /** Per slot: cell of each position, or -1. */
  readonly #cellAt: Int32Array[];

  constructor(numCells: number, numSlots: number) {
    this.#states = new Int32Array(numCells);
    this.#numOwners = new Uint16Array(numCells);
    this.#free = Int32Array.from({ length: numCells }, (_, i) => numCells - 1 - i);
    this.#numFree = numCells;
    this.#cellAt = Array.from({ length: numSlots }, () => new Int32Array(0));
  }

  get numFree(): number {
    return this.#numFree;
  }

  /** The state after the last of `end` positions of a slot. */
  stateBefore(slot: number, end: number): number {
    return end === 0 ? INITIAL_STATE : this.#states[this.#cellAt[slot]![end - 1]!]!;
  }

  write(slot: number, position: number, state: number): void {
    const cell = this.#free[--this.#numFree]!;
    this.#states[cell] = state;
    this.#numOwners[cell] = 1;
    this.#cellsUpTo(slot, position + 1)[position] = cell;
  }

  share(slot: number, to: number, start: number, end: number): void {
    const from = this.#cellAt[slot]!;
    const cells = this.#cellsUpTo(to, end);
    for (let position = start; position < end; position++) {
      const cell = from[position]!;
      cells[position] = cell;
      this.#numOwners[cell]!++;
    }
  }

  drop(slot: number, start: number, end: number): void {
    const cells = this.#cellAt[slot]!;
    for (let position = start; position < Math.min(end, cells.length); position++) {
      const cell = cells[position]!;
      if (cell === NO_CELL) continue;
      cells[position] = NO_CELL;
      if (--this.#numOwners[cell]! === 0) this.#free[this.#numFree++] = cell;
    }
  }

  read(slot: number, start: number, end: number): Int32Array {
    const cells = this.#cellAt[slot]!;
    return Int32Array.from({ length: end - start }, (_, i) => this.#states[cells[start + i]!]!);
  }

  #cellsUpTo(slot: number, end: number): Int32Array {
    const cells = this.#cellAt[slot]!;
    if (end <= cells.length) return cells;
    const grown = new Int32Array(Math.max(end, 2 * cells.length)).fill(NO_CELL);
    grown.set(cells);
    this.#cellAt[slot] = grown;
    return grown;
  }
}
