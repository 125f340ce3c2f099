import type { DispatchEntry } from "../../core/dispatch/recorded-dispatcher.ts";
import {
  type DispatchLogEnd,
  DispatchLogError,
  type DispatchLogHeader,
  decodeLogHeader,
  decodeLogLine,
} from "../../protocol/dispatch-log.ts";
import { LineReader } from "../workload/line-reader.ts";

/** Reads a record of a dispatcher, entry by entry. All that is wrong with the file is a `WorkloadError` with its line. */
export class DispatchLogReader {
  readonly header: DispatchLogHeader;
  readonly #lines: LineReader;
  /** How the record ends, known when the last entry has been read; null when it just stops. */
  end: DispatchLogEnd["reason"] | null = null;

  /** `shownAs`: the file's name in errors. */
  constructor(file: string, shownAs: string = file) {
    this.#lines = new LineReader(file, shownAs);
    if (!this.#lines.advance()) throw this.#lines.error("is empty; name a file that --record has written");
    this.header = this.#located(() => decodeLogHeader(this.#lines.text()));
  }

  /** Number of the line that was read last, from 1. */
  get line(): number {
    return this.#lines.line;
  }

  /** Ends before a last line that is cut off: what writes a record may be killed, or not have written all of it yet. */
  *entries(): Generator<DispatchEntry> {
    while (this.#lines.advance()) {
      if (this.end !== null) throw this.#lines.error("stands behind the end of the record");
      if (!this.#lines.isTerminated && !isJson(this.#lines.text())) return;
      const line = this.#located(() => decodeLogLine(this.#lines.text()));
      if (line.kind === "end") this.end = line.reason;
      else yield line;
    }
  }

  /** A mistake on the line that was read last. */
  error(message: string): Error {
    return this.#lines.error(message);
  }

  close(): void {
    this.#lines.close();
  }

  #located<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      this.#lines.close();
      if (error instanceof DispatchLogError) throw this.#lines.error(error.message);
      throw error;
    }
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
