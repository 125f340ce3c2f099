import { randomInt } from "node:crypto";
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import type { FastifyReply, FastifyRequest } from "fastify";
import { ERRORS, ServingError } from "../../protocol/errors.ts";
import type { Logger } from "../telemetry/logger.ts";
import { mintId } from "./request-record.ts";

/** Added at random to a retry delay, so that clients that were refused together do not come back together. */
const RETRY_JITTER_MS = 1000;

/** Headers that go with an error: when to retry, and whether to. */
function errorHeaders(error: ServingError): Record<string, string> {
  const spec: { status: number; shouldRetry?: boolean; retryAfterSeconds?: number } = ERRORS[error.code];
  const headers: Record<string, string> = {};
  if (spec.retryAfterSeconds !== undefined) {
    const delayMs = spec.retryAfterSeconds * 1000 + randomInt(RETRY_JITTER_MS);
    // OpenAI's SDKs read the finer header first; everybody else reads whole seconds.
    headers["retry-after-ms"] = String(delayMs);
    headers["retry-after"] = String(Math.ceil(delayMs / 1000));
  }
  if (spec.shouldRetry !== undefined) headers["x-should-retry"] = String(spec.shouldRetry);
  if (error.code === "invalid_api_key") headers["www-authenticate"] = 'Bearer realm="twofold"';
  if (error.code === "draining" || error.code === "request_too_large") headers.connection = "close";
  return headers;
}

/** Errors of Fastify's own that a client can cause, by Fastify's code. */
const FRAMEWORK_ERRORS: Readonly<Record<string, (error: Error) => ServingError>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: () => new ServingError("request_too_large", "The request body is too large."),
  FST_ERR_CTP_INVALID_MEDIA_TYPE: () => unsupportedMediaType(),
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: () =>
    new ServingError("invalid_json", "The request body is not as long as its Content-Length says."),
  FST_ERR_BAD_URL: () => new ServingError("invalid_value", "The URL is not valid."),
};

export function unsupportedMediaType(): ServingError {
  return new ServingError(
    "unsupported_media_type",
    "Send the request body as 'Content-Type: application/json'.",
  );
}

/** The error that a client is told for anything that was thrown. What is not expected is hidden, and must be logged. */
export function toServingError(error: unknown): ServingError {
  if (error instanceof ServingError) return error;
  const code = error instanceof Error ? Reflect.get(error, "code") : undefined;
  const known = typeof code === "string" ? FRAMEWORK_ERRORS[code] : undefined;
  if (known !== undefined && error instanceof Error) return known(error);
  if (code === "ECONNRESET" || code === "ABORT_ERR")
    return new ServingError("client_closed_request", "The client closed the connection.", { cause: error });
  return new ServingError("internal_error", "Something went wrong in the server. Its log says what.", {
    cause: error,
  });
}

/** Answers with the error's status, headers and envelope. */
export function sendError(
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  logger: Logger,
): FastifyReply {
  const known = toServingError(error);
  if (known.code === "internal_error")
    logger.error({ err: error, requestId: request.record?.id }, "request failed");
  if (request.record != null) request.record.errorCode = known.code;
  if (!reply.hasHeader("x-request-id")) reply.header("x-request-id", mintId("req"));
  return reply
    .code(known.status)
    .headers(errorHeaders(known))
    .header("content-type", "application/json; charset=utf-8")
    .send(JSON.stringify(known.toBody()));
}

/** The error for bytes that are not an HTTP request, by Node's code. */
export function connectionError(error: Error): ServingError {
  const code = Reflect.get(error, "code");
  if (code === "ERR_HTTP_REQUEST_TIMEOUT")
    return new ServingError("request_timeout", "The request took too long to arrive.");
  if (code === "HPE_HEADER_OVERFLOW")
    return new ServingError("headers_too_large", "The request headers are too large.");
  return new ServingError("invalid_value", "This is not a valid HTTP request.");
}

/** Writes an answer on a connection that no request could be read from, and closes it. */
export function sendConnectionError(error: ServingError, socket: Socket): void {
  const body = JSON.stringify(error.toBody());
  const headers = {
    ...errorHeaders(error),
    "content-type": "application/json; charset=utf-8",
    "content-length": String(Buffer.byteLength(body)),
    "x-request-id": mintId("req"),
    connection: "close",
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status] ?? "Error"}\r\n${lines.join("")}\r\n`;
  socket.end(head + body, () => socket.destroy());
}
