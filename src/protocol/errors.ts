/**
 * Every error that a client can be sent: its HTTP status, its OpenAI `type`, and whether the OpenAI SDKs should retry.
 * `docs/reference/errors.md` documents each one; a test keeps the two in step.
 */
export const ERRORS = {
  invalid_json: { status: 400, type: "invalid_request_error" },
  invalid_value: { status: 400, type: "invalid_request_error" },
  invalid_type: { status: 400, type: "invalid_request_error" },
  missing_required_parameter: { status: 400, type: "invalid_request_error" },
  unsupported_value: { status: 400, type: "invalid_request_error" },
  nesting_too_deep: { status: 400, type: "invalid_request_error" },
  context_length_exceeded: { status: 400, type: "invalid_request_error" },
  invalid_host: { status: 403, type: "permission_error" },
  invalid_api_key: { status: 401, type: "authentication_error" },
  model_not_found: { status: 404, type: "invalid_request_error" },
  not_found: { status: 404, type: "invalid_request_error" },
  method_not_allowed: { status: 405, type: "invalid_request_error" },
  request_timeout: { status: 408, type: "invalid_request_error" },
  request_too_large: { status: 413, type: "invalid_request_error" },
  unsupported_media_type: { status: 415, type: "invalid_request_error" },
  headers_too_large: { status: 431, type: "invalid_request_error" },
  client_closed_request: { status: 499, type: "invalid_request_error" },
  internal_error: { status: 500, type: "server_error" },
  worker_lost: { status: 502, type: "server_error", shouldRetry: true },
  queue_full: { status: 503, type: "server_overloaded", retryAfterSeconds: 1 },
  kv_exhausted: { status: 503, type: "server_overloaded", retryAfterSeconds: 2 },
  no_workers: { status: 503, type: "server_overloaded", retryAfterSeconds: 2 },
  draining: { status: 503, type: "server_overloaded", retryAfterSeconds: 1 },
  deadline_exceeded: { status: 504, type: "server_error", shouldRetry: false },
} as const satisfies Record<
  string,
  { status: number; type: string; shouldRetry?: boolean; retryAfterSeconds?: number }
>;

export type ErrorCode = keyof typeof ERRORS;

/** The OpenAI error envelope. */
export interface ErrorBody {
  readonly error: { message: string; type: string; param: string | null; code: ErrorCode };
}

/** A failure that a client is told about. Thrown at the edges only; core returns outcomes. */
export class ServingError extends Error {
  override name = "ServingError";
  readonly code: ErrorCode;
  /** The request field at fault, such as `messages[0].role`. */
  readonly param: string | null;

  constructor(code: ErrorCode, message: string, options: { param?: string; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.param = options.param ?? null;
  }

  get status(): number {
    return ERRORS[this.code].status;
  }

  toBody(): ErrorBody {
    return {
      error: { message: this.message, type: ERRORS[this.code].type, param: this.param, code: this.code },
    };
  }
}
