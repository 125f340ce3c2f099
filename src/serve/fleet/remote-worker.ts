import type { WorkerId, WorkerRole } from "../../core/request.ts";
import { HelloError } from "../../protocol/worker-hello.ts";
import type { WorkerHello } from "../../protocol/worker-rpc.ts";
import type { Logger } from "../telemetry/logger.ts";
import { connectWorker, WorkerConnectError } from "./worker-client.ts";
import type { WorkerFleet } from "./worker-fleet.ts";

/** Pause before a worker that could not be reached is tried again. */
const RECONNECT_MS = 1000;

/** What a worker must agree on before it may join. */
export interface FleetIdentity {
  readonly tokenizerId: string;
  readonly contextTokens: number;
  /** Set by the first worker that joins: KV can only pass between workers of one model, layout and block size. */
  kv: { readonly modelId: string; readonly kvType: string; readonly blockSizeTokens: number } | null;
}

/** A worker answered, but can't be part of this fleet. */
export class WorkerMismatchError extends Error {
  override name = "WorkerMismatchError";
  readonly code = "worker_mismatch";
}

export interface JoinOptions {
  readonly fleet: WorkerFleet;
  readonly identity: FleetIdentity;
  readonly address: string;
  readonly kvAddress: string | null;
  readonly token: string;
  readonly allowPlaintext?: boolean;
  readonly onLost: (id: WorkerId) => void;
}

/**
 * Connects to a worker that listens, checks that it fits, and adds it to the fleet.
 *
 * @throws WorkerMismatchError with every difference, {@link WorkerConnectError} when it can't be reached
 */
export async function joinFleet(options: JoinOptions): Promise<WorkerHello> {
  const { fleet, identity } = options;
  let id: WorkerId | null = null;
  const client = await connectWorker({
    address: options.address,
    token: options.token,
    allowPlaintext: options.allowPlaintext ?? false,
    reports: fleet.takesReports,
    onEvent: (event) => {
      if (id !== null) fleet.onWorkerEvent(id, event);
    },
    onLost: (reason) => {
      if (id === null) return;
      fleet.removeWorker(id, reason);
      options.onLost(id);
    },
  });
  const problems = differences(identity, client.hello);
  if (problems.length > 0) {
    client.close();
    throw new WorkerMismatchError(
      `worker at ${options.address} does not fit this fleet: ${problems.join("; ")}`,
    );
  }
  const { engine, blockSizeTokens, workerId } = client.hello;
  identity.kv ??= { modelId: engine.modelId, kvType: engine.kvType, blockSizeTokens };
  id = workerId;
  fleet.addWorker(client.hello, client, options.kvAddress ?? client.hello.kvAddress);
  return client.hello;
}

function differences(identity: FleetIdentity, hello: WorkerHello): string[] {
  const { engine } = hello;
  const compared: Array<readonly [string, string | number, string | number]> = [
    ["tokenizer", identity.tokenizerId, engine.tokenizerId],
  ];
  if (identity.kv !== null) {
    compared.push(["model", identity.kv.modelId, engine.modelId]);
    compared.push(["KV type", identity.kv.kvType, engine.kvType]);
    compared.push(["block size", identity.kv.blockSizeTokens, hello.blockSizeTokens]);
  }
  const problems = compared
    .filter(([, ours, theirs]) => ours !== theirs)
    .map(([what, ours, theirs]) => `${what} is ${theirs}, the fleet's is ${ours}`);
  if (hello.contextTokens < identity.contextTokens) {
    problems.push(`context is ${hello.contextTokens} tokens, the fleet's is ${identity.contextTokens}`);
  }
  return problems;
}

/** Keeps a worker on another machine in the fleet: connects, and connects again whenever it comes back. */
export class RemoteWorker {
  readonly #options: Omit<JoinOptions, "onLost">;
  readonly #role: WorkerRole;
  readonly #logger: Logger;
  #timer: NodeJS.Timeout | null = null;
  #isClosed = false;
  #lastProblem = "";

  constructor(options: Omit<JoinOptions, "onLost">, role: WorkerRole, logger: Logger) {
    this.#options = options;
    this.#role = role;
    this.#logger = logger;
  }

  /** Tries once now, and from then on again whenever there is no connection. */
  async start(): Promise<void> {
    try {
      const hello = await joinFleet({ ...this.#options, onLost: () => this.#retry() });
      this.#lastProblem = "";
      if (hello.role !== this.#role) {
        const { address } = this.#options;
        this.#logger.warn(
          { address, role: hello.role, configured: this.#role },
          "worker has another role than configured",
        );
      }
    } catch (error) {
      if (
        !(
          error instanceof WorkerConnectError ||
          error instanceof WorkerMismatchError ||
          error instanceof HelloError
        )
      ) {
        throw error;
      }
      // The same problem every second would drown the log.
      if (error.message !== this.#lastProblem)
        this.#logger.warn({ problem: error.message }, "worker can't join yet");
      this.#lastProblem = error.message;
      this.#retry();
    }
  }

  close(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #retry(): void {
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => void this.start(), RECONNECT_MS);
  }
}
