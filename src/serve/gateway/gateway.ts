import type { AddressInfo, Socket } from "node:net";
import { type FastifyInstance, fastify } from "fastify";
import { chainHasherOf } from "../conversations/chain-hasher.ts";
import { Conversations } from "../conversations/conversations.ts";
import { MAX_PUBLIC_PREFIX_TOKENS, PublicPrefixes } from "../conversations/public-prefixes.ts";
import { createGatewayMetrics, type Registry } from "../telemetry/metrics.ts";
import { createAuthenticator, publicCacheSalt } from "./api-keys.ts";
import { type ChatTemplate, createChatTemplate } from "./chat-template.ts";
import { registerCompletionRoutes } from "./completion-routes.ts";
import type { GatewayContext } from "./context.ts";
import { TokenTexts } from "./detokenizer.ts";
import { connectionError, sendConnectionError, sendError, toServingError } from "./errors.ts";
import { FlushQueue } from "./flush-queue.ts";
import { installGuards } from "./guards.ts";
import { registerInfoRoutes } from "./info-routes.ts";
import { parseJsonBody } from "./json-body.ts";
import { drain, NO_ROUTE } from "./lifecycle.ts";
import {
  checkOptions,
  DEFAULT_LIMITS,
  GatewayConfigError,
  type GatewayOptions,
  isLoopbackHost,
} from "./options.ts";
import type { RequestRecord } from "./request-record.ts";

/** The OpenAI-compatible HTTP edge of a fleet. */
export interface Gateway {
  /**
   * Begins to accept connections.
   *
   * @returns the base URL, with the port that was taken
   * @throws GatewayConfigError when the address cannot be bound
   */
  listen(): Promise<{ url: string }>;
  /**
   * Refuses new requests, lets those in progress finish within `limits.drainMs`, fails the rest and closes every connection.
   * The fleet and the tokenizer stay open: they belong to the caller. Idempotent.
   */
  close(): Promise<void>;
  readonly app: FastifyInstance;
  readonly registry: Registry;
}

/**
 * Builds a gateway; it accepts connections after `listen()`.
 *
 * @throws GatewayConfigError when the options are not safe or not sensible to serve with
 */
