/** Nodes per power of two. Straight lines between them stay within 0.2 % of any power law that kernels follow. */
const PER_OCTAVE = 8;

/** Position of `x` on the grid: whole part the node below, fraction the way to the next. Node 0 is 0, node 1 is 1. */
export function gridPosition(x: number): number {
  if (x < 1) return Math.max(x, 0);
  const octave = 31 - Math.clz32(x);
  const base = 1 << octave;
  return 1 + octave * PER_OCTAVE + ((x - base) * PER_OCTAVE) / base;
}

/** The value at node `index`. */
export function gridNode(index: number): number {
  if (index <= 0) return 0;
  const octave = Math.floor((index - 1) / PER_OCTAVE);
  return 2 ** octave * (1 + ((index - 1) % PER_OCTAVE) / PER_OCTAVE);
}

/** Number of nodes that reach `limit`, the next one above included. */
export function gridSize(limit: number): number {
  return Math.ceil(gridPosition(Math.max(1, limit))) + 2;
}

/** The way from node `at` past the last one: the last segment goes on straight, in counts and not in positions. */
function fractionBeyond(at: number, x: number): number {
  const from = gridNode(at);
  return (x - from) / (gridNode(at + 1) - from);
}

/** Beyond this, positions would leave the 32-bit arithmetic; no context or batch is that long. */
export const GRID_LIMIT = 2 ** 30;

/** A cost and whether its sources cover it. */
export interface Priced {
  ms: number;
  isExtrapolated: boolean;
}

/**
 * A function of one count, taken at the nodes of a grid that is fine where counts are small, and made monotone: kernels that get
 * faster with more work are artefacts of which kernel is chosen, and would make a scheduler believe in free work.
 */
export class CostCurve {
  /** Whether the last answer lies where the sources do not reach. */
  isExtrapolated = false;
  readonly #ms: Float64Array;
  readonly #outside: Uint8Array;

  constructor(limit: number, price: (x: number, out: Priced) => void) {
    const size = gridSize(limit);
    this.#ms = new Float64Array(size);
    this.#outside = new Uint8Array(size);
    const priced: Priced = { ms: 0, isExtrapolated: false };
    let highest = 0;
    for (let i = 0; i < size; i++) {
      // Between small nodes counts are fractions of a token; only whole ones are priced.
      const x = Math.round(gridNode(i));
      price(x, priced);
      highest = Math.max(highest, priced.ms);
      this.#ms[i] = highest;
      this.#outside[i] = priced.isExtrapolated ? 1 : 0;
    }
  }

  /** The cost at `x`; {@link isExtrapolated} is about this answer until the next. */
  msAt(x: number): number {
    const ms = this.#ms;
    const position = gridPosition(x);
    let at = position | 0;
    let fraction = position - at;
    if (at > ms.length - 2) {
      at = ms.length - 2;
      fraction = fractionBeyond(at, x);
    }
    this.isExtrapolated = this.#outside[fraction > 0 ? at + 1 : at] === 1;
    return ms[at]! + fraction * (ms[at + 1]! - ms[at]!);
  }
}

interface Row {
  readonly ms: Float64Array;
  readonly outside: Uint8Array;
}

const NO_ROW: Row = { ms: new Float64Array(0), outside: new Uint8Array(0) };

/** A function of two counts on the same grid, row by row as asked for, monotone along both. */
export class CostSurface {
  /** Whether the last answer lies where the sources do not reach. */
  isExtrapolated = false;
  readonly #price: (x: number, y: number, out: Priced) => void;
  readonly #columns: number;
  readonly #rows: Array<Row | undefined>;
  /** The rows around the `x` that was asked for last, and the way from the one to the other. */
  #lower = NO_ROW;
  #upper = NO_ROW;
  #fraction = 0;

  /** `x` picks the row, `y` the column. */
  constructor(limitX: number, limitY: number, price: (x: number, y: number, out: Priced) => void) {
    this.#price = price;
    this.#columns = gridSize(limitY);
    this.#rows = new Array<Row | undefined>(gridSize(limitX));
  }

  /** The cost at (`x`, `y`); {@link isExtrapolated} is about this answer until the next. */
  msAt(x: number, y: number): number {
    this.#pick(x);
    return this.#msAlong(y);
  }

  /** Replaces each of the first `count` values of `ys` by the cost at (`x`, value). {@link isExtrapolated} is about the last. */
  replace(x: number, ys: Float64Array, count: number): void {
    this.#pick(x);
    for (let i = 0; i < count; i++) ys[i] = this.#msAlong(ys[i]!);
  }

  /** Finds the rows around `x`. */
  #pick(x: number): void {
    const row = gridPosition(x);
    let i = row | 0;
    this.#fraction = row - i;
    if (i > this.#rows.length - 2) {
      i = this.#rows.length - 2;
      this.#fraction = fractionBeyond(i, x);
    }
    this.#lower = this.#rowAt(i);
    this.#upper = this.#fraction === 0 ? this.#lower : this.#rowAt(i + 1);
  }

  #msAlong(y: number): number {
    const column = gridPosition(y);
    let j = column | 0;
    let fraction = column - j;
    if (j > this.#columns - 2) {
      j = this.#columns - 2;
      fraction = fractionBeyond(j, y);
    }
    const low = this.#lower.ms;
    const below = low[j]! + fraction * (low[j + 1]! - low[j]!);
    this.isExtrapolated = this.#upper.outside[fraction > 0 ? j + 1 : j] === 1;
    if (this.#fraction === 0) return below;
    const high = this.#upper.ms;
    const above = high[j]! + fraction * (high[j + 1]! - high[j]!);
    return below + this.#fraction * (above - below);
  }

  #rowAt(index: number): Row {
    const known = this.#rows[index];
    if (known !== undefined) return known;
    // The row before is needed to be monotone along x, and it needs the one before it: all rows are filled from the front.
    const before = index > 0 ? this.#rowAt(index - 1) : null;
    const x = Math.round(gridNode(index));
    // Small nodes are fractions of a token: several of them are priced as one whole number.
    if (before !== null && x === Math.round(gridNode(index - 1))) {
      this.#rows[index] = before;
      return before;
    }
    const row: Row = { ms: new Float64Array(this.#columns), outside: new Uint8Array(this.#columns) };
    const priced: Priced = { ms: 0, isExtrapolated: false };
    let highest = 0;
    for (let j = 0, last = -1; j < this.#columns; j++) {
      const y = Math.round(gridNode(j));
      if (y !== last) this.#price(x, y, priced);
      last = y;
      highest = Math.max(highest, priced.ms, before?.ms[j] ?? 0);
      row.ms[j] = highest;
      row.outside[j] = priced.isExtrapolated ? 1 : 0;
    }
    this.#rows[index] = row;
    return row;
  }
}
