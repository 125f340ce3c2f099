/** What the oracle knows of a flow that still sends. Bytes per millisecond. */
export interface NaiveFlow {
  readonly id: number;
  readonly order: number;
  readonly resources: readonly number[];
  readonly cap: number;
  readonly latencyMs: number;
  readonly bytes: number;
  left: number;
  rate: number;
}

/** Progressive filling as the textbook has it: all unfrozen flows rise by the smallest step that fills something. */
export function naiveRates(flows: readonly NaiveFlow[], bandwidths: readonly number[]): void {
  const left = [...bandwidths];
  const open = new Set(flows);
  for (const flow of flows) flow.rate = 0;
  while (open.size > 0) {
    let step = Number.POSITIVE_INFINITY;
    for (const flow of open) step = Math.min(step, flow.cap - flow.rate);
    const counts = bandwidths.map(() => 0);
    for (const flow of open) for (const r of flow.resources) counts[r] = counts[r]! + 1;
    for (const [r, count] of counts.entries()) if (count > 0) step = Math.min(step, left[r]! / count);
    for (const flow of open) flow.rate += step;
    for (const [r, count] of counts.entries()) left[r] = left[r]! - step * count;
    const isFull = (r: number): boolean => left[r]! <= 1e-12 * bandwidths[r]!;
    for (const flow of [...open]) {
      if (flow.rate >= flow.cap * (1 - 1e-12) || flow.resources.some(isFull)) open.delete(flow);
    }
  }
}

/** A network in the simplest words: every event computes everything anew. */
export class NaiveNetwork {
  sending: NaiveFlow[] = [];
  arriving: Array<{ id: number; order: number; endMs: number }> = [];
  nowMs = 0;
  readonly bandwidths: number[];

  constructor(bandwidths: readonly number[]) {
    this.bandwidths = bandwidths.map((value) => value / 1000);
  }

  /** Lets time pass and returns what ends, in order. */
  advance(nowMs: number): Array<{ id: number; endMs: number }> {
    for (;;) {
      let nextMs = Number.POSITIVE_INFINITY;
      for (const flow of this.sending) nextMs = Math.min(nextMs, this.nowMs + flow.left / flow.rate);
      const untilMs = Math.min(nowMs, nextMs);
      for (const flow of this.sending)
        flow.left = Math.max(0, flow.left - flow.rate * (untilMs - this.nowMs));
      this.nowMs = untilMs;
      if (nextMs > nowMs) break;
      const done = this.sending.filter((flow) => untilMs + flow.left / flow.rate <= untilMs + 1e-9);
      this.sending = this.sending.filter((flow) => !done.includes(flow));
      for (const { id, order, latencyMs } of done) {
        this.arriving.push({ id, order, endMs: untilMs + latencyMs });
      }
      naiveRates(this.sending, this.bandwidths);
    }
    const over = this.arriving.filter(({ endMs }) => endMs <= nowMs);
    this.arriving = this.arriving.filter(({ endMs }) => endMs > nowMs);
    return over.sort((a, b) => a.endMs - b.endMs || a.order - b.order);
  }

  start(flow: NaiveFlow): void {
    this.sending.push(flow);
    naiveRates(this.sending, this.bandwidths);
  }

  cancel(id: number): void {
    this.sending = this.sending.filter((flow) => flow.id !== id);
    this.arriving = this.arriving.filter((flow) => flow.id !== id);
    naiveRates(this.sending, this.bandwidths);
  }
}
