import { link, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

const LOCK_NAME = "lock";
/** Field of /proc/PID/stat that says when the process began, counted behind the command's closing parenthesis. */
const START_TIME_FIELD = 19;

/** A folder that is in use by another process. */
export class FolderInUseError extends Error {
  override name = "FolderInUseError";
}

/**
 * Takes a folder for this process. A lock that was left behind by a process that is gone is taken over; a process number that has
 * been given to another process since does not count as that one, where the system tells when processes began.
 *
 * Rejects with {@link FolderInUseError}, or a system error.
 */
export async function lockFolder(path: string): Promise<{ release(): Promise<void> }> {
  const lock = join(path, LOCK_NAME);
  const own = join(path, `${LOCK_NAME}.${process.pid}`);
  const text = await describeProcess(process.pid);
  try {
    await writeFile(own, text, { mode: 0o600 });
    // A link appears with its content and only if there is none: two workers never both succeed.
    await link(own, lock).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
      await removeStale(path, lock);
      await link(own, lock).catch(() => {
        throw new FolderInUseError(`${path} is in use by another worker`);
      });
    });
  } finally {
    await rm(own, { force: true });
  }
  return {
    release: async () => {
      if ((await readFile(lock, "utf8").catch(() => "")) === text) await rm(lock, { force: true });
    },
  };
}

async function removeStale(path: string, lock: string): Promise<void> {
  const holder = await readFile(lock, "utf8").catch(() => "");
  const pid = Number.parseInt(holder, 10);
  const isAlive = pid > 0 && (await describeProcess(pid)) === holder && exists(pid);
  if (isAlive) throw new FolderInUseError(`${path} is in use by the worker with process id ${pid}`);
  // Renamed first: if somebody else has taken it over meanwhile, it is theirs and goes back.
  const aside = join(path, `${LOCK_NAME}.stale.${process.pid}`);
  await rename(lock, aside).catch(() => {});
  const taken = await readFile(aside, "utf8").catch(() => holder);
  if (taken !== holder) {
    await rename(aside, lock).catch(() => {});
    throw new FolderInUseError(`${path} is in use by another worker`);
  }
  await rm(aside, { force: true });
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Somebody else's process is one, too.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** Process number and, where the system tells, when it began. */
async function describeProcess(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  const startTime = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[START_TIME_FIELD] ?? "";
  return `${pid} ${startTime}\n`;
}
