import type { HandoffFailure } from "../../core/handoff/messages.ts";
import type { RequestEvent } from "../../core/worker-effects.ts";
import type { ErrorCode } from "../../protocol/errors.ts";
import type { WorkerEvent } from "../../protocol/worker-rpc.ts";

/** What one side of a handoff failure means to a client. */
const ERROR_OF_FAILURE: Readonly<Record<HandoffFailure, ErrorCode>> = {
  no_space: "kv_exhausted",
  verification: "worker_lost",
  timeout: "worker_lost",
  peer_lost: "worker_lost",
  cancelled: "client_closed_request",
  unknown_request: "worker_lost",
};

/** What a loop says of its requests, as events of the stream: the tokens of one step are one of them, and come first. */
export function toWorkerEvents(events: readonly RequestEvent[]): WorkerEvent[] {
  const tokens: Array<Extract<RequestEvent, { kind: "token" }>> = [];
  const others: WorkerEvent[] = [];
  for (const event of events) {
    if (event.kind === "token") tokens.push(event);
    else if (event.kind === "run") {
      const { requestId, epoch, index } = event;
      event.tokens.forEach((sampled, i) => {
        tokens.push({ kind: "token", requestId, epoch, index: index + i, sampled });
      });
    } else if (event.kind !== "failed") others.push(event);
    else {
      const { requestId, epoch, reason } = event;
      const message = `handoff failed: ${reason}`;
      others.push({ kind: "error", requestId, epoch, code: ERROR_OF_FAILURE[reason], message });
    }
  }
  return tokens.length > 0 ? [{ kind: "tokens", tokens }, ...others] : others;
}
