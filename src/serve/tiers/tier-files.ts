import { chmod, mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";

/** The beginning of a file. */
export interface FileHead {
  readonly head: Buffer;
  readonly bytes: number;
  readonly modifiedMs: number;
}

/** What a disk tier needs of a folder. Every call may reject with a system error. */
export interface TierFiles {
  list(): Promise<string[]>;
  readHead(name: string, maxBytes: number): Promise<FileHead>;
  read(name: string): Promise<Buffer>;
  /** Whole or not at all, for whoever reads it under this name. */
  write(name: string, parts: readonly Uint8Array[]): Promise<void>;
  remove(name: string): Promise<void>;
}

/** Ends the name of a file that is being written. */
export const TEMPORARY_SUFFIX = ".tmp";

/**
 * Opens a folder of which only this user sees anything: makes it if need be, and takes from others what they may do in it. Rejects when
 * it belongs to somebody else, who could lead what is written elsewhere.
 */
export async function openTierFolder(path: string, ownUid = process.getuid?.()): Promise<TierFiles> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const { mode, uid } = await stat(path);
  if (ownUid !== undefined && uid !== ownUid)
    throw new Error(`folder ${path} belongs to user ${uid}: give it to user ${ownUid}, or name another one`);
  if ((mode & 0o077) !== 0) await chmod(path, 0o700);
  return new TierFolder(path);
}

class TierFolder implements TierFiles {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  list(): Promise<string[]> {
    return readdir(this.#path);
  }

  async readHead(name: string, maxBytes: number): Promise<FileHead> {
    const file = await open(this.#at(name), "r");
    try {
      const { size, mtimeMs } = await file.stat();
      const head = Buffer.alloc(Math.min(size, maxBytes));
      const { bytesRead } = await file.read(head, 0, head.length, 0);
      return { head: head.subarray(0, bytesRead), bytes: size, modifiedMs: mtimeMs };
    } finally {
      await file.close();
    }
  }

  read(name: string): Promise<Buffer> {
    return readFile(this.#at(name));
  }

  /**
   * Not flushed to the medium: what a power failure leaves of a file does not verify, and is computed again. A tier is a cache.
   */
  async write(name: string, parts: readonly Uint8Array[]): Promise<void> {
    const temporary = this.#at(name + TEMPORARY_SUFFIX);
    try {
      const file = await open(temporary, "w", 0o600);
      try {
        await file.writev(parts as Uint8Array[]);
        const expected = parts.reduce((sum, { length }) => sum + length, 0);
        if ((await file.stat()).size !== expected)
          throw Object.assign(new Error("short write"), { code: "ENOSPC" });
      } finally {
        await file.close();
      }
      await rename(temporary, this.#at(name));
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {});
      throw error;
    }
  }

  remove(name: string): Promise<void> {
    return rm(this.#at(name), { force: true });
  }

  #at(name: string): string {
    return join(this.#path, name);
  }
}
