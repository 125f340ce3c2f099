import type { HandoffId, HandoffMessage } from "../../core/handoff/messages.ts";
import type { Request, WorkerId } from "../../core/request.ts";
import type { TwinFault } from "../twin-spec.ts";
import type { TimedEvent } from "./event-heap.ts";
import type { Transfer } from "./kv-transfers.ts";
import type { TwinWorker } from "./twin-worker.ts";

/** Order of events that happen at one time. */
export const RANK = { stepEnd: 0, flowEnd: 1, message: 2, tick: 3, ready: 4, fault: 5, arrival: 6 } as const;

/** What happens to a worker. */
export type WorkerTwinEvent = TimedEvent &
  (
    | { readonly kind: "step-end"; readonly worker: TwinWorker; readonly version: number }
    | {
        readonly kind: "message";
        readonly from: WorkerId;
        readonly worker: TwinWorker;
        readonly message: HandoffMessage;
      }
    | { readonly kind: "peer-lost"; readonly worker: TwinWorker; readonly peer: WorkerId }
    | { readonly kind: "exported"; readonly transfer: Transfer }
    | {
        readonly kind: "installed";
        readonly worker: TwinWorker;
        readonly id: HandoffId;
        readonly end: number;
      }
    | { readonly kind: "wake"; readonly worker: TwinWorker }
    | { readonly kind: "ready"; readonly index: number }
    | { readonly kind: "fault"; readonly fault: TwinFault }
  );

/** What happens at the gateway. */
export type GatewayTwinEvent = TimedEvent &
  ({ readonly kind: "dispatcher-wake" } | { readonly kind: "submit"; readonly request: Request });

export type TwinEvent = WorkerTwinEvent | GatewayTwinEvent;

/** The virtual clock: one number that the run moves and everybody reads. */
export interface VirtualClock {
  nowMs: number;
}
