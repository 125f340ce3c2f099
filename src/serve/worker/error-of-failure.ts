import type { HandoffFailure } from "../../core/handoff/messages.ts";
import type { ErrorCode } from "../../protocol/errors.ts";

/** What one side of a handoff failure means to a client. */
export const ERROR_OF_FAILURE: Readonly<Record<HandoffFailure, ErrorCode>> = {
  no_space: "kv_exhausted",
  verification: "worker_lost",
  timeout: "worker_lost",
  peer_lost: "worker_lost",
  cancelled: "client_closed_request",
  unknown_request: "worker_lost",
};
