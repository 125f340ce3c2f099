import { closeSync, openSync, readSync } from "node:fs";
import { WorkloadError } from "./workload.ts";

/** Longest line of a workload file, in bytes. A line of Mooncake's with a million tokens has 20 kB; a whole agent session a few MB. */
export const MAX_LINE_BYTES = 64 * 1024 * 1024;

const CHUNK_BYTES = 256 * 1024;
const NEWLINE = 10;
const CARRIAGE_RETURN = 13;
const SPACE = 32;

/** UTF-8 form of the byte-order mark, which editors of another system put before the first line. */
const BYTE_ORDER_MARK = Buffer.from("\uFEFF");

/** Reads a file line by line, synchronously; holds one chunk, or one line if that is longer. */
export class LineReader {
  readonly file: string;
  /** Number of the line that {@link advance} came to last, from 1. */
  line = 0;
  /** The line is `bytes[from … to)`, until the next is asked for. */
  bytes: Buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  from = 0;
  to = 0;
  /** Whether the line ended with a newline, as all but a file's last one do. */
  isTerminated = false;
  #descriptor: number | null;
  /** Start of the next line, and end of what has been read. */
  #start = 0;
  #end = 0;

  /** Throws {@link WorkloadError} when the file cannot be opened. `shownAs`: its name in errors. */
  constructor(file: string, shownAs: string = file) {
    this.file = shownAs;
    try {
      this.#descriptor = openSync(file, "r");
    } catch (error) {
      throw new WorkloadError(shownAs, 0, `cannot be opened: ${reasonOf(error)}`);
    }
  }

  /** Goes to the next line; false after the last one, when the file is closed. */
  advance(): boolean {
    let searched = this.#start;
    for (;;) {
      // A line is short against the chunk behind it, so that a view of what is full of data would cost more than it saves.
      const at = this.bytes.indexOf(NEWLINE, searched);
      if (at !== -1 && at < this.#end) return this.#cut(at, at + 1);
      searched = this.#end - this.#start;
      if (!this.#fill()) return this.#end > this.#start && this.#cut(this.#end, this.#end);
    }
  }

  /** Goes to the next line with something on it; false when there is none. */
  advanceToText(): boolean {
    while (this.advance()) {
      let at = this.from;
      while (at < this.to && this.bytes[at]! <= SPACE) at++;
      if (at < this.to) return true;
    }
    return false;
  }

  /** The line without its end. */
  text(): string {
    return this.bytes.toString("utf8", this.from, this.to);
  }

  /** A mistake on the current line. */
  error(message: string): WorkloadError {
    return new WorkloadError(this.file, this.line, message);
  }

  close(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }

  #cut(to: number, next: number): true {
    this.from = this.#start;
    this.to = to > this.#start && this.bytes[to - 1] === CARRIAGE_RETURN ? to - 1 : to;
    this.isTerminated = next > to;
    this.#start = next;
    this.line++;
    if (this.line === 1 && this.bytes.subarray(this.from, this.to).indexOf(BYTE_ORDER_MARK) === 0)
      this.from += BYTE_ORDER_MARK.length;
    return true;
  }

  /** Moves what is left to the front and reads on; false at the end of the file. */
  #fill(): boolean {
    if (this.#descriptor === null) return false;
    const held = this.#end - this.#start;
    if (held >= MAX_LINE_BYTES) {
      this.line++;
      this.close();
      throw this.error(`is longer than ${MAX_LINE_BYTES} bytes`);
    }
    const grown = held > this.bytes.length / 2 ? this.bytes.length * 2 : this.bytes.length;
    const target = grown === this.bytes.length ? this.bytes : Buffer.allocUnsafe(grown);
    this.bytes.copy(target, 0, this.#start, this.#end);
    this.bytes = target;
    this.#start = 0;
    this.#end = held;
    const numRead = this.#read(held);
    this.#end += numRead;
    if (numRead === 0) this.close();
    return numRead > 0;
  }

  #read(at: number): number {
    try {
      return readSync(this.#descriptor!, this.bytes, at, this.bytes.length - at, null);
    } catch (error) {
      this.close();
      throw new WorkloadError(this.file, 0, `cannot be read: ${reasonOf(error)}`);
    }
  }
}

/** Why the operating system refused, in its words. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
