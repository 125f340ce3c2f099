import { expect } from "vitest";
import { ERRORS, type ErrorBody, type ErrorCode } from "../../src/protocol/errors.ts";

/** What `inject` resolves with, as far as an error answer goes. */
export interface Injected {
  statusCode: number;
  headers: Record<string, unknown>;
  json(): unknown;
}

/** Checks the whole of an error answer against the table of errors, and returns it. */
export function expectError(
  answer: Injected,
  code: ErrorCode,
  param: string | null = null,
): ErrorBody["error"] {
  const spec: { status: number; type: string; shouldRetry?: boolean; retryAfterSeconds?: number } =
    ERRORS[code];
  const { error } = answer.json() as ErrorBody;
  expect({ status: answer.statusCode, ...error }).toMatchObject({
    status: spec.status,
    type: spec.type,
    code,
    param,
  });
  expect(error.message).not.toBe("");
  expect(Object.keys(error).sort()).toEqual(["code", "message", "param", "type"]);
  expect(answer.headers["content-type"]).toBe("application/json; charset=utf-8");
  expect(answer.headers["x-request-id"]).toMatch(/^[\w.:-]+$/);
  expect(answer.headers["x-should-retry"]).toBe(
    spec.shouldRetry === undefined ? undefined : String(spec.shouldRetry),
  );
  if (spec.retryAfterSeconds === undefined) expect(answer.headers["retry-after"]).toBeUndefined();
  else {
    const ms = Number(answer.headers["retry-after-ms"]);
    expect(ms).toBeGreaterThanOrEqual(spec.retryAfterSeconds * 1000);
    expect(ms).toBeLessThan(spec.retryAfterSeconds * 1000 + 1000);
    expect(Number(answer.headers["retry-after"])).toBe(Math.ceil(ms / 1000));
  }
  return error;
}
