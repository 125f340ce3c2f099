import type { ZeroLengths } from "./fields.ts";
import { LineReader } from "./line-reader.ts";
import { WorkloadError, type WorkloadRequest, type WorkloadSource } from "./workload.ts";

/** What every reader of an open-loop trace can be told. */
export interface TraceOptions {
  /** Default: `skip` for BurstGPT, whose failed requests have no output; `error` for all others. */
  readonly zeroLengths?: ZeroLengths;
}

/** A source over a function that makes one request after the other, in order of arrival, and null at the end. */
export class PulledSource implements WorkloadSource {
  readonly #pull: () => WorkloadRequest | null;
  readonly #close: () => void;
  #next: WorkloadRequest | null | undefined;

  constructor(pull: () => WorkloadRequest | null, close: () => void = () => {}) {
    this.#pull = pull;
    this.#close = close;
  }

  get nextArrivalMs(): number {
    if (this.#next === undefined) this.#next = this.#pull();
    return this.#next === null ? Number.POSITIVE_INFINITY : this.#next.arrivalMs;
  }

  take(): WorkloadRequest {
    const request = this.#next === undefined ? this.#pull() : this.#next;
    if (request === null) throw new RangeError("the workload has no further request");
    this.#next = undefined;
    return request;
  }

  ended(): void {}

  close(): void {
    this.#close();
  }
}

/** Reads the line that the reader stands on, which is not blank; null leaves it out. */
export type RowParser = () => WorkloadRequest | null;

/**
 * A source over the rows of a file. `makeParser` may read header lines first. Checks that times do not go back, and that the file
 * holds at least one request; throws {@link WorkloadError} at once if the first row is bad, later when it gets there.
 */
export function openRows(file: string, makeParser: (lines: LineReader) => RowParser): WorkloadSource {
  const lines = new LineReader(file);
  let lastMs = Number.NEGATIVE_INFINITY;
  const guarded = <T>(read: () => T): T => {
    try {
      return read();
    } catch (error) {
      lines.close();
      throw error;
    }
  };
  const parse = guarded(() => makeParser(lines));
  const pull = (): WorkloadRequest | null => {
    while (lines.advanceToText()) {
      const request = parse();
      if (request === null) continue;
      if (request.arrivalMs < lastMs)
        throw lines.error(
          `arrives at ${request.arrivalMs} ms, before the row before it (${lastMs} ms); sort the file by time`,
        );
      lastMs = request.arrivalMs;
      return request;
    }
    return null;
  };
  const source = new PulledSource(
    () => guarded(pull),
    () => lines.close(),
  );
  if (source.nextArrivalMs === Number.POSITIVE_INFINITY)
    throw new WorkloadError(file, 0, "holds no requests");
  return source;
}
