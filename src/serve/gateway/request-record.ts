import { randomUUID } from "node:crypto";
import { performance } from "node:perf_hooks";
import type { FastifyRequest } from "fastify";
import type { ErrorCode } from "../../protocol/errors.ts";
import type { Turn } from "../conversations/prompt-tree.ts";
import type { Tenant } from "./api-keys.ts";
import type { Generation } from "./generation.ts";

/** What the gateway remembers of one HTTP request: for its log line, its metrics, and for stopping it. */
export interface RequestRecord {
  /** The client's `x-request-id`, or one of ours. */
  readonly id: string;
  /** On the clock of `performance.now()`. */
  readonly arrivedAtMs: number;
  tenant: Tenant | null;
  /** The connection has closed: nothing can be answered any more. */
  isClosed: boolean;
  /** The whole answer has gone out. */
  isAnswered: boolean;
  /** Called when the connection closes, whether or not the answer was complete. */
  onClose: (() => void) | null;
  /** What the client calls the conversation, and which of those that the gateway knows the prompt goes on with. For the log. */
  session: string | null;
  turn: Turn | null;
  errorCode: ErrorCode | null;
  /** Set when the answer's status is not the whole truth, as for a stream that was cut. */
  status: number | null;
  /** The completion that the request runs, if it does. */
  generation: Generation | null;
  /** Ends a connection on which the answer does not get through. */
  answerTimer: NodeJS.Timeout | undefined;
}

/** Longest `x-request-id` that is taken over from a client, and the characters that it may have: safe in headers and logs. */
const CLIENT_ID = /^[A-Za-z0-9._:-]{1,128}$/;

/** @param clientId the client's `x-request-id`; one that is not well-formed is replaced, not refused */
export function createRequestRecord(clientId: string | string[] | undefined): RequestRecord {
  return {
    id: typeof clientId === "string" && CLIENT_ID.test(clientId) ? clientId : mintId("req"),
    arrivedAtMs: performance.now(),
    tenant: null,
    isClosed: false,
    isAnswered: false,
    onClose: null,
    session: null,
    turn: null,
    errorCode: null,
    status: null,
    generation: null,
    answerTimer: undefined,
  };
}

/** What a client calls its conversation, in a header or as OpenAI's `prompt_cache_key`; null when it is not well-formed. */
export function sessionOf(headers: FastifyRequest["headers"], cacheKey: string | undefined): string | null {
  const names = [headers["x-twofold-session"], headers["x-session-id"], cacheKey];
  return names.find((name): name is string => typeof name === "string" && CLIENT_ID.test(name)) ?? null;
}

declare module "fastify" {
  interface FastifyRequest {
    /** Missing only when the URL could not even be routed. */
    record: RequestRecord | null | undefined;
  }
}

/** The record of a request that has passed the first hook, as every request that reaches a route has. */
export function recordOf(request: FastifyRequest): RequestRecord {
  if (request.record == null) throw new Error("a request reached its route without a record");
  return request.record;
}

/** A new identity, such as `req-0f8e…`. */
export function mintId(prefix: string): string {
  return `${prefix}-${randomUUID().replaceAll("-", "")}`;
}
