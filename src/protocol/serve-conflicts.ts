import type { WorkerRole } from "../core/request.ts";
import { isLoopback } from "./address.ts";
import type { ConfigPath } from "./config-error.ts";

/** Values that are right one by one and impossible together. */
export interface Conflict {
  /** The values that disagree, so that the message can say where each came from. */
  readonly paths: readonly ConfigPath[];
  readonly message: string;
}

/** Most worker processes on one machine, over all entries. */
const MAX_LOCAL_WORKERS = 128;

/** The parts of a configuration that can disagree. */
interface Checked {
  readonly chunkTokens: number;
  readonly maxRunning: number;
  readonly contextTokens: number;
  readonly kvTokensPerWorker: number;
  readonly blockSizeTokens: number;
  readonly workers: ReadonlyArray<{ readonly role: WorkerRole; readonly count?: number }>;
  readonly gateway: { readonly host: string; readonly keys: readonly unknown[] };
}

/** Every impossible combination in a configuration; empty when it can run. */
export function findConflicts(config: Checked): Conflict[] {
  const conflicts = [...findSizeConflicts(config), ...findWorkerConflicts(config.workers)];
  const { host, keys } = config.gateway;
  if (keys.length === 0 && !isLoopback({ kind: "tcp", host, port: 0 })) {
    const message = `listening on ${host} needs API keys: add gateway.keys to the fleet file, set TWOFOLD_API_KEY, or listen on 127.0.0.1`;
    conflicts.push({ paths: [["gateway", "host"]], message });
  }
  return conflicts;
}

/** Sizes that a worker could not work with. */
export function findSizeConflicts(config: Omit<Checked, "workers" | "gateway">): Conflict[] {
  const { chunkTokens, maxRunning, contextTokens, kvTokensPerWorker, blockSizeTokens } = config;
  const conflicts: Conflict[] = [];
  if (chunkTokens <= maxRunning) {
    const message = `a step of ${chunkTokens} tokens has no room for prompts beside ${maxRunning} decoding requests; use a chunk of more than ${maxRunning} tokens or fewer running requests`;
    conflicts.push({ paths: [["chunkTokens"], ["maxRunning"]], message });
  }
  if (contextTokens > kvTokensPerWorker) {
    const message = `a context of ${contextTokens} tokens does not fit into KV for ${kvTokensPerWorker}; use a context of at most ${kvTokensPerWorker} tokens or more KV tokens`;
    conflicts.push({ paths: [["contextTokens"], ["kvTokensPerWorker"]], message });
  }
  if (kvTokensPerWorker % blockSizeTokens !== 0) {
    const message = `KV for ${kvTokensPerWorker} tokens is not a whole number of blocks of ${blockSizeTokens}; use ${Math.ceil(kvTokensPerWorker / blockSizeTokens) * blockSizeTokens}`;
    conflicts.push({ paths: [["kvTokensPerWorker"], ["blockSizeTokens"]], message });
  }
  return conflicts;
}

function findWorkerConflicts(workers: Checked["workers"]): Conflict[] {
  const paths: readonly ConfigPath[] = [["workers"]];
  const roles = new Set(workers.map((entry) => entry.role));
  const numLocal = workers.reduce((sum, entry) => sum + (entry.count ?? 0), 0);
  const conflicts: Conflict[] = [];
  if (roles.size === 0) {
    conflicts.push({
      paths,
      message: "there are no workers; add at least one of role both, or one prefill and one decode",
    });
  } else if (!roles.has("both") && !roles.has("prefill")) {
    const message =
      "there are decode workers and nothing that prefills; add a worker of role prefill or both";
    conflicts.push({ paths, message });
  } else if (!roles.has("both") && !roles.has("decode")) {
    const message = "there are prefill workers and nothing that decodes; add a worker of role decode or both";
    conflicts.push({ paths, message });
  }
  if (numLocal > MAX_LOCAL_WORKERS) {
    const message = `${numLocal} workers on one machine are more than ${MAX_LOCAL_WORKERS}; run some elsewhere with twofold worker`;
    conflicts.push({ paths, message });
  }
  return conflicts;
}
