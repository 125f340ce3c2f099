import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";

/** Fields of /proc/PID/stat, counted behind the command's closing parenthesis: when the process began. */
const START_TIME_FIELD = 19;
const PS_TIMEOUT_MS = 2000;

/** What tells one process of a machine from all others, as far as the system says so. */
export interface ProcessName {
  readonly pid: number;
  /** When it began, as digits; empty when that is not known. */
  readonly start: string;
  /** The beginning of what names this start of the machine; empty when that is not known. */
  readonly boot: string;
}

export async function processName(pid: number): Promise<ProcessName> {
  return { pid, start: await startOf(pid), boot: await bootOf() };
}

/** Whether the process of this name is still there, and not another one that has been given its number. */
export async function isAlive({ pid, start, boot }: ProcessName): Promise<boolean> {
  if (!(pid > 0) || !exists(pid)) return false;
  if (boot !== (await bootOf())) return false;
  const now = await startOf(pid);
  // A system that did not tell then, or does not now, leaves the number alone to go by.
  return start === "" || now === "" || start === now;
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

async function startOf(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  if (stat !== null) return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[START_TIME_FIELD] ?? "";
  const options = { timeout: PS_TIMEOUT_MS, env: { ...process.env, LC_ALL: "C", TZ: "UTC" } };
  const ps = await promisify(execFile)("ps", ["-o", "lstart=", "-p", String(pid)], options).catch(() => null);
  const startMs = Date.parse(`${ps?.stdout.trim()} UTC`);
  return Number.isNaN(startMs) ? "" : String(startMs);
}

async function bootOf(): Promise<string> {
  const id = await readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => "");
  return id.replaceAll(/[^0-9a-f]/g, "").slice(0, 12);
}