export async function createGateway(options: GatewayOptions): Promise<Gateway> {
  checkOptions(options);
  const context = await createContext(options);
  options.extraMetrics?.(context.metrics.registry);
  const app = createApp(context);
  installGuards(app, context);
  registerCompletionRoutes(app, context);
  registerInfoRoutes(app, context);
  await app.ready();
  const close = async () => {
    const isComplete = await drain(context);
    if (!isComplete) context.logger.warn("closed before every request had finished");
    await app.close();
  };
  let closing: Promise<void> | undefined;
  return {
    app,
    registry: context.metrics.registry,
    listen: () => listen(app, options),
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

async function createContext(options: GatewayOptions): Promise<GatewayContext> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const inFlight = new Set<RequestRecord>();
  const conversationBytes = options.conversationBytes ?? DEFAULT_CONVERSATION_BYTES;
  const template = createChatTemplate(options.tokenizer, {
    maxChars: limits.promptChars,
    keptBytes: conversationBytes * RENDERED_SHARE,
  });
  const chains = chainHasherOf(options.fleet, await openPublicPrefixes(options, template));
  return {
    fleet: options.fleet,
    tokenizer: options.tokenizer,
    texts: new TokenTexts(options.tokenizer),
    template,
    chains,
    conversations: new Conversations({
      tokenizer: options.tokenizer,
      chains,
      maxBytes: conversationBytes * (1 - RENDERED_SHARE),
    }),
    authenticator: createAuthenticator(options.apiKeys ?? [], options.cacheSecret, options.cacheShares),
    limits,
    metrics: createGatewayMetrics({
      inFlight: () => inFlight.size,
      workers: () => options.fleet.workers(),
      includeProcess: options.processMetrics ?? true,
    }),
    logger: options.logger,
    flushQueue: new FlushQueue(),
    modelNames: [options.modelName, ...(options.modelAliases ?? [])],
    createdSeconds: Math.floor(Date.now() / 1000),
    isLoopback: isLoopbackHost(options.host),
    host: options.host.toLowerCase(),
    inFlight,
    exchanges: new WeakMap(),
    isDraining: false,
  };
}

/** @throws GatewayConfigError when the chat template does not take a system message, or one is too long to be of use */
async function openPublicPrefixes(
  options: GatewayOptions,
  template: ChatTemplate,
): Promise<PublicPrefixes | null> {
  const { publicPrefixes = [], tokenizer, cacheSecret, fleet } = options;
  if (publicPrefixes.length === 0) return null;
  const salt = publicCacheSalt(cacheSecret);
  let opened: PublicPrefixes;
  try {
    opened = await PublicPrefixes.open(publicPrefixes, {
      salt,
      tokenizer,
      render: (messages) => template.render({ messages: [...messages] }, salt).text(),
    });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new GatewayConfigError(`A public prefix cannot be the system message of a conversation: ${why}`, {
      cause,
    });
  }
  for (const [i, length] of opened.lengths.entries()) {
    const which = `Number ${i + 1} of the public prefixes has ${length} tokens`;
    if (length >= fleet.contextTokens)
      throw new GatewayConfigError(
        `${which}, and the context of a request ${fleet.contextTokens}: no conversation could begin with it. Shorten it, or raise contextTokens.`,
      );
    if (length > MAX_PUBLIC_PREFIX_TOKENS)
      throw new GatewayConfigError(
        `${which}; at most ${MAX_PUBLIC_PREFIX_TOKENS} are allowed. Shorten it: what follows is still cached, per tenant.`,
      );
  }
  return opened;
}

/** A hundred conversations of 100,000 tokens, about. */
const DEFAULT_CONVERSATION_BYTES = 256 * 1024 * 1024;
/** Part of it for messages and their rendered texts; the rest is for prompts and their tokens. */
const RENDERED_SHARE = 0.5;
/** How often Node looks for connections that take too long to send a request. */
const CONNECTION_CHECK_MS = 1000;
/** Longest path parameter, that is, model name. */
const MAX_PARAM_CHARS = 256;

function createApp(context: GatewayContext): FastifyInstance {
  const { limits, logger } = context;
  const app = fastify({
    logger: false,
    bodyLimit: limits.bodyBytes,
    keepAliveTimeout: limits.keepAliveMs,
    requestTimeout: limits.requestMs,
    forceCloseConnections: true,
    return503OnClosing: false,
    routerOptions: { maxParamLength: MAX_PARAM_CHARS },
    http: {
      maxHeaderSize: limits.headerBytes,
      headersTimeout: Math.min(limits.headersMs, limits.requestMs),
      connectionsCheckingInterval: CONNECTION_CHECK_MS,
      // A missing host is answered by our own check, in our own form.
      requireHostHeader: false,
    },
    frameworkErrors: (error, request, reply) => {
      countUnrouted(context, toServingError(error).status);
      sendError(error, request, reply, logger);
    },
    clientErrorHandler: (error, socket) => answerClientError(context, error, socket),
  });
  app.server.maxConnections = limits.connections;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => {
    try {
      done(null, parseJsonBody(Buffer.isBuffer(body) ? body : Buffer.from(body), limits.jsonDepth));
    } catch (error) {
      done(error instanceof Error ? error : new Error(String(error)));
    }
  });
  app.setErrorHandler((error, request, reply) => sendError(error, request, reply, logger));
  app.addHook("onSend", async (request, reply, payload) => {
    const { record } = request;
    if (record != null && !record.isClosed)
      record.answerTimer = setTimeout(() => reply.raw.destroy(), limits.slowReaderMs);
    return payload;
  });
  return app;
}

/** A connection whose bytes are no request. While an answer is under way on it, another one would only corrupt that. */
function answerClientError(context: GatewayContext, error: Error, socket: Socket): void {
  const exchange = context.exchanges.get(socket);
  const isAnswering = exchange?.response.headersSent === true && !exchange.response.writableFinished;
  if (Reflect.get(error, "code") === "ECONNRESET" || !socket.writable || isAnswering) {
    socket.destroy();
    return;
  }
  const known = connectionError(error);
  // A request whose body did not arrive has a record; its log line should say what the client was told.
  if (exchange !== undefined && !exchange.record.isClosed) {
    exchange.record.status = known.status;
    exchange.record.errorCode = known.code;
  } else countUnrouted(context, known.status);
  sendConnectionError(known, socket);
}

/** Counts an answer to something that never became a request with a record of its own. */
function countUnrouted(context: GatewayContext, status: number): void {
  context.metrics.requests.inc({ endpoint: NO_ROUTE, status: String(status) });
}

async function listen(app: FastifyInstance, options: GatewayOptions): Promise<{ url: string }> {
  const host = options.host.replace(/^\[(.*)\]$/, "$1");
  try {
    await app.listen({ host, port: options.port });
  } catch (cause) {
    const code = cause instanceof Error ? Reflect.get(cause, "code") : undefined;
    const why =
      code === "EADDRINUSE"
        ? "is already in use; stop the other program or choose another port"
        : `cannot be bound (${String(code)})`;
    throw new GatewayConfigError(`Port ${options.port} on ${host} ${why}.`, { cause });
  }
  const { port } = app.server.address() as AddressInfo;
  return { url: `http://${host.includes(":") ? `[${host}]` : host}:${port}` };
}
