import { ErrorSample, type ErrorStats } from "./error-stats.ts";

/** What a validation prints as JSON. */
export interface ValidationReport {
  readonly name: string;
  /** The path that was read, as given. */
  readonly data: string;
  /** Rows read, skipped ones included. */
  readonly rows: number;
  readonly skipped: ReadonlyArray<{ readonly row: string; readonly reason: string }>;
  readonly metrics: Readonly<Record<string, ErrorStats>>;
  /** Predictions of others that the file has, by their name. */
  readonly rivals: Readonly<Record<string, Readonly<Record<string, ErrorStats>>>>;
  /** Errors by device, operator or whatever the data set splits into, for tables; keys are `group: metric`. */
  readonly groups?: Readonly<Record<string, ErrorStats>>;
  /** How the reported rows were kept apart from those that anything was fitted on. */
  readonly split?: string;
}

/** What a validator is given besides the data. */
export interface ValidateOptions {
  /** Also report rows that coefficients were fitted on. */
  readonly includesFitted: boolean;
}

/** Skipped rows that are listed one by one; further ones are counted. */
const MAX_SKIPPED_LISTED = 10_000;

/** Collects the errors of a validation run. */
export class ReportBuilder {
  readonly #metrics = new Map<string, ErrorSample>();
  readonly #groups = new Map<string, ErrorSample>();
  readonly #rivals = new Map<string, Map<string, ErrorSample>>();
  readonly #skipped: Array<{ row: string; reason: string }> = [];
  #numSkippedMore = 0;
  #rows = 0;

  /** Counts rows that were read. */
  addRows(count: number): void {
    this.#rows += count;
  }

  leaveOut(row: string, reason: string): void {
    if (this.#skipped.length < MAX_SKIPPED_LISTED) this.#skipped.push({ row, reason });
    else this.#numSkippedMore++;
  }

  /** `group` makes the error count in a group as well. */
  add(metric: string, predicted: number, measured: number, group?: string): void {
    sampleOf(this.#metrics, metric).add(predicted, measured);
    if (group !== undefined) sampleOf(this.#groups, `${group}: ${metric}`).add(predicted, measured);
  }

  addRival(rival: string, metric: string, predicted: number, measured: number): void {
    let metrics = this.#rivals.get(rival);
    if (metrics === undefined) {
      metrics = new Map();
      this.#rivals.set(rival, metrics);
    }
    sampleOf(metrics, metric).add(predicted, measured);
  }

  build(name: string, data: string, split?: string): ValidationReport {
    const skipped = [...this.#skipped];
    if (this.#numSkippedMore > 0)
      skipped.push({ row: "…", reason: `${this.#numSkippedMore} more rows were skipped` });
    return {
      name,
      data,
      rows: this.#rows,
      skipped,
      metrics: statsOf(this.#metrics),
      rivals: Object.fromEntries([...this.#rivals].map(([rival, metrics]) => [rival, statsOf(metrics)])),
      ...(this.#groups.size > 0 ? { groups: statsOf(this.#groups) } : {}),
      ...(split === undefined ? {} : { split }),
    };
  }
}

function sampleOf(samples: Map<string, ErrorSample>, name: string): ErrorSample {
  let sample = samples.get(name);
  if (sample === undefined) {
    sample = new ErrorSample();
    samples.set(name, sample);
  }
  return sample;
}

function statsOf(samples: ReadonlyMap<string, ErrorSample>): Record<string, ErrorStats> {
  return Object.fromEntries([...samples].map(([name, sample]) => [name, sample.stats()]));
}
