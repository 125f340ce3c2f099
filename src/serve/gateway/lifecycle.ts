import type { ServerResponse } from "node:http";
import { performance } from "node:perf_hooks";
import type { FastifyRequest } from "fastify";
import { ServingError } from "../../protocol/errors.ts";
import type { GatewayContext } from "./context.ts";
import type { RequestRecord } from "./request-record.ts";

/** The label of requests that belong to no route, so that clients cannot make up label values. */
export const NO_ROUTE = "none";

/**
 * Called once for every request when its connection is done with it, complete or not: stops what still runs for it, counts
 * it and writes its log line.
 */
export function finishRecord(
  context: GatewayContext,
  record: RequestRecord,
  request: FastifyRequest,
  response: ServerResponse,
): void {
  const { metrics, logger } = context;
  const isAborted = !record.isAnswered;
  const endpoint = request.is404 ? NO_ROUTE : (request.routeOptions.url ?? NO_ROUTE);
  const { generation } = record;
  record.isClosed = true;
  clearTimeout(record.answerTimer);
  context.inFlight.delete(record);
  generation?.cancel();
  record.onClose?.();
  if (isAborted && record.status === null) {
    record.status = 499;
    record.errorCode = "client_closed_request";
    metrics.clientDisconnects.inc({ endpoint });
  }
  const status = record.status ?? response.statusCode;
  const durationMs = performance.now() - record.arrivedAtMs;
  metrics.requests.inc({ endpoint, status: String(status) });
  if (generation !== null && status === 200)
    metrics.requestDurationSeconds.observe({ endpoint }, durationMs / 1000);
  const usage = generation?.usage();
  logger.info(
    {
      requestId: record.id,
      tenant: record.tenant?.name,
      method: request.method,
      endpoint,
      status,
      code: record.errorCode ?? undefined,
      durationMs: round(durationMs),
      ttftMs: generation?.ttftMs == null ? undefined : round(generation.ttftMs),
      ...usage,
      session: record.session ?? undefined,
      ...record.turn,
    },
    "request",
  );
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100;
}

/**
 * Lets the requests in progress finish, for a while; then fails those that have not, and lets the error get through.
 *
 * @returns whether everything had finished in time
 */
export async function drain(context: GatewayContext): Promise<boolean> {
  context.isDraining = true;
  const { drainMs, drainFlushMs } = context.limits;
  if (await untilIdle(context, drainMs)) return true;
  for (const record of context.inFlight)
    record.generation?.fail(
      new ServingError("draining", "The server shut down before the answer was complete."),
    );
  await untilIdle(context, drainFlushMs);
  return false;
}

/** How often a closing gateway looks whether it is idle. */
const IDLE_CHECK_MS = 10;

function untilIdle(context: GatewayContext, timeoutMs: number): Promise<boolean> {
  const deadlineMs = performance.now() + timeoutMs;
  return new Promise((resolve) => {
    const check = () => {
      if (context.inFlight.size === 0) resolve(true);
      else if (performance.now() >= deadlineMs) resolve(false);
      else setTimeout(check, IDLE_CHECK_MS);
    };
    check();
  });
}
