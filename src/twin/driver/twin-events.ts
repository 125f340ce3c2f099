import type { HandoffId, HandoffMessage } from "../../core/handoff/messages.ts";
import type { KvEventBatch } from "../../core/kv/kv-events.ts";
import type { TierReport } from "../../core/kv/tiers/tier-effects.ts";
import type { Request, WorkerId } from "../../core/request.ts";
import type { TwinFault } from "../twin-spec.ts";
import type { TimedEvent } from "./event-heap.ts";
import type { Transfer } from "./kv-transfers.ts";
import type { TwinWorker } from "./twin-worker.ts";

/** Order of events that happen at one time. */
export const RANK = {
  stepEnd: 0,
  flowEnd: 1,
  message: 2,
  report: 3,
  tick: 4,
  ready: 5,
  fault: 6,
  arrival: 7,
} as const;

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
    | { readonly kind: "tier"; readonly worker: TwinWorker; readonly report: TierReport }
    | { readonly kind: "wake"; readonly worker: TwinWorker }
    | { readonly kind: "ready"; readonly index: number }
    | { readonly kind: "fault"; readonly fault: TwinFault }
  );

/** What happens at the gateway. */
export type GatewayTwinEvent = TimedEvent &
  ({ readonly kind: "dispatcher-wake" } | { readonly kind: "submit"; readonly request: Request });

/** What the gateway hears of a worker beside output. */
export type ReportTwinEvent = TimedEvent &
  (
    | { readonly kind: "kv-report"; readonly worker: WorkerId; readonly batch: KvEventBatch }
    | { readonly kind: "step-report"; readonly worker: WorkerId }
    | {
        readonly kind: "transfer-report";
        readonly from: WorkerId;
        readonly to: WorkerId;
        readonly bytes: number;
        readonly ms: number;
      }
  );

export type TwinEvent = WorkerTwinEvent | ReportTwinEvent | GatewayTwinEvent;

/** The virtual clock: one number that the run moves and everybody reads. */
export interface VirtualClock {
  nowMs: number;
}
