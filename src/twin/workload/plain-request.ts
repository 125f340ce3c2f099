import type { WorkloadRequest } from "./workload.ts";

/** Tenant of requests whose source knows none. */
export const DEFAULT_TENANT = "default";

/** Class of requests whose source knows none. */
export const DEFAULT_KIND = "text";

/** A request whose time of arrival is not known yet. A bound of its output is no part of it: {@link timed} would lose it. */
export type UntimedRequest = Omit<WorkloadRequest, "arrivalMs" | "maxOutputTokens">;

/** A request of the default tenant and class that shares nothing with any other. Readers override what their trace tells. */
export function plainRequest(id: string, inputTokens: number, outputTokens: number): UntimedRequest {
  return {
    id,
    inputTokens,
    outputTokens,
    blocks: null,
    sessionId: null,
    tenant: DEFAULT_TENANT,
    priority: 0,
    kind: DEFAULT_KIND,
    encodeMs: 0,
    wishes: null,
  };
}

/**
 * The request with its time of arrival. Written out, because an object that is spread and then gets a further property loses its
 * shape, and every later use of it takes as long as a look-up in a dictionary.
 */
export function timed(request: UntimedRequest, arrivalMs: number): WorkloadRequest {
  const { id, inputTokens, outputTokens, blocks, sessionId, tenant, priority, kind, encodeMs, wishes } =
    request;
  return {
    id,
    arrivalMs,
    inputTokens,
    outputTokens,
    blocks,
    sessionId,
    tenant,
    priority,
    kind,
    encodeMs,
    wishes,
  };
}
