import { createHash, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { z } from "zod";
import { formatAddress, parseAddress } from "../../protocol/address.ts";
import { ServingError } from "../../protocol/errors.ts";
import {
  decodeSubmission,
  epochSchema,
  MAX_SUBMISSION_BYTES,
  requestIdSchema,
} from "../../protocol/request-codec.ts";
import type { WorkerService } from "../../protocol/worker-rpc.ts";
import { listenOn } from "../transfer/listen.ts";
import { EventFeed } from "./event-feed.ts";

/** Limits of the RPC of one worker. */
export interface RpcServerLimits {
  /** Bytes of a submission; other bodies have {@link MAX_SMALL_BODY_BYTES}. */
  readonly maxBodyBytes: number;
  readonly maxConnections: number;
  readonly maxSubscribers: number;
  /** A subscriber with more than this unread is cut. Some seconds of a busy worker's tokens. */
  readonly maxBufferedBytes: number;
  /** A request that has not arrived whole by then is refused. */
  readonly requestTimeoutMs: number;
}

export const RPC_SERVER_LIMITS: RpcServerLimits = {
  maxBodyBytes: MAX_SUBMISSION_BYTES,
  maxConnections: 64,
  maxSubscribers: 8,
  maxBufferedBytes: 8 * 1024 * 1024,
  requestTimeoutMs: 30_000,
};

/** Tokens below 128 bits in hexadecimal can be guessed. */
export const MIN_TOKEN_LENGTH = 32;

/** Names the worker on an event stream, so that a gateway notices when another one has taken the address over. */
export const WORKER_ID_HEADER = "x-twofold-worker";

/** The event stream with what the worker reports of its caches, steps and transfers. */
export const REPORTS_PATH = "/v1/events?reports=1";

const MAX_SMALL_BODY_BYTES = 4096;
const MAX_HEADER_BYTES = 8192;
/** Longer than any pause in which a gateway keeps an idle connection, so that it is never closed under a request. */
const KEEP_ALIVE_MS = 120_000;

export interface RpcServerOptions {
  /** The bearer token that every route asks for, at least {@link MIN_TOKEN_LENGTH} characters. */
  readonly token: string;
  /** Answers `POST /v1/drain`: take no new requests, finish what runs. Without it the route does not exist. */
  readonly onDrain?: () => void;
  /** Told of failures that a gateway sees as `internal_error` only. */
  readonly onInternalError?: (error: unknown) => void;
  /** Permits TCP beyond this machine, where everybody on the way can read prompts and the token. */
  readonly allowPlaintext?: boolean;
  readonly limits?: Partial<RpcServerLimits>;
}

export interface RpcServer {
  /** Resolves with the actual address. Call it at most once. */
  listen(address: string): Promise<string>;
  /** Ends every event stream and stops listening. Idempotent. */
  close(): Promise<void>;
}

/**
 * The HTTP server through which a gateway uses a worker:
 *
 * ```
 *   GET  /v1/worker                 who the worker is (WorkerHello)
 *   POST /v1/requests               submit, see request-codec.ts; 204, or the error envelope
 *   POST /v1/requests/:id/cancel    {"epoch": n}; 204, also when there is nothing to cancel
 *   GET  /v1/events                 newline-delimited JSON, see event-codec.ts; with ?reports=1, the worker's reports too
 *   POST /v1/kv-snapshot            204; all who take reports are told what the caches hold
 *   POST /v1/drain                  204
 * ```
 *
 * Every route asks for the bearer token. Every error is the JSON envelope of a `ServingError`.
 */
export function createRpcServer(service: WorkerService, options: RpcServerOptions): RpcServer {
  if (options.token.length < MIN_TOKEN_LENGTH) {
    throw new RangeError(`the worker token must have at least ${MIN_TOKEN_LENGTH} characters`);
  }
  return new WorkerRpcServer(service, options);
}

class WorkerRpcServer implements RpcServer {
  readonly #service: WorkerService;
  readonly #options: RpcServerOptions;
  readonly #limits: RpcServerLimits;
  readonly #tokenDigest: Buffer;
  readonly #server: Server;
  #numSubscribers = 0;

  constructor(service: WorkerService, options: RpcServerOptions) {
    this.#service = service;
    this.#options = options;
    this.#limits = { ...RPC_SERVER_LIMITS, ...options.limits };
    this.#tokenDigest = digest(options.token);
    this.#server = createServer(
      {
        keepAliveTimeout: KEEP_ALIVE_MS,
        requestTimeout: this.#limits.requestTimeoutMs,
        headersTimeout: this.#limits.requestTimeoutMs,
        connectionsCheckingInterval: Math.min(this.#limits.requestTimeoutMs, 5000),
        maxHeaderSize: MAX_HEADER_BYTES,
      },
      (request, response) => void this.#serve(request, response),
    );
    this.#server.maxConnections = this.#limits.maxConnections;
  }

  async listen(address: string): Promise<string> {
    const allowPlaintext = this.#options.allowPlaintext ?? false;
    const actual = await listenOn(this.#server, parseAddress(address), { allowPlaintext });
    this.#server.on("error", (error) => this.#options.onInternalError?.(error));
    return formatAddress(actual);
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  /** Never rejects: whatever goes wrong becomes the answer, as far as there still is somebody to hear it. */
  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      this.#authenticate(request);
      await this.#route(request, response);
    } catch (error) {
      const failure = this.#toServingError(error);
      if (response.headersSent) {
        response.destroy();
        return;
      }
      // A body that was refused is not read to its end, so the connection cannot carry another request.
      const headers = request.complete ? {} : { connection: "close" };
      sendJson(response, failure.status, failure.toBody(), headers);
    }
  }

  #authenticate(request: IncomingMessage): void {
    const given = /^Bearer ([\x21-\x7e]+)$/i.exec(request.headers.authorization ?? "")?.[1] ?? "";
    // Digests have one length, so the comparison takes the same time whatever was given.
    if (timingSafeEqual(digest(given), this.#tokenDigest)) return;
    throw new ServingError("invalid_api_key", "this worker asks for the fleet's bearer token");
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? "";
    const cancelled = /^\/v1\/requests\/([^/?]+)\/cancel$/.exec(path)?.[1];
    if (path === "/v1/worker") {
      expectMethod(request, "GET");
      sendJson(response, 200, this.#service.hello());
    } else if (path === "/v1/events" || path === REPORTS_PATH) {
      expectMethod(request, "GET");
      this.#openFeed(response, path === REPORTS_PATH);
    } else if (path === "/v1/requests") {
      expectMethod(request, "POST");
      const submission = decodeSubmission(await readBody(request, this.#limits.maxBodyBytes));
      this.#service.submit(submission.request, submission.assignment);
      response.writeHead(204).end();
    } else if (cancelled !== undefined) {
      expectMethod(request, "POST");
      const requestId = requestIdSchema.safeParse(cancelled);
      const body = cancelSchema.safeParse(await readJson(request, MAX_SMALL_BODY_BYTES));
      if (!requestId.success)
        throw new ServingError("invalid_value", "the request id in the path is not valid");
      if (!body.success)
        throw new ServingError("invalid_value", 'the body must be {"epoch": n}', { param: "epoch" });
      this.#service.cancel(requestId.data, body.data.epoch);
      response.writeHead(204).end();
    } else if (path === "/v1/kv-snapshot") {
      expectMethod(request, "POST");
      this.#service.snapshotKv();
      response.writeHead(204).end();
    } else if (path === "/v1/drain" && this.#options.onDrain !== undefined) {
      expectMethod(request, "POST");
      this.#options.onDrain();
      response.writeHead(204).end();
    } else {
      throw new ServingError("not_found", "this worker has no such route");
    }
  }

  #openFeed(response: ServerResponse, reports: boolean): void {
    if (this.#numSubscribers >= this.#limits.maxSubscribers) {
      throw new ServingError(
        "queue_full",
        `this worker has ${this.#limits.maxSubscribers} subscribers already`,
      );
    }
    const feed = new EventFeed(response, this.#limits.maxBufferedBytes);
    const subscription = this.#service.subscribe((event) => feed.push(event), { reports });
    this.#numSubscribers++;
    response.once("close", () => {
      this.#numSubscribers--;
      feed.stop();
      subscription.unsubscribe();
    });
    response.writeHead(200, {
      "content-type": "application/x-ndjson",
      "cache-control": "no-store",
      [WORKER_ID_HEADER]: this.#service.hello().workerId,
    });
    // The gateway submits nothing before it has seen that events will reach it.
    response.flushHeaders();
  }

  #toServingError(error: unknown): ServingError {
    if (error instanceof ServingError) return error;
    this.#options.onInternalError?.(error);
    return new ServingError("internal_error", "the worker failed to handle the call; its log says why");
  }
}

const cancelSchema = z.strictObject({ epoch: epochSchema });

function digest(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

function expectMethod(request: IncomingMessage, method: string): void {
  if (request.method === method) return;
  throw new ServingError("method_not_allowed", `this route takes ${method}`);
}

async function readJson(request: IncomingMessage, maxBytes: number): Promise<unknown> {
  const body = await readBody(request, maxBytes);
  try {
    return JSON.parse(body.toString());
  } catch (error) {
    throw new ServingError("invalid_json", "the body is not valid JSON", { cause: error });
  }
}

async function readBody(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    // Leaving the loop early must not destroy the connection, or the refusal could not be sent.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > maxBytes) break;
      chunks.push(chunk);
    }
  } catch (error) {
    throw new ServingError("client_closed_request", "the connection broke during the request", {
      cause: error,
    });
  }
  if (bytes > maxBytes) throw new ServingError("request_too_large", `the body exceeds ${maxBytes} bytes`);
  return Buffer.concat(chunks);
}

function sendJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
}
