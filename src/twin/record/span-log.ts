/**
 * What a worker was doing in a span of its timeline. `mixed`: prefill and decode in one step, or neighbours of different kinds merged,
 * which may hold a short time down. Sends and receives have logs of their own, and never mix.
 */
export const SPAN_KINDS = ["prefill", "decode", "mixed", "send", "receive", "down"] as const;

export type SpanKind = (typeof SPAN_KINDS)[number];

/** Spans of one lane as plain arrays, ascending by start. */
export interface SpanData {
  readonly startMs: Float64Array;
  readonly endMs: Float64Array;
  /** Index in {@link SPAN_KINDS}. */
  readonly kind: Uint8Array;
  /** Tokens computed, or bytes moved. */
  readonly amount: Float64Array;
  /** Steps, or transfers, that the span stands for: 1 unless neighbours were merged. */
  readonly numMerged: Uint32Array;
  /** Neighbours closer than this were merged, but for the first part of the run; 0: every span is a single step. */
  readonly resolutionMs: number;
}

const MIXED = SPAN_KINDS.indexOf("mixed");

/** The first resolution when a lane is full. */
const FIRST_RESOLUTION_MS = 1;

/** The share of a lane's room that its first spans keep, each by itself, whatever comes later. */
const PINNED_SHARE = 0.25;

/**
 * The timeline of one lane, in bounded memory: every span by itself up to `limit`; beyond it, but for the first ones, neighbours
 * of one kind that are closer than a resolution become one span, then neighbours of any kind that fit into it, and the resolution
 * doubles until half of the room is free.
 */
export class SpanLog {
  readonly #limit: number;
  readonly #numPinned: number;
  readonly #start: Float64Array;
  readonly #end: Float64Array;
  readonly #kind: Uint8Array;
  readonly #amount: Float64Array;
  readonly #merged: Uint32Array;
  #length = 0;
  #resolutionMs = 0;

  constructor(limit: number) {
    this.#limit = limit;
    this.#numPinned = Math.floor(limit * PINNED_SHARE);
    this.#start = new Float64Array(limit);
    this.#end = new Float64Array(limit);
    this.#kind = new Uint8Array(limit);
    this.#amount = new Float64Array(limit);
    this.#merged = new Uint32Array(limit);
  }

  /** Adds a span. Spans come in order of their start, or nearly so. */
  add(startMs: number, endMs: number, kind: SpanKind, amount: number): void {
    this.#add(startMs, endMs, SPAN_KINDS.indexOf(kind), amount);
  }

