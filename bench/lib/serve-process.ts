import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";

const CLI = new URL("../../dist/cli/main.js", import.meta.url).pathname;
/** Clock ticks per second of `/proc/PID/stat`; Linux has used 100 for user space everywhere for decades. */
const TICKS_PER_SECOND = 100;
const MAX_START_MS = 30_000;

export interface ServeProcess {
  readonly url: string;
  readonly pid: number;
  readonly child: ChildProcess;
  stop(): Promise<void>;
}

/** Starts the compiled `twofold serve` on a free port. */
export async function startServe(args: readonly string[]): Promise<ServeProcess> {
  const child = spawn(process.execPath, [CLI, "serve", "--port", "0", "--log-level", "error", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  let output = "";
  const url = await new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not ready: ${output}`)), MAX_START_MS);
    child.once("exit", (code) => reject(new Error(`serve ended with ${code}: ${output}`)));
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      const ready = /^Ready at (\S+)/m.exec(output);
      if (ready === null) return;
      clearTimeout(timer);
      resolve(ready[1]!);
    });
  });
  return {
    url,
    pid: child.pid!,
    child,
    async stop() {
      child.kill("SIGTERM");
      await exited;
    },
  };
}

/** CPU seconds that a process has used, user and system, all threads. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The command in brackets may hold spaces; the fields after it do not.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
