import { randomUUID } from "node:crypto";
import { link, mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { newFleetSecret } from "./local-workers.ts";

const SECRET_FILE = "fleet-secret";

/**
 * The secret that belongs to a folder of KV on disk; made, and kept in it for this user alone, when there is none. Cache salts and the
 * key of the files follow from it, so without it nothing in the folder could be used after a restart.
 *
 * Rejects with an error that says what to do when the file can't be used.
 */
export async function keptSecret(diskPath: string): Promise<string> {
  const path = join(diskPath, SECRET_FILE);
  await mkdir(diskPath, { recursive: true, mode: 0o700 });
  const isThere = await stat(path).then(
    () => true,
    () => false,
  );
  if (!isThere) await makeSecret(path);
  if (((await stat(path)).mode & 0o077) !== 0)
    throw new Error(`others can read ${path}: delete it, or make it private with chmod 600`);
  const secret = await readFile(path, "utf8");
  if (!/^[0-9a-f]{64}$/.test(secret)) throw new Error(`${path} holds no secret: delete it`);
  return secret;
}

/** Makes the file at once with its content: a process that ends half-way leaves no secret that is none. Leaves one that is there. */
async function makeSecret(path: string): Promise<void> {
  const temporary = `${path}.${randomUUID()}`;
  try {
    await writeFile(temporary, newFleetSecret(), { flag: "wx", mode: 0o600, flush: true });
    await link(temporary, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "EEXIST") return;
      // A file system without hard links: of two servers that start at once, the last one to write is believed.
      return rename(temporary, path);
    });
  } finally {
    await rm(temporary, { force: true });
  }
}
