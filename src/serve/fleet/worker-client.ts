import {
  Agent,
  type ClientRequest,
  request as httpRequest,
  type IncomingMessage,
  type RequestOptions,
} from "node:http";
import { z } from "zod";
import type { Request, RequestId } from "../../core/request.ts";
import { type Address, parseAddress } from "../../protocol/address.ts";
import { ERRORS, type ErrorCode, ServingError } from "../../protocol/errors.ts";
import { decodeEvent, MAX_EVENT_LINE_BYTES } from "../../protocol/event-codec.ts";
import { encodeSubmission } from "../../protocol/request-codec.ts";
import { HelloError, parseHello } from "../../protocol/worker-hello.ts";
import type { Assignment, WorkerEvent, WorkerHello } from "../../protocol/worker-rpc.ts";
import { checkPlaintext } from "../transfer/listen.ts";
import { SilenceWatch } from "../transfer/silence-watch.ts";
import { SYSTEM_TIMERS, type Timers } from "../transfer/timers.ts";
import { REPORTS_PATH, WORKER_ID_HEADER } from "../worker/rpc-server.ts";
import { EventLines } from "./event-lines.ts";

export interface WorkerClientLimits {
  /** An event stream without a byte for longer than this is lost; heartbeats are due every second. */
  readonly silenceLimitMs: number;
  /** A call that has not been answered by then fails. */
  readonly callTimeoutMs: number;
  /** Connections for calls, besides the event stream's. More calls wait their turn. */
  readonly maxConnections: number;
  readonly maxResponseBytes: number;
}

export const WORKER_CLIENT_LIMITS: WorkerClientLimits = {
  silenceLimitMs: 5000,
  callTimeoutMs: 10_000,
  maxConnections: 8,
  maxResponseBytes: 256 * 1024,
};

const SILENCE_CHECKS_PER_LIMIT = 5;

export interface WorkerClientOptions {
  /** `unix:/path` or `tcp:host:port`. */
  readonly address: string;
  readonly token: string;
  /** Called for every event, in order. Not before `connectWorker` has resolved. */
  readonly onEvent: (event: WorkerEvent) => void;
  /** Called at most once, and not after `close`: no more events will come. */
  readonly onLost: (reason: string) => void;
  /** Whether the worker is to report its caches, steps and transfers. Default: not. */
  readonly reports?: boolean;
  readonly allowPlaintext?: boolean;
  readonly timers?: Timers;
  readonly limits?: Partial<WorkerClientLimits>;
}

/** A worker as its gateway sees it. */
export interface WorkerClient {
  readonly hello: WorkerHello;
  /** Rejects with the worker's `ServingError`, or `worker_lost` when the worker's answer is not known. */
  submit(request: Request, assignment: Assignment): Promise<void>;
  /** Takes effect after the submit of the same id, if that is under way. Rejects like `submit`. */
  cancel(requestId: RequestId, epoch: number): Promise<void>;
  /** Asks the worker to take no new requests. Rejects like `submit`. */
  drain(): Promise<void>;
  /** Asks the worker to tell what its caches hold. Rejects like `submit`. */
  snapshotKv(): Promise<void>;
  /** Ends the event stream, upon which the worker drops this gateway's requests. Calls under way reject. */
  close(): void;
}

/** A worker that cannot be used; the message says why. */
export class WorkerConnectError extends Error {
  override name = "WorkerConnectError";
  readonly code: "unreachable" | "unauthorized" | "incompatible";

