import { isIPv4 } from "node:net";
import type { Tokenizer } from "../engine/tokenizer.ts";
import type { Fleet } from "../fleet/fleet.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Registry } from "../telemetry/metrics.ts";
import type { ApiKey } from "./api-keys.ts";

/** Bounds on what a client can make the gateway hold or wait for. All are positive. */
export interface GatewayLimits {
  /** Largest request body. */
  readonly bodyBytes: number;
  /** Deepest nesting of arrays and objects in a body. */
  readonly jsonDepth: number;
  /** Longest prompt text after the chat template, in UTF-16 code units. */
  readonly promptChars: number;
  /** Requests that may be in progress at once; beyond it they are answered `queue_full`. */
  readonly inFlightRequests: number;
  readonly connections: number;
  readonly headerBytes: number;
  /** How long a stream's headers wait to learn the placement. An error that comes later is sent in the stream. */
  readonly placementWaitMs: number;
  /** A stream on which nothing else moves gets a comment this often. */
  readonly pingIntervalMs: number;
  /** Output kept for a client that does not read, in UTF-16 code units; beyond it the stream is cut. */
  readonly pendingStreamChars: number;
  /** How long a client may read nothing while output waits for it. */
  readonly slowReaderMs: number;
  /** How long one request may take altogether. */
  readonly generationMs: number;
  /** How long `close()` lets requests finish. */
  readonly drainMs: number;
  /** How long `close()` waits, after that, for the error to reach the clients. */
  readonly drainFlushMs: number;
  /** How long an idle connection is kept: longer than the usual idle time of load balancers, which is 60 s. */
  readonly keepAliveMs: number;
  /** How long a client may take to send the headers, and the whole request. */
  readonly headersMs: number;
  readonly requestMs: number;
}

export const DEFAULT_LIMITS: GatewayLimits = {
  bodyBytes: 4 * 1024 * 1024,
  jsonDepth: 64,
  promptChars: 4 * 1024 * 1024,
  inFlightRequests: 1024,
  connections: 4096,
  headerBytes: 16 * 1024,
  placementWaitMs: 250,
  pingIntervalMs: 10_000,
  pendingStreamChars: 1024 * 1024,
  slowReaderMs: 60_000,
  generationMs: 3_600_000,
  drainMs: 30_000,
  drainFlushMs: 1000,
  keepAliveMs: 75_000,
  headersMs: 20_000,
  requestMs: 120_000,
};

export interface GatewayOptions {
  readonly fleet: Fleet;
  readonly tokenizer: Tokenizer;
  /** The name under which the model is served, and other names that clients may use for it. */
  readonly modelName: string;
  readonly modelAliases?: readonly string[];
  /** Without keys everybody is the same tenant, and only a loopback address may be bound. */
  readonly apiKeys?: readonly ApiKey[];
  /** Key from which each tenant's cache salt is derived; at least 16 bytes. */
  readonly cacheSecret: Buffer;
  /** The most of a worker's prefix cache that a tenant's unused blocks may take, by tenant, in [0, 1]; all of it for others. */
  readonly cacheShares?: ReadonlyMap<string, number>;
  /** System messages whose beginnings of prompts all tenants share in the prefix cache. */
  readonly publicPrefixes?: readonly string[];
  /** Memory for texts, tokens and block hashes of earlier prompts; 0 keeps none. Default 256 MiB. */
  readonly conversationBytes?: number;
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  readonly logger: Logger;
  readonly limits?: Partial<GatewayLimits>;
  /** Registers further collectors, for instance those of the fleet. Called once. */
  readonly extraMetrics?: (registry: Registry) => void;
  /** Whether `/metrics` has the process's own series; default true. */
  readonly processMetrics?: boolean;
}

/** A configuration that cannot be served; the message says what to change. */
export class GatewayConfigError extends Error {
  override name = "GatewayConfigError";
}

/** Whether only this machine can reach the address. */
export function isLoopbackHost(host: string): boolean {
  return (
    host === "localhost" || host === "::1" || host === "[::1]" || (isIPv4(host) && host.startsWith("127."))
  );
}

/** The shortest secret that cannot be guessed: 128 bits. */
const MIN_SECRET_BYTES = 16;

/** Node's longest timer, almost 25 days. It fires a longer one at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** @throws GatewayConfigError when the options are not safe or not sensible to serve with */
export function checkOptions(options: GatewayOptions): void {
  const hasKeys = (options.apiKeys?.length ?? 0) > 0;
  if (!isLoopbackHost(options.host) && !hasKeys)
    throw new GatewayConfigError(
      `Refusing to listen on ${options.host} without API keys: anyone on the network could use this server. ` +
        "Configure at least one key, or listen on 127.0.0.1.",
    );
  if (options.cacheSecret.length < MIN_SECRET_BYTES)
    throw new GatewayConfigError(
      `The cache secret has ${options.cacheSecret.length} bytes; it needs at least ${MIN_SECRET_BYTES}.`,
    );
  for (const [name, value] of Object.entries(options.limits ?? {})) {
    if (!(value > 0)) throw new GatewayConfigError(`The limit ${name} is ${value}; it must be positive.`);
    if (name.endsWith("Ms") && value > MAX_TIMER_MS)
      throw new GatewayConfigError(`The limit ${name} is ${value}; it can be at most ${MAX_TIMER_MS} ms.`);
  }
}
