import type { KvOp } from "../../src/core/kv/kv-ops.ts";

/** One KV cell: what was computed into it, and how many slots see it. */
interface Cell {
  readonly content: string;
  /** Counts the cells in order of writing. */
  readonly serial: number;
  slots: number;
}

/**
 * The naive truth about an engine's KV: every slot is a map from position to cell. Slow and obvious; block managers and
 * engines are checked against it.
 */
export class KvCells {
  readonly #slots = new Map<number, Map<number, Cell>>();
  #numCells = 0;
  #numWritten = 0;

  get numCells(): number {
    return this.#numCells;
  }

  #slot(slot: number): Map<number, Cell> {
    let cells = this.#slots.get(slot);
    if (cells === undefined) {
      cells = new Map();
      this.#slots.set(slot, cells);
    }
    return cells;
  }

  positions(slot: number): number[] {
    return [...this.#slot(slot).keys()].sort((a, b) => a - b);
  }

  /** Whether a slot's cells were written in order of their positions. */
  isInOrder(slot: number): boolean {
    const cells = [...this.#slot(slot)].sort(([a], [b]) => a - b).map(([, cell]) => cell.serial);
    return cells.every((serial, i) => i === 0 || serial > cells[i - 1]!);
  }

  content(slot: number, position: number): string | undefined {
    return this.#slot(slot).get(position)?.content;
  }

  write(slot: number, position: number, content: string): void {
    const cells = this.#slot(slot);
    if (cells.has(position)) throw new Error(`slot ${slot} already holds position ${position}`);
    cells.set(position, { content, serial: this.#numWritten++, slots: 1 });
    this.#numCells++;
  }

  apply(ops: readonly KvOp[]): void {
    for (const op of ops) {
      for (let position = op.start; position < op.end; position++) {
        if (op.kind === "share") this.#share(op.slot, op.to, position);
        else this.#drop(op.slot, position);
      }
    }
  }

  #share(from: number, to: number, position: number): void {
    const cell = this.#slot(from).get(position);
    if (cell === undefined)
      throw new Error(`slot ${from} shares position ${position}, which it does not hold`);
    if (this.#slot(to).has(position)) throw new Error(`slot ${to} already holds position ${position}`);
    this.#slot(to).set(position, cell);
    cell.slots++;
  }

  #drop(slot: number, position: number): void {
    const cell = this.#slot(slot).get(position);
    if (cell === undefined) return;
    this.#slot(slot).delete(position);
    if (--cell.slots === 0) this.#numCells--;
  }
}