  constructor(code: WorkerConnectError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/**
 * Connects to a worker: asks who it is, then opens its event stream. Rejects with {@link WorkerConnectError}, or
 * `AddressError` when the address is not usable.
 */
export async function connectWorker(options: WorkerClientOptions): Promise<WorkerClient> {
  const address = parseAddress(options.address);
  checkPlaintext(address, options.allowPlaintext ?? false);
  const client = new HttpWorkerClient(options, address);
  try {
    await client.open();
  } catch (error) {
    client.close();
    throw toConnectError(error, options.address);
  }
  return client;
}

/** `node:http` rather than a faster client: per line of the event stream it measured the least CPU of those at hand. */
class HttpWorkerClient implements WorkerClient {
  readonly #options: WorkerClientOptions;
  readonly #limits: WorkerClientLimits;
  readonly #timers: Timers;
  readonly #target: RequestOptions;
  readonly #agent: Agent;
  /** The last submit under way of an id. */
  readonly #submits = new Map<RequestId, Promise<void>>();
  #hello: WorkerHello | null = null;
  #stream: { readonly request: ClientRequest; readonly watch: SilenceWatch } | null = null;
  #isOpen = true;

  constructor(options: WorkerClientOptions, address: Address) {
    this.#options = options;
    this.#limits = { ...WORKER_CLIENT_LIMITS, ...options.limits };
    this.#timers = options.timers ?? SYSTEM_TIMERS;
    this.#agent = new Agent({ keepAlive: true, maxSockets: this.#limits.maxConnections, scheduling: "fifo" });
    this.#target =
      address.kind === "unix" ? { socketPath: address.path } : { host: address.host, port: address.port };
  }

  get hello(): WorkerHello {
    if (this.#hello === null) throw new ServingError("worker_lost", "the worker has not said who it is");
    return this.#hello;
  }

  async open(): Promise<void> {
    this.#hello = parseHello(await this.#call("GET", "/v1/worker"));
    await this.#openStream(this.#hello);
  }

  submit(request: Request, assignment: Assignment): Promise<void> {
    const submitted = this.#call("POST", "/v1/requests", encodeSubmission(request, assignment)).then(
      () => undefined,
    );
    const earlier = this.#submits.get(request.id);
    const settled = Promise.allSettled(earlier === undefined ? [submitted] : [earlier, submitted]).then(
      () => {
        if (this.#submits.get(request.id) === settled) this.#submits.delete(request.id);
      },
    );
    this.#submits.set(request.id, settled);
    return submitted;
  }

  async cancel(requestId: RequestId, epoch: number): Promise<void> {
    await this.#submits.get(requestId);
    await this.#call("POST", `/v1/requests/${encodeURIComponent(requestId)}/cancel`, [
      Buffer.from(JSON.stringify({ epoch })),
    ]);
  }

  async drain(): Promise<void> {
    await this.#call("POST", "/v1/drain", [Buffer.from("{}")]);
  }

  async snapshotKv(): Promise<void> {
    await this.#call("POST", "/v1/kv-snapshot", [Buffer.from("{}")]);
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#stream?.watch.stop();
    this.#stream?.request.destroy();
    this.#agent.destroy();
  }

  #lose(reason: string): void {
    if (!this.#isOpen) return;
    this.close();
    this.#options.onLost(reason);
  }

  #request(method: string, path: string, agent: Agent | false, body?: readonly Buffer[]): ClientRequest {
    return httpRequest({
      ...this.#target,
      agent,
      method,
      path,
      headers: {
        authorization: `Bearer ${this.#options.token}`,
        ...(body === undefined ? {} : { "content-length": body.reduce((sum, part) => sum + part.length, 0) }),
      },
    });
  }

