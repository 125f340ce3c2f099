import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
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
  await writeFile(path, newFleetSecret(), { flag: "wx", mode: 0o600 }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    },
  );
  if (((await stat(path)).mode & 0o077) !== 0)
    throw new Error(`others can read ${path}: delete it, or make it private with chmod 600`);
  const secret = await readFile(path, "utf8");
  if (!/^[0-9a-f]{64}$/.test(secret)) throw new Error(`${path} holds no secret: delete it`);
  return secret;
}
