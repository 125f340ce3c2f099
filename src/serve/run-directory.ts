import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MAX_UNIX_PATH_BYTES } from "../protocol/address.ts";

/** Room for our folder's name and a socket's name below the parent. */
const NAME_BYTES = 48;

/** The folder for sockets can't be used; the message says what to do. */
export class RunDirectoryError extends Error {
  override name = "RunDirectoryError";
  readonly code = "run_directory";
}

/** Where sockets go unless told otherwise: the user's run-time folder if the system has one, else the temporary one. */
export function defaultRunDirectory(env: Readonly<Record<string, string | undefined>>): string {
  const candidate = env.TWOFOLD_RUN_DIR ?? env.XDG_RUNTIME_DIR ?? "";
  return candidate === "" ? tmpdir() : candidate;
}

/**
 * Makes a folder of our own inside `parent` that nobody else may enter.
 *
 * @throws RunDirectoryError when it can't be made
 */
export async function createRunDirectory(parent: string): Promise<{ path: string; remove(): Promise<void> }> {
  if (Buffer.byteLength(parent) + NAME_BYTES > MAX_UNIX_PATH_BYTES) {
    throw new RunDirectoryError(
      `the folder for sockets, ${parent}, has too long a path for unix sockets; name a shorter one with TWOFOLD_RUN_DIR`,
    );
  }
  try {
    await mkdir(parent, { recursive: true, mode: 0o700 });
    const path = await mkdtemp(join(parent, "twofold-"));
    await chmod(path, 0o700);
    return { path, remove: () => rm(path, { recursive: true, force: true }) };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new RunDirectoryError(
      `no folder for sockets can be made in ${parent} (${why}); name a writable one with TWOFOLD_RUN_DIR`,
      { cause: error },
    );
  }
}