  /** Sends a call and resolves with the parsed body of a good answer. */
  #call(method: string, path: string, body?: readonly Buffer[]): Promise<unknown> {
    if (!this.#isOpen)
      return Promise.reject(new ServingError("worker_lost", "the connection to the worker is closed"));
    const { promise, resolve, reject } = settleable<unknown>();
    const request = this.#request(method, path, this.#agent, body);
    const { callTimeoutMs, maxResponseBytes } = this.#limits;
    const timer = this.#timers.after(callTimeoutMs, () => {
      request.destroy(new Error(`no answer after ${callTimeoutMs} ms`));
    });
    const fail = (error: Error) => {
      timer.cancel();
      reject(
        new ServingError("worker_lost", `the worker did not answer: ${error.message}`, { cause: error }),
      );
    };
    request.on("error", fail);
    request.on("response", (response) => {
      readBody(response, maxResponseBytes, fail, (text) => {
        timer.cancel();
        settleCall(response.statusCode ?? 0, text, resolve, reject);
      });
    });
    // Corked, so that a small body goes out with its headers.
    request.cork();
    for (const part of body ?? []) request.write(part);
    request.end();
    return promise;
  }

  #openStream(hello: WorkerHello): Promise<void> {
    const { promise, resolve, reject } = settleable<void>();
    const path = this.#options.reports === true ? REPORTS_PATH : "/v1/events";
    const request = this.#request("GET", path, false);
    const timer = this.#timers.after(this.#limits.callTimeoutMs, () => {
      request.destroy(new Error("the event stream did not open in time"));
    });
    // Once the stream is open its loss is reported; before, `open` rejects.
    const fail = (error: Error) => {
      timer.cancel();
      reject(new ServingError("worker_lost", `no event stream: ${error.message}`, { cause: error }));
      if (this.#stream !== null) this.#lose(`the event stream broke: ${error.message}`);
    };
    request.on("error", fail);
    request.on("response", (response) => {
      if (response.statusCode !== 200) {
        readBody(response, this.#limits.maxResponseBytes, fail, (text) => {
          timer.cancel();
          settleCall(response.statusCode ?? 0, text, () => fail(new Error("unexpected answer")), reject);
        });
        return;
      }
      if (response.headers[WORKER_ID_HEADER] !== hello.workerId) {
        request.destroy(new Error("another worker has taken the address over"));
        return;
      }
      timer.cancel();
      this.#stream = { request, watch: this.#watchSilence() };
      resolve();
      // Whoever awaits the connection has the client before the first event.
      setImmediate(() => this.#readEvents(response));
    });
    request.end();
    return promise;
  }

  #watchSilence(): SilenceWatch {
    const limitMs = this.#limits.silenceLimitMs;
    return new SilenceWatch({
      timers: this.#timers,
      limitMs,
      checkIntervalMs: limitMs / SILENCE_CHECKS_PER_LIMIT,
      onSilent: (silentMs) => this.#lose(`no heartbeat for ${Math.round(silentMs)} ms`),
    });
  }

  #readEvents(response: IncomingMessage): void {
    if (response.destroyed) {
      this.#lose("the worker closed the event stream");
      return;
    }
    const lines = new EventLines(MAX_EVENT_LINE_BYTES);
    response.on("data", (chunk: Buffer) => {
      this.#stream?.watch.heard();
      try {
        for (const line of lines.push(chunk)) {
          if (!this.#isOpen) return;
          this.#options.onEvent(decodeEvent(line));
        }
      } catch (error) {
        this.#lose(
          `an event could not be handled: ${error instanceof Error ? error.message : String(error)}`,
        );
      }
    });
    response.on("error", (error) => this.#lose(`the event stream broke: ${error.message}`));
    response.on("close", () => this.#lose("the worker closed the event stream"));
  }
}

const errorBodySchema = z.object({
  error: z.object({
    message: z.string().max(4096),
    param: z.string().max(512).nullable(),
    code: z.enum(Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]]),
  }),
});

/** Turns the answer to a call into its result: any 2xx is good, anything else should be an error envelope. */
function settleCall(
  status: number,
  text: string,
  resolve: (body: unknown) => void,
  reject: (error: ServingError) => void,
): void {
  let body: unknown;
  try {
    body = text === "" ? null : JSON.parse(text);
  } catch (error) {
    reject(new ServingError("worker_lost", `the worker answered ${status} without JSON`, { cause: error }));
    return;
  }
  if (status >= 200 && status < 300) {
    resolve(body);
    return;
  }
  const envelope = errorBodySchema.safeParse(body);
  if (!envelope.success) {
    reject(
      new ServingError("worker_lost", `the worker answered ${status} without an error that can be read`),
    );
    return;
  }
  const { code, message, param } = envelope.data.error;
  reject(new ServingError(code, message, param === null ? {} : { param }));
}

/** Reads a bounded body to its end. Exactly one of the callbacks is called. */
function readBody(
  response: IncomingMessage,
  maxBytes: number,
  onFailure: (error: Error) => void,
  onText: (text: string) => void,
): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  response.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    chunks.push(chunk);
    if (bytes > maxBytes) response.destroy(new Error(`the answer exceeds ${maxBytes} bytes`));
  });
  response.once("error", onFailure);
  response.once("end", () => onText(Buffer.concat(chunks).toString()));
}

function toConnectError(error: unknown, address: string): unknown {
  if (error instanceof HelloError) {
    return new WorkerConnectError("incompatible", `worker at ${address}: ${error.message}`, { cause: error });
  }
  if (!(error instanceof ServingError)) return error;
  const code = error.code === "invalid_api_key" ? "unauthorized" : "unreachable";
  return new WorkerConnectError(code, `worker at ${address}: ${error.message}`, { cause: error });
}

function settleable<T>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: ServingError) => void;
} {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: ServingError) => void = () => undefined;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
