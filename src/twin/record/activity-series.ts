import { type SeriesData, TimeSeries } from "./time-series.ts";

/** Most workers whose series are kept one by one; beyond it only those of their pools are. */
export const MAX_WORKER_SERIES = 64;

/** What workers did over time, as plain arrays. */
export interface ActivityData {
  readonly kvUsedBlocks: SeriesData;
  readonly kvCachedBlocks: SeriesData;
  /** Sequences in steps. */
  readonly batch: SeriesData;
  /** Bytes per millisecond. */
  readonly sentBytes: SeriesData;
  readonly receivedBytes: SeriesData;
}

/** What a worker, or all workers of a pool together, did over time. */
export class ActivitySeries {
  readonly kvUsedBlocks = new TimeSeries();
  readonly kvCachedBlocks = new TimeSeries();
  readonly batch = new TimeSeries();
  readonly sentBytes = new TimeSeries();
  readonly receivedBytes = new TimeSeries();

  kvChange(used: number, cached: number, nowMs: number): void {
    if (used !== 0) this.kvUsedBlocks.step(used, nowMs);
    if (cached !== 0) this.kvCachedBlocks.step(cached, nowMs);
  }

  data(endMs: number): ActivityData {
    return {
      kvUsedBlocks: this.kvUsedBlocks.data(endMs),
      kvCachedBlocks: this.kvCachedBlocks.data(endMs),
      batch: this.batch.data(endMs),
      sentBytes: this.sentBytes.data(endMs),
      receivedBytes: this.receivedBytes.data(endMs),
    };
  }
}
