import type { Dispatcher } from "../../core/dispatch/dispatcher.ts";
import type { TwinObserver } from "../observer.ts";
import type { TwinSpec } from "../twin-spec.ts";
import type { EventHeap } from "./event-heap.ts";
import type { RequestTracks } from "./request-tracks.ts";
import type { TraceHash } from "./trace-hash.ts";
import type { TwinEvent, VirtualClock } from "./twin-events.ts";
import type { WorkerReports } from "./worker-reports.ts";

/** What the host of the workers shares with the rest of a run. */
export interface HostContext {
  readonly spec: TwinSpec;
  readonly observer: TwinObserver;
  readonly clock: VirtualClock;
  readonly heap: EventHeap<TwinEvent>;
  readonly hash: TraceHash;
  readonly tracks: RequestTracks;
  readonly dispatcher: Dispatcher;
  /** Null when nobody listens. */
  readonly reports: WorkerReports | null;
  /** Carries out what the dispatcher wants after it has been told something. */
  readonly pumpDispatcher: () => void;
}
