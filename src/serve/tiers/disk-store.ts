import type { Segment } from "../../core/kv/tiers/segment.ts";
import { ConcurrencyLimit } from "../engine/concurrency-limit.ts";
import { EngineError } from "../engine/engine.ts";
import {
  encodeHeader,
  type FileIdentity,
  MAX_HEADER_BYTES,
  parseHeader,
  readPayload,
} from "./segment-file.ts";
import { TEMPORARY_SUFFIX, type TierFiles } from "./tier-files.ts";
import type { ReadOutcome, TierStore } from "./tier-store.ts";

/** Files that are looked at when a worker starts; further ones are deleted. */
const MAX_SCANNED_FILES = 1 << 20;
const MAX_RUNNING_READS = 4;
const MAX_RUNNING_SCANS = 16;
/** More than the sequences of a worker can ask for. */
const MAX_WAITING_READS = 4096;

const FILE_NAME = /^[0-9a-f]{32}-([0-9a-z]{1,10})\.kv$/;

/** What a scan has found, least recently written first. */
export interface DiskScan {
  readonly found: ReadonlyArray<{ readonly segment: Segment; readonly bytes: number }>;
  /** Files that were damaged, cut off, of another model or not of this fleet. They have been deleted. */
  readonly numBad: number;
}

export interface DiskStoreOptions {
  readonly files: TierFiles;
  readonly identity: FileIdentity;
  /** Called once, when a write has failed: the tier is off from then on. */
  readonly onOff: (reason: string) => void;
}

/** KV in files, one per segment, named by the hash of its last block. */
export class DiskStore implements TierStore {
  readonly tier = "disk";
  readonly #files: TierFiles;
  readonly #identity: FileIdentity;
  readonly #onOff: (reason: string) => void;
  readonly #reads = new ConcurrencyLimit({ maxRunning: MAX_RUNNING_READS, maxWaiting: MAX_WAITING_READS });
  /** Writes and deletes, one after the other. */
  #tail: Promise<unknown> = Promise.resolve();
  #isOff = false;

  constructor(options: DiskStoreOptions) {
    this.#files = options.files;
    this.#identity = options.identity;
    this.#onOff = options.onOff;
  }

  /** Looks at what is there, and deletes what can't be used. Rejects with a system error when the folder can't be read. */
  async scan(): Promise<DiskScan> {
    const names = (await this.#files.list()).filter(
      (name) => FILE_NAME.test(name) || name.endsWith(`.kv${TEMPORARY_SUFFIX}`),
    );
    const found: Array<{ segment: Segment; bytes: number; modifiedMs: number }> = [];
    let numBad = 0;
    const lookAt = async (name: string, at: number): Promise<void> => {
      const file = at < MAX_SCANNED_FILES ? await this.#lookAt(name) : null;
      if (file !== null) found.push(file);
      else {
        if (!name.endsWith(TEMPORARY_SUFFIX)) numBad++;
        await this.#files.remove(name).catch(() => {});
      }
    };
    let next = 0;
    const run = async (): Promise<void> => {
      while (next < names.length) {
        const at = next++;
        await lookAt(names[at]!, at);
      }
    };
    await Promise.all(Array.from({ length: MAX_RUNNING_SCANS }, run));
    found.sort((a, b) => a.modifiedMs - b.modifiedMs || a.segment.id - b.segment.id);
    return { found, numBad };
  }

  async #lookAt(name: string): Promise<{ segment: Segment; bytes: number; modifiedMs: number } | null> {
    const id = FILE_NAME.exec(name)?.[1];
    if (id === undefined) return null;
    const file = await this.#files.readHead(name, MAX_HEADER_BYTES).catch(() => null);
    if (file === null) return null;
    const header = parseHeader(file.head, file.bytes, this.#identity);
    if (typeof header === "string") return null;
    const { firstBlock, hashes, parent } = header;
    const segment: Segment = { id: Number.parseInt(id, 36), firstBlock, hashes, parent };
    // The name says where the segment is read from, so it has to be the one that it would be given.
    if (nameOf(segment) !== name) return null;
    return { segment, bytes: file.bytes, modifiedMs: file.modifiedMs };
  }

  write(segment: Segment, payload: Uint8Array): Promise<number | null> {
    return this.#inOrder(async () => {
      if (this.#isOff) return null;
      const header = encodeHeader(segment, payload, this.#identity);
      try {
        await this.#files.write(nameOf(segment), [header, payload]);
        return header.length + payload.length;
      } catch (error) {
        if (!this.#isOff) {
          this.#isOff = true;
          this.#onOff(reasonOf(error));
        }
        return null;
      }
    });
  }

  async read(segment: Segment): Promise<ReadOutcome> {
    if (this.#isOff) return "bad";
    let bytes: Buffer;
    try {
      bytes = await this.#reads.run(() => this.#files.read(nameOf(segment)));
    } catch (error) {
      return isBusy(error) ? "busy" : "bad";
    }
    return readPayload(bytes, segment, this.#identity) ?? "bad";
  }

  delete(segment: Segment): void {
    void this.#inOrder(async () => {
      // A tier that failed leaves its files to the next start.
      if (!this.#isOff) await this.#files.remove(nameOf(segment)).catch(() => {});
    });
  }

  async close(): Promise<void> {
    await this.#tail;
    await this.#reads.idle();
  }

  #inOrder<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(run);
    this.#tail = result;
    return result;
  }
}

/** Whether a read failed for want of something that others use now: too many reads wait, or too many files are open. */
function isBusy(error: unknown): boolean {
  if (error instanceof EngineError) return true;
  const code = error instanceof Error && "code" in error ? error.code : "";
  return code === "EMFILE" || code === "ENFILE" || code === "ENOMEM" || code === "EAGAIN";
}

function nameOf({ hashes, id }: Segment): string {
  const last = Buffer.alloc(16);
  hashes.slice(-4).forEach((word, i) => {
    last.writeInt32LE(word, 4 * i);
  });
  return `${last.toString("hex")}-${id.toString(36)}.kv`;
}

/** What went wrong, for a person: `ENOSPC` says more than most messages. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = "code" in error ? String(error.code) : "";
  if (code === "ENOSPC" || code === "EDQUOT") return `no space is left (${code})`;
  if (code === "EROFS" || code === "EACCES" || code === "EPERM") return `it can't be written to (${code})`;
  return error.message;
}