  /** Adds the spans between neighbours of the times from `from` to `to` of a list. */
  addRow(timesMs: Float64Array, from: number, to: number, kind: SpanKind, amount: number): void {
    const code = SPAN_KINDS.indexOf(kind);
    for (let i = from; i < to; ) {
      this.#add(timesMs[i]!, timesMs[i + 1]!, code, amount);
      // What follows without a pause joins the span as long as that fits the resolution.
      const first = ++i;
      const last = this.#length - 1;
      const resolutionMs = this.#resolutionMs;
      if (resolutionMs === 0 || last < this.#numPinned || this.#kind[last] !== code) continue;
      const startMs = this.#start[last]!;
      while (i < to && timesMs[i + 1]! - startMs <= resolutionMs) i++;
      if (i > first) this.#extend(last, timesMs[first]!, timesMs[i]!, code, (i - first) * amount, i - first);
    }
  }

  #add(startMs: number, endMs: number, code: number, amount: number): void {
    if (this.#resolutionMs > 0 && this.#length > this.#numPinned) {
      const last = this.#length - 1;
      const isNear = startMs - this.#end[last]! < this.#resolutionMs;
      if (isNear && this.#kind[last] === code && endMs - this.#start[last]! <= this.#resolutionMs) {
        this.#extend(last, startMs, endMs, code, amount, 1);
        return;
      }
    }
    if (this.#length === this.#limit) this.#compact();
    this.#put(this.#length++, startMs, endMs, code, amount, 1);
  }

  data(): SpanData {
    const lists = {
      startMs: this.#start.slice(0, this.#length),
      endMs: this.#end.slice(0, this.#length),
      kind: this.#kind.slice(0, this.#length),
      amount: this.#amount.slice(0, this.#length),
      numMerged: this.#merged.slice(0, this.#length),
      resolutionMs: this.#resolutionMs,
    };
    // Steps come in order; only transfers may not.
    if (isAscending(lists.startMs)) return lists;
    const order = Uint32Array.from(lists.startMs, (_, index) => index);
    order.sort((a, b) => this.#start[a]! - this.#start[b]! || a - b);
    for (let i = 0; i < order.length; i++) {
      const from = order[i]!;
      lists.startMs[i] = this.#start[from]!;
      lists.endMs[i] = this.#end[from]!;
      lists.kind[i] = this.#kind[from]!;
      lists.amount[i] = this.#amount[from]!;
      lists.numMerged[i] = this.#merged[from]!;
    }
    return lists;
  }

  #compact(): void {
    const target = (this.#limit + this.#numPinned) >> 1;
    // Spans that are longer than a resolution are left alone by it.
    const shortestMs = this.#resolutionMs === 0 ? this.#shortestPairMs() : 0;
    while (this.#length > target) {
      this.#resolutionMs = this.#resolutionMs === 0 ? FIRST_RESOLUTION_MS : this.#resolutionMs * 2;
      if (this.#resolutionMs < shortestMs) continue;
      this.#mergeNeighbours(true);
      if (this.#length > target) this.#mergeNeighbours(false);
    }
  }

  /** The least time that two neighbours which may be merged span together. */
  #shortestPairMs(): number {
    let shortestMs = Number.POSITIVE_INFINITY;
    for (let i = this.#numPinned + 1; i < this.#length; i++) {
      const ms = Math.max(this.#end[i]!, this.#end[i - 1]!) - this.#start[i - 1]!;
      if (ms < shortestMs) shortestMs = ms;
    }
    return shortestMs;
  }

  #mergeNeighbours(sameKindOnly: boolean): void {
    const resolutionMs = this.#resolutionMs;
    const length = this.#length;
    const starts = this.#start;
    const ends = this.#end;
    const kinds = this.#kind;
    let kept = this.#numPinned;
    for (let i = kept + 1; i < length; i++) {
      const startMs = starts[i]!;
      const endMs = ends[i]!;
      const isSame = kinds[kept] === kinds[i];
      const isNear = startMs - ends[kept]! < resolutionMs;
      const ms = Math.max(endMs, ends[kept]!) - starts[kept]!;
      if (isNear && ms <= resolutionMs && (isSame || !sameKindOnly))
        this.#extend(kept, startMs, endMs, kinds[i]!, this.#amount[i]!, this.#merged[i]!);
      else if (++kept < i) this.#put(kept, startMs, endMs, kinds[i]!, this.#amount[i]!, this.#merged[i]!);
    }
    this.#length = Math.min(length, kept + 1);
  }

  #put(at: number, startMs: number, endMs: number, kind: number, amount: number, numMerged: number): void {
    this.#start[at] = startMs;
    this.#end[at] = endMs;
    this.#kind[at] = kind;
    this.#amount[at] = amount;
    this.#merged[at] = numMerged;
  }

  #extend(at: number, startMs: number, endMs: number, kind: number, amount: number, numMerged: number): void {
    this.#start[at] = Math.min(this.#start[at]!, startMs);
    this.#end[at] = Math.max(this.#end[at]!, endMs);
    if (this.#kind[at] !== kind) this.#kind[at] = MIXED;
    this.#amount[at]! += amount;
    this.#merged[at]! += numMerged;
  }
}

function isAscending(values: Float64Array): boolean {
  for (let i = 1; i < values.length; i++) if (values[i]! < values[i - 1]!) return false;
  return true;
}
