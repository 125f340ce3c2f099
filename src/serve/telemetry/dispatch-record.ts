import { constants } from "node:fs";
import { type FileHandle, open, unlink } from "node:fs/promises";
import type { DispatchEntry } from "../../core/dispatch/recorded-dispatcher.ts";
import {
  type DispatchLogHeader,
  type DispatchLogLine,
  encodeLogHeader,
  encodeLogLine,
  MAX_RECORD_BYTES,
} from "../../protocol/dispatch-log.ts";
import type { Logger } from "./logger.ts";

/** Lines wait for so long to be written together. */
const FLUSH_MS = 250;
/** A record tells who asked for how much, and when. */
const MODE = 0o600;
/** What may wait for a disk that is slow. */
const MAX_PENDING_BYTES = 32 * 1024 * 1024;

/** The record cannot be begun; the message says why. */
export class DispatchRecordError extends Error {
  override name = "DispatchRecordError";
  readonly code = "bad_record_file";
}

/**
 * Writes down what a server's dispatcher is told and decides. Requests never wait for it: lines are written beside them, and
 * whatever goes wrong with the file ends the record with one warning and nothing else.
 */
export class DispatchRecord {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #logger: Logger;
  readonly #limits: { readonly fileBytes: number; readonly pendingBytes: number };
  readonly #timer: NodeJS.Timeout;
  #lines: string[] = [];
  #pendingBytes = 0;
  #numBytes = 0;
  /** Nothing more is taken. */
  #isOver = false;
  #hasFailed = false;
  /** False once a write has failed. */
  #canWrite = true;
  #writing: Promise<void> = Promise.resolve();
  /** What was there is still there. */
  #isUntouched = true;
  readonly #isNew: boolean;

  private constructor(
    file: FileHandle,
    path: string,
    isNew: boolean,
    header: DispatchLogHeader,
    options: { logger: Logger; fileBytes?: number; pendingBytes?: number },
  ) {
    this.#isNew = isNew;
    this.#file = file;
    this.#path = path;
    this.#logger = options.logger;
    this.#limits = {
      fileBytes: options.fileBytes ?? MAX_RECORD_BYTES,
      pendingBytes: options.pendingBytes ?? MAX_PENDING_BYTES,
    };
    this.#push(encodeLogHeader(header));
    this.#timer = setInterval(() => this.#flush(), FLUSH_MS);
    this.#timer.unref();
  }

  /**
   * Opens a file for this user alone. One that is there is left as it is until {@link start}: a server that cannot start for another
   * reason must not cost an earlier record. Rejects with {@link DispatchRecordError}.
   */
  static async open(
    path: string,
    header: DispatchLogHeader,
    options: { logger: Logger; fileBytes?: number; pendingBytes?: number },
  ): Promise<DispatchRecord> {
    try {
      const { file, isNew } = await openUntouched(path);
      return new DispatchRecord(file, path, isNew, header, options);
    } catch (error) {
      const message = `cannot write the record ${path}: ${reasonOf(error)}; name another file with --record`;
      throw new DispatchRecordError(message, { cause: error });
    }
  }

  /** Begins to write, in place of what was there. */
  start(): void {
    this.#isUntouched = false;
    this.#writing = emptied(this.#file).catch((error: unknown) => {
      this.#canWrite = false;
      this.#fail(reasonOf(error));
    });
  }

  add(entry: DispatchEntry): void {
    if (this.#isOver) return;
    this.#push(encodeLogLine(entry));
    if (this.#numBytes >= this.#limits.fileBytes) {
      this.#logger.warn(
        { path: this.#path, bytes: this.#numBytes },
        "the record is full: recording has stopped",
      );
      this.#end({ kind: "end", reason: "full" });
    } else if (this.#pendingBytes > this.#limits.pendingBytes) {
      this.#fail("the disk does not keep up");
    }
  }

  /** Writes what waits, and the end; nothing, if it was not started. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    if (this.#isUntouched) {
      this.#isOver = true;
      await this.#file.close().catch(() => {});
      if (this.#isNew) await unlink(this.#path).catch(() => {});
      return;
    }
    this.#end({ kind: "end", reason: "stopped" });
    await this.#writing;
    await this.#file.close().catch(() => {});
  }

  #push(line: string): void {
    // Names are the only text that is not ASCII, so characters are close enough to bytes for a bound.
    this.#lines.push(line);
    this.#pendingBytes += line.length + 1;
    this.#numBytes += line.length + 1;
  }

  #end(line: DispatchLogLine): void {
    if (this.#isOver) return;
    this.#push(encodeLogLine(line));
    this.#flush();
    this.#isOver = true;
  }

  #flush(): void {
    if (this.#lines.length === 0 || this.#isOver || this.#isUntouched) return;
    const text = `${this.#lines.join("\n")}\n`;
    const { length } = text;
    this.#lines = [];
    this.#writing = this.#writing
      // Behind text that was written in part, more would be damage in the middle.
      .then(() => (this.#canWrite ? this.#file.appendFile(text) : undefined))
      .then(
        () => {
          this.#pendingBytes -= length;
        },
        (error: unknown) => {
          this.#canWrite = false;
          this.#fail(reasonOf(error));
        },
      );
  }

  #fail(reason: string): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#isOver = true;
    this.#lines = [];
    clearInterval(this.#timer);
    this.#logger.warn({ path: this.#path, reason }, "the record can't be written: recording has stopped");
  }
}

/** Opens a file for writing without a change to what is in it. */
async function openUntouched(path: string): Promise<{ file: FileHandle; isNew: boolean }> {
  try {
    return { file: await open(path, "wx", MODE), isNew: true };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    return { file: await open(path, constants.O_WRONLY), isNew: false };
  }
}

async function emptied(file: FileHandle): Promise<void> {
  // A device or a pipe has no content to lose, and a mode that is not ours to set.
  if (!(await file.stat()).isFile()) return;
  // First for nobody else's eyes, then new text.
  await file.chmod(MODE);
  await file.truncate();
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
