import { accessSync, constants, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { availableParallelism, freemem } from "node:os";
import { join } from "node:path";
import { MAX_UNIX_PATH_BYTES } from "../protocol/address.ts";
import { defaultRunDirectory } from "../serve/run-directory.ts";
import type { Machine } from "./doctor-checks.ts";

/** Room that a socket's name takes below the folder. */
const SOCKET_NAME_BYTES = 40;

/** This machine. */
export const thisMachine: Machine = {
  nodeVersion: process.versions.node,
  platform: `${process.platform}-${process.arch}`,
  numCpus: availableParallelism(),
  freeMemoryBytes: availableMemory(),
  async loadModel(config) {
    const { openTokenizer } = await import("../serve/engine/open-engine.ts");
    const { path } = config.model;
    const tokenizer = await openTokenizer(
      config.engine === "stub" || path === null ? { engine: "stub" } : { engine: "llama", modelPath: path },
    );
    const { modelName, trainedContextTokens } = tokenizer;
    await tokenizer.close();
    return { modelName, trainedContextTokens };
  },
  fileBytes(path) {
    try {
      accessSync(path, constants.R_OK);
      const stats = statSync(path);
      return stats.isFile() ? stats.size : null;
    } catch {
      // Missing or not readable: the caller says so.
      return null;
    }
  },
  portProblem: (host, port) =>
    new Promise((resolve) => {
      const server = createServer();
      server.once("error", (error: NodeJS.ErrnoException) => resolve(describe(error)));
      server.listen({ host, port }, () => server.close(() => resolve(null)));
    }),
  async socketFolder() {
    const path = defaultRunDirectory(process.env);
    if (Buffer.byteLength(path) + SOCKET_NAME_BYTES > MAX_UNIX_PATH_BYTES) {
      return { path, problem: "the path is too long for unix sockets" };
    }
    try {
      const folder = mkdtempSync(join(path, "twofold-doctor-"));
      const problem = await socketProblem(join(folder, "probe.sock"));
      rmSync(folder, { recursive: true, force: true });
      return { path, problem };
    } catch (error) {
      return { path, problem: describe(error) };
    }
  },
};

function socketProblem(path: string): Promise<string | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error) => resolve(describe(error)));
    server.listen(path, () => server.close(() => resolve(null)));
  });
}

function describe(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
  switch (code) {
    case "EADDRINUSE":
      return "in use";
    case "EACCES":
      return "permission denied";
    case "EADDRNOTAVAIL":
      return "no such address on this machine";
    case "ENOTFOUND":
      return "no such host";
    default:
      return code;
  }
}

/** What a new process could take without swapping: Linux counts caches that it would give back. */
function availableMemory(): number {
  if (process.platform !== "linux") return freemem();
  try {
    const match = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"));
    return match?.[1] === undefined ? freemem() : Number(match[1]) * 1024;
  } catch {
    // No /proc, as in some containers.
    return freemem();
  }
}
