import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { ServingError } from "../../protocol/errors.ts";
import type { GatewayContext } from "./context.ts";
import { unsupportedMediaType } from "./errors.ts";
import { DECISIONS_ROUTE, PROBE_PATHS } from "./info-routes.ts";
import { finishRecord } from "./lifecycle.ts";
import { createRequestRecord, type RequestRecord } from "./request-record.ts";

/** What answers while the gateway drains: an operator watches it with that. */
function isOperatorPath(path: string): boolean {
  return path === "/metrics" || path.startsWith("/admin/");
}

/** Checks every request before its body is read. Must be installed before the routes, whose methods it notes. */
export function installGuards(app: FastifyInstance, context: GatewayContext): void {
  const methodsByPath = new Map<string, Set<string>>();
  app.addHook("onRoute", (route) => {
    const methods = methodsByPath.get(route.url) ?? new Set();
    for (const method of [route.method].flat()) methods.add(method);
    methodsByPath.set(route.url, methods);
  });
  app.decorateRequest("record", null);
  app.addHook("onRequest", (request, reply, done) => {
    const record = createRequestRecord(request.headers["x-request-id"]);
    request.record = record;
    context.inFlight.add(record);
    const { socket } = request.raw;
    context.exchanges.set(socket, { record, response: reply.raw });
    reply.header("x-request-id", record.id);
    reply.raw.on("error", (error) =>
      context.logger.debug({ err: error, requestId: record.id }, "connection failed"),
    );
    // Node says "finish" also when the connection broke and what was left to write was thrown away.
    reply.raw.once("finish", () => {
      record.isAnswered = !socket.destroyed;
    });
    reply.raw.once("close", () => finishRecord(context, record, request, reply.raw));
    try {
      checkRequest(context, record, request, reply, methodsByPath);
      done();
    } catch (error) {
      done(error instanceof Error ? error : new Error(String(error)));
    }
  });
}

function checkRequest(
  context: GatewayContext,
  record: RequestRecord,
  request: FastifyRequest,
  reply: FastifyReply,
  methodsByPath: ReadonlyMap<string, ReadonlySet<string>>,
): void {
  const path = request.url.split("?", 1)[0] ?? "";
  const isProbe = PROBE_PATHS.has(path);
  checkHost(context, request);
  record.tenant = context.authenticator.authenticate(request.headers.authorization);
  if (record.tenant === null && !isProbe)
    throw new ServingError("invalid_api_key", "Send a valid API key as 'Authorization: Bearer KEY'.");
  if (Number(request.headers["x-stainless-retry-count"]) > 0) context.metrics.clientRetries.inc();
  if (request.is404) throw routeError(request, reply, path, methodsByPath);
  if (isProbe || isOperatorPath(path)) return;
  if (context.isDraining)
    throw new ServingError("draining", "The server is shutting down; try another or later.");
  if (context.inFlight.size > context.limits.inFlightRequests)
    throw new ServingError("queue_full", "Too many requests are in progress; try again shortly.");
  if (request.method === "POST") checkMediaType(request);
}

/** 405 when the path exists with other methods, else 404. */
function routeError(
  request: FastifyRequest,
  reply: FastifyReply,
  path: string,
  methodsByPath: ReadonlyMap<string, ReadonlySet<string>>,
): ServingError {
  const known = methodsByPath.get(routeOf(path));
  const maxChars = 200;
  if (known === undefined)
    return new ServingError("not_found", `There is nothing at ${path.slice(0, maxChars)}.`);
  const allowed = [...known].join(", ");
  reply.header("allow", allowed);
  return new ServingError("method_not_allowed", `${request.method} is not allowed here; use ${allowed}.`);
}

/** The route that a path would belong to. */
function routeOf(path: string): string {
  if (path.startsWith("/v1/models/")) return "/v1/models/*";
  return /^\/admin\/decisions\/[^/]+$/.test(path) ? DECISIONS_ROUTE : path;
}

/**
 * On a loopback address a page in the user's browser could reach the server under a name of its own that resolves to
 * 127.0.0.1 (DNS rebinding). Such a request carries that name as its host.
 */
function checkHost(context: GatewayContext, request: FastifyRequest): void {
  if (!context.isLoopback) return;
  const name = (request.headers.host ?? "").replace(/:\d{1,5}$/, "").toLowerCase();
  if (["localhost", "127.0.0.1", "[::1]", context.host].includes(name)) return;
  throw new ServingError("invalid_host", "This server answers only to localhost, 127.0.0.1 and [::1].");
}

/** JSON, or nothing said at all. A body in another form is refused unread. */
function checkMediaType(request: FastifyRequest): void {
  const encoding = request.headers["content-encoding"];
  if (encoding !== undefined && encoding !== "identity")
    throw new ServingError("unsupported_media_type", "Send the request body without Content-Encoding.");
  const header = request.headers["content-type"];
  if (header === undefined) return;
  const [type = "", ...parameters] = header
    .toLowerCase()
    .split(";")
    .map((part) => part.trim());
  const isUtf8 = parameters.every(
    (part) => !part.startsWith("charset=") || /^charset="?utf-?8"?$/.test(part),
  );
  if (!isUtf8 || !/^application\/([\w.-]+\+)?json$/.test(type)) throw unsupportedMediaType();
}
