import { type SeriesData, TimeSeries } from "./time-series.ts";

/** What the workers of a pool did over time, as plain arrays. */
export interface ActivityData {
  readonly kvUsedBlocks: SeriesData;
  /** Sequences in steps. */
  readonly batch: SeriesData;
  /** Bytes per millisecond. */
  readonly sentBytes: SeriesData;
}

/** What all workers of a pool together did over time. */
export class ActivitySeries {
  readonly kvUsedBlocks = new TimeSeries();
  readonly batch = new TimeSeries();
  readonly sentBytes = new TimeSeries();

  data(endMs: number): ActivityData {
    return {
      kvUsedBlocks: this.kvUsedBlocks.data(endMs),
      batch: this.batch.data(endMs),
      sentBytes: this.sentBytes.data(endMs),
    };
  }
}
