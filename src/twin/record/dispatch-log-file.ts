import { closeSync, openSync, writeSync } from "node:fs";
import type { DispatchEntry } from "../../core/dispatch/recorded-dispatcher.ts";
import {
  type DispatchLogHeader,
  encodeLogHeader,
  encodeLogLine,
  MAX_RECORD_BYTES,
} from "../../protocol/dispatch-log.ts";

/** Written at once when so much has gathered. */
const CHUNK_LENGTH = 1024 * 1024;

/** The record of one run of the twin. Writes while the run stands still. */
export class DispatchLogFile {
  readonly #descriptor: number;
  readonly #maxBytes: number;
  #text = "";
  #numBytes = 0;
  #isFull = false;

  /** Throws a system error when the file can't be written. */
  constructor(path: string, header: DispatchLogHeader, maxBytes: number = MAX_RECORD_BYTES) {
    this.#maxBytes = maxBytes;
    this.#descriptor = openSync(path, "w");
    this.#write(encodeLogHeader(header));
  }

  add(entry: DispatchEntry): void {
    if (this.#isFull) return;
    this.#write(encodeLogLine(entry));
    this.#isFull = this.#numBytes >= this.#maxBytes;
  }

  close(): void {
    try {
      this.#write(encodeLogLine({ kind: "end", reason: this.#isFull ? "full" : "stopped" }));
      this.#flush();
    } finally {
      closeSync(this.#descriptor);
    }
  }

  #write(line: string): void {
    // Names are the only text that is not ASCII.
    this.#numBytes += line.length + 1;
    this.#text += `${line}\n`;
    if (this.#text.length >= CHUNK_LENGTH) this.#flush();
  }

  #flush(): void {
    writeSync(this.#descriptor, this.#text);
    this.#text = "";
  }
}
