import { assert } from "../../../core/util/assert.ts";

const NO_CELL = -1;
const INITIAL_POSITIONS = 256;

/** Half-open range of positions. */
export interface PositionRange {
  readonly start: number;
  readonly end: number;
}

/**
 * Which KV cell holds which position of which slot, mirrored from what libllama does.
 *
 * libllama places tokens into the lowest free cells behind its head, and freeing a cell moves the head back. A running
 * sequence would then continue in cells below its earlier ones, attention would add its terms up in another order, and
 * the last bits of the logits would depend on who else was served. So cells are never freed one by one here: those that no
 * slot holds any more are `dead` but stay occupied, new tokens always go on top, and {@link compact} slides the live
 * ones down, in order, when the dead ones have become many. Every sequence's cells thus ascend with its positions:
 *
 * ```
 *   before   A0 A1 .  B0 .  .  A2 B1 |  free …        . dead
 *   after    A0 A1 B0 A2 B1 |  free …
 * ```
 */
export class CellMap {
  readonly numCells: number;
  /** Cell of each position, per slot. */
  readonly #cells: Int32Array[];
  /** How many slots hold each cell. */
  readonly #refs: Uint16Array;
  #numUsed = 0;
  #numDead = 0;

  constructor(options: { numSlots: number; numCells: number }) {
    this.numCells = options.numCells;
    this.#cells = Array.from({ length: options.numSlots }, () => new Int32Array(0));
    this.#refs = new Uint16Array(options.numCells);
  }

  /** Occupied cells, dead ones included; all free cells are above them. */
  get numUsed(): number {
    return this.#numUsed;
  }

  get numDead(): number {
    return this.#numDead;
  }

  /** Cells have been taken on top for positions [start, end) of a slot. */
  append(slot: number, start: number, end: number): void {
    assert(this.#numUsed + (end - start) <= this.numCells, "more cells are taken than there are");
    const cells = this.#reach(slot, end);
    for (let position = start; position < end; position++) {
      this.#refs[this.#numUsed] = 1;
      cells[position] = this.#numUsed++;
    }
  }

  share(from: number, to: number, start: number, end: number): void {
    const source = this.#cells[from]!;
    const target = this.#reach(to, end);
    for (let position = start; position < end; position++) {
      const cell = source[position]!;
      target[position] = cell;
      this.#refs[cell] = this.#refs[cell]! + 1;
    }
  }

  /** A slot lets go of [start, end); positions that it does not hold are skipped. Returns the ranges whose cells died with it. */
  drop(slot: number, start: number, end: number): PositionRange[] {
    const cells = this.#cells[slot]!;
    const died: PositionRange[] = [];
    let runStart = NO_CELL;
    const last = Math.min(end, cells.length);
    for (let position = start; position < last; position++) {
      const cell = cells[position]!;
      let isDead = false;
      if (cell !== NO_CELL) {
        cells[position] = NO_CELL;
        this.#refs[cell] = this.#refs[cell]! - 1;
        isDead = this.#refs[cell] === 0;
      }
      if (isDead) {
        this.#numDead++;
        if (runStart === NO_CELL) runStart = position;
      } else if (runStart !== NO_CELL) {
        died.push({ start: runStart, end: position });
        runStart = NO_CELL;
      }
    }
    if (runStart !== NO_CELL) died.push({ start: runStart, end: last });
    return died;
  }

  /** The dead cells have gone and the live ones have moved down, in order. */
  compact(): void {
    const moved = new Int32Array(this.#numUsed);
    let next = 0;
    for (let cell = 0; cell < this.#numUsed; cell++) {
      const refs = this.#refs[cell]!;
      if (refs === 0) continue;
      this.#refs[next] = refs;
      moved[cell] = next++;
    }
    this.#refs.fill(0, next, this.#numUsed);
    this.#numUsed = next;
    this.#numDead = 0;
    for (const cells of this.#cells) {
      for (let position = 0; position < cells.length; position++) {
        const cell = cells[position]!;
        if (cell !== NO_CELL) cells[position] = moved[cell]!;
      }
    }
  }

  /** Throws unless references, dead cells and the top agree. */
  checkInvariants(): void {
    const refs = new Uint16Array(this.numCells);
    for (const cells of this.#cells) {
      for (const cell of cells) {
        if (cell === NO_CELL) continue;
        assert(cell < this.#numUsed, "a cell above the top is held");
        refs[cell] = refs[cell]! + 1;
      }
    }
    let numDead = 0;
    for (let cell = 0; cell < this.#numUsed; cell++) if (refs[cell] === 0) numDead++;
    assert(numDead === this.#numDead, `${numDead} cells are dead, not ${this.#numDead}`);
    for (let cell = 0; cell < this.numCells; cell++)
      assert(refs[cell] === this.#refs[cell], "references are off");
  }

  /** Cells of a slot in order of position, for tests. */
  cellsOf(slot: number): number[] {
    return [...this.#cells[slot]!].filter((cell) => cell !== NO_CELL);
  }

  #reach(slot: number, end: number): Int32Array {
    const cells = this.#cells[slot]!;
    if (cells.length >= end) return cells;
    const length = Math.min(this.numCells, Math.max(end, 2 * cells.length, INITIAL_POSITIONS));
    const grown = new Int32Array(length).fill(NO_CELL);
    grown.set(cells);
    this.#cells[slot] = grown;
    return grown;
  }
}
