import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { FakeIo } from "./cli-io.ts";

/** The compiled command line, as `npm start` runs it. */
export const CLI_PATH = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
export const MODEL_PATH = fileURLToPath(
  new URL("../../models/lexicon-3m/lexicon-3m.Q8_0.gguf", import.meta.url),
);

/** Longest wait for a server's ready line or its end. */
const MAX_WAIT_MS = 60_000;
/** Output kept for error messages. */
const MAX_KEPT_OUTPUT = 64 * 1024;

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ServerWorker {
  readonly id: string;
  readonly role: string;
  readonly state: string;
  readonly pid: number | null;
  readonly numRunning: number;
  readonly numWaiting: number;
  readonly kvTokensUsed: number;
  readonly numSteps: number;
}

/** A running `twofold serve`. */
export interface ServerProcess {
  readonly url: string;
  readonly pid: number;
  readonly stdout: string;
  readonly stderr: string;
  /** What `/admin/workers` says. */
  workers(): Promise<ServerWorker[]>;
  /** Resolves when `accept` holds of the workers; polls, because another process changes them. */
  untilWorkers(what: string, accept: (workers: readonly ServerWorker[]) => boolean): Promise<ServerWorker[]>;
  metric(name: string, labels?: string): Promise<number>;
  /** SIGTERM, then waits for the end. */
  stop(): Promise<number | null>;
  kill(signal: NodeJS.Signals): void;
  /** Resolves with the exit code. */
  readonly exited: Promise<number | null>;
}

/** Runs the command line to its end. */
export async function runCli(args: readonly string[], env: Record<string, string> = {}): Promise<CliResult> {
  const child = spawn(process.execPath, [CLI_PATH, ...args], {
    env: { ...process.env, ...env },
    stdio: "pipe",
  });
  const output = collect(child);
  const timer = setTimeout(() => child.kill("SIGKILL"), MAX_WAIT_MS);
  const [code] = (await once(child, "close")) as [number | null];
  clearTimeout(timer);
  return { code, stdout: output.stdout, stderr: output.stderr };
}

/**
 * Runs the compiled command line to its end in this process, which takes a tenth of the time. What it is to find in the environment of the
 * process itself, such as `TWOFOLD_RUN_DIR`, the test has to put there.
 */
export async function runCliHere(args: readonly string[]): Promise<CliResult> {
  const compiled = (name: string) => import(new URL(`../../dist/cli/${name}.js`, import.meta.url).href);
  const { runCli: run } = (await compiled("program")) as typeof import("../../src/cli/program.ts");
  const { createProduct } = (await compiled("serving")) as typeof import("../../src/cli/serving.ts");
  const io = new FakeIo({ env: process.env, cwd: process.cwd() });
  const code = await run(args, io, createProduct(CLI_PATH));
  return { code, stdout: io.outText, stderr: io.errText };
}

/** Starts `twofold serve` on a free port and waits for its ready line. */
export async function startServer(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<ServerProcess> {
  const child = spawn(process.execPath, [CLI_PATH, "serve", "--port", "0", ...args], {
    env: { ...process.env, TWOFOLD_LOG_LEVEL: "warn", ...env },
    stdio: "pipe",
  });
  const output = collect(child);
  const exited = once(child, "exit").then(([code]) => code as number | null);
  const url = await untilReady(child, output);
  const workers = async (): Promise<ServerWorker[]> => {
    const response = await fetch(`${url}/admin/workers`);
    const body = (await response.json()) as { workers?: ServerWorker[]; data?: ServerWorker[] };
    return body.workers ?? body.data ?? [];
  };
  return {
    url,
    pid: child.pid!,
    get stderr() {
      return output.stderr;
    },
    get stdout() {
      return output.stdout;
    },
    workers,
    async untilWorkers(what, accept) {
      const deadline = Date.now() + MAX_WAIT_MS;
      for (;;) {
        const seen = await workers();
        if (accept(seen)) return seen;
        if (Date.now() > deadline)
          throw new Error(`waited in vain for ${what}: ${JSON.stringify(seen)}\n${output.stderr}`);
        await new Promise((resolve) => setTimeout(resolve, 25));
      }
    },
    async metric(name, labels = "") {
      const text = await (await fetch(`${url}/metrics`)).text();
      const line = text.split("\n").find((candidate) => candidate.startsWith(`${name}${labels}`));
      if (line === undefined) throw new Error(`no metric ${name}${labels}`);
      return Number(line.slice(line.lastIndexOf(" ") + 1));
    },
    async stop() {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), MAX_WAIT_MS);
      const code = await exited;
      clearTimeout(timer);
      return code;
    },
    kill: (signal) => void child.kill(signal),
    exited,
  };
}

function collect(child: ChildProcess): { stdout: string; stderr: string } {
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]!.setEncoding("utf8").on("data", (text: string) => {
      output[name] = (output[name] + text).slice(-MAX_KEPT_OUTPUT);
    });
  }
  return output;
}

function untilReady(child: ChildProcess, output: { stdout: string; stderr: string }): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (why: string): void => {
      child.kill("SIGKILL");
      reject(new Error(`${why}\n${output.stdout}\n${output.stderr}`));
    };
    const timer = setTimeout(() => fail("the server did not become ready"), MAX_WAIT_MS);
    child.once("exit", (code) => {
      clearTimeout(timer);
      fail(`the server ended with ${code} before it was ready`);
    });
    child.stdout!.on("data", () => {
      const match = /^Ready at (\S+)/m.exec(output.stdout);
      if (match === null) return;
      clearTimeout(timer);
      resolve(match[1]!);
    });
  });
}

/** Whether a process exists. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Resolves when the processes have gone. */
export async function untilGone(pids: readonly number[]): Promise<void> {
  const deadline = Date.now() + MAX_WAIT_MS;
  while (pids.some(isAlive)) {
    if (Date.now() > deadline) throw new Error(`still alive: ${pids.filter(isAlive).join()}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
