import { existsSync } from "node:fs";
import { join } from "node:path";
import { CsvError, readCsv } from "../csv-file.ts";

/**
 * Layer times of one model on one device as LLMServingSim profiles vLLM: `dense.csv` (layer, tokens), `per_sequence.csv` (layer,
 * sequences), `attention.csv` (one prefill chunk beside equal decodes) and, for mixtures of experts, `moe.csv` (tokens, experts
 * with work). Microseconds of one layer on one device.
 */
export interface LayerTables {
  /** By layer: times at token counts. */
  readonly dense: ReadonlyMap<string, Curve>;
  readonly perSequence: ReadonlyMap<string, Curve>;
  readonly attention: AttentionTable;
  readonly moe: MoeTable | null;
}

/** Reads the tables of one folder (`…/tp1`), or returns null when it has none. Throws `CsvError` for bad lines. */
export function readLayerTables(folder: string): LayerTables | null {
  if (!existsSync(join(folder, "dense.csv"))) return null;
  const moePath = join(folder, "moe.csv");
  return {
    dense: readCurves(join(folder, "dense.csv"), "tokens"),
    perSequence: readCurves(join(folder, "per_sequence.csv"), "sequences"),
    attention: readAttention(join(folder, "attention.csv")),
    moe: existsSync(moePath) ? readMoe(moePath) : null,
  };
}

function readCurves(path: string, argument: string): Map<string, Curve> {
  const points = new Map<string, Array<[number, number]>>();
  for (const row of readCsv(path, ["layer", argument, "time_us"])) {
    const layer = row.text("layer");
    const point: [number, number] = [row.number(argument, { min: 0 }), row.number("time_us", { min: 0 })];
    const list = points.get(layer);
    if (list === undefined) points.set(layer, [point]);
    else list.push(point);
  }
  return new Map([...points].map(([layer, list]) => [layer, new Curve(list)]));
}

/** Straight lines between points, the last of several at one place; beyond the end, the line through the last two. At least one point. */
export class Curve {
  readonly #x: readonly number[];
  readonly #y: readonly number[];

  constructor(points: ReadonlyArray<readonly [number, number]>) {
    const sorted = [...new Map(points)].sort(([a], [b]) => a - b);
    this.#x = sorted.map(([x]) => x);
    this.#y = sorted.map(([, y]) => y);
  }

  at(x: number): number {
    const xs = this.#x;
    const ys = this.#y;
    if (xs.length === 1 || x <= xs[0]!) return ys[0]!;
    let high = 1;
    while (high < xs.length - 1 && xs[high]! < x) high++;
    const share = (x - xs[high - 1]!) / (xs[high]! - xs[high - 1]!);
    return ys[high - 1]! + share * (ys[high]! - ys[high - 1]!);
  }
}

/** A step that a profile cannot price. */
export class LayerTableError extends Error {
  override name = "LayerTableError";
}

/** Nodes of the grid that every profile has: doublings from 16, and 0. */
const TOKEN_NODES = [0, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072];
const COUNT_NODES = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/** Attention of a step with one prefill chunk and `n` decodes of one length, by straight lines between the nodes of a grid. */
export class AttentionTable {
  readonly #times: ReadonlyMap<string, number>;
  readonly #axes: readonly (readonly number[])[];

  /** `times` by `chunk,context,decodes,decodeContext`. */
  constructor(times: ReadonlyMap<string, number>) {
    this.#times = times;
    const most = [0, 0, 0, 0];
    for (const key of times.keys()) {
      key.split(",").forEach((text, axis) => {
        most[axis] = Math.max(most[axis]!, Number(text));
      });
    }
    this.#axes = most.map((limit, axis) =>
      (axis === 2 ? COUNT_NODES : TOKEN_NODES).filter((node) => node <= limit),
    );
  }

  /** Microseconds of one layer. */
  us(chunk: number, context: number, decodes: number, decodeContext: number): number {
    const at = [chunk, context, decodes, decodeContext];
    const cells = at.map((value, axis) => cellOf(this.#axes[axis]!, value));
    let sum = 0;
    for (let corner = 0; corner < 16; corner++) {
      let weight = 1;
      const node = cells.map(({ low, share }, axis) => {
        const isHigh = ((corner >> axis) & 1) === 1;
        weight *= isHigh ? share : 1 - share;
        return this.#axes[axis]![isHigh ? low + 1 : low] ?? 0;
      });
      if (weight !== 0) sum += weight * this.#nodeUs(node);
    }
    return sum;
  }

  #nodeUs([chunk, context, decodes, decodeContext]: readonly number[]): number {
    // Nothing has a context without tokens, and every decode has one.
    const kv = decodes === 0 ? 0 : Math.max(16, decodeContext!);
    const key = [chunk, chunk === 0 ? 0 : context, decodes, kv];
    if (chunk === 0 && decodes === 0) return 0;
    const found = this.#times.get(key.join(","));
    if (found !== undefined) return found;
    // Full steps of the largest batch are not measured: as much more as the doubling before.
    if (decodes! >= 2) {
      const half = this.#nodeUs([chunk!, context!, decodes! / 2, kv]);
      const quarter = this.#nodeUs([chunk!, context!, decodes! >= 4 ? decodes! / 4 : 0, kv]);
      return half + (decodes! >= 4 ? 2 : 1) * (half - quarter);
    }
    throw new LayerTableError(`the attention table lacks ${key.join(", ")}`);
  }
}

/** The cell of an axis that holds a value; beyond the last node, that of the last two. */
function cellOf(axis: readonly number[], value: number): { readonly low: number; readonly share: number } {
  if (axis.length === 1) return { low: 0, share: 0 };
  let low = 0;
  while (low < axis.length - 2 && axis[low + 1]! <= value) low++;
  return { low, share: (value - axis[low]!) / (axis[low + 1]! - axis[low]!) };
}

function readAttention(path: string): AttentionTable {
  const columns = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"] as const;
  const times = new Map<string, number>();
  for (const row of readCsv(path, [...columns, "time_us"])) {
    const key = columns.map((column) => row.number(column, { min: 0 }));
    times.set(key.join(","), row.number("time_us", { min: 0 }));
  }
  return new AttentionTable(times);
}

/** Routed experts of one layer by tokens, one curve per number of experts that have work. */
export class MoeTable {
  readonly #curves: ReadonlyMap<number, Curve>;
  readonly #experts: readonly number[];

  constructor(
    points: ReadonlyArray<{ readonly tokens: number; readonly experts: number; readonly us: number }>,
  ) {
    this.#experts = [...new Set(points.map(({ experts }) => experts))].sort((a, b) => a - b);
    this.#curves = new Map(
      this.#experts.map((experts) => [
        experts,
        new Curve(points.filter((point) => point.experts === experts).map(({ tokens, us }) => [tokens, us])),
      ]),
    );
  }

  /** Microseconds of one layer. */
  us(tokens: number, experts: number): number {
    return new Curve(this.#experts.map((count) => [count, this.#curves.get(count)!.at(tokens)])).at(experts);
  }
}

function readMoe(path: string): MoeTable {
  const rows = readCsv(path, ["tokens", "activated_experts", "time_us"]);
  if (rows.length === 0) throw new CsvError(`${path}: has no rows`);
  return new MoeTable(
    rows.map((row) => ({
      tokens: row.number("tokens", { min: 0 }),
      experts: row.number("activated_experts", { min: 0 }),
      us: row.number("time_us", { min: 0 }),
    })),
  );
}
