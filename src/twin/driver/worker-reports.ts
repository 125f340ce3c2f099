import type { Dispatcher } from "../../core/dispatch/dispatcher.ts";
import type { KvEventBatch } from "../../core/kv/kv-events.ts";
import type { StepLoad } from "../../core/perf/step-load.ts";
import type { WorkerId } from "../../core/request.ts";
import type { ObservedStep } from "../../core/router/placement.ts";
import { assertNever } from "../../core/util/assert.ts";
import type { StepRow } from "../observer.ts";
import type { EventHeap } from "./event-heap.ts";
import type { Transfer } from "./kv-transfers.ts";
import { RANK, type ReportTwinEvent, type TwinEvent, type VirtualClock } from "./twin-events.ts";
import type { TwinWorker } from "./twin-worker.ts";

/**
 * Steps are reported together, at the latest so long after the first of them was looked at; as the server's workers do. A row that
 * nothing cuts is looked at when its last step has ended, so its first steps are heard of later than in the server.
 */
const STEP_REPORT_MS = 200;

/** What the workers tell the gateway beside output: changes of their caches, steps, transfers. It arrives as late as output does. */
export class WorkerReports {
  readonly #clock: VirtualClock;
  readonly #heap: EventHeap<TwinEvent>;
  readonly #dispatcher: Dispatcher;
  /** Steps that have not been reported, by worker; it has a report due while it is here. */
  readonly #steps = new Map<WorkerId, ObservedStep[]>();

  constructor(options: { clock: VirtualClock; heap: EventHeap<TwinEvent>; dispatcher: Dispatcher }) {
    this.#clock = options.clock;
    this.#heap = options.heap;
    this.#dispatcher = options.dispatcher;
  }

  kvChanged({ id, spec }: TwinWorker, batch: KvEventBatch): void {
    const atMs = this.#clock.nowMs + spec.perf.host.outputMs;
    this.#heap.push({ kind: "kv-report", atMs, rank: RANK.report, worker: id, batch });
  }

  stepsDone({ id, spec }: TwinWorker, { load, boundsMs, from, to }: StepRow): void {
    let steps = this.#steps.get(id);
    if (steps === undefined) {
      steps = [];
      this.#steps.set(id, steps);
      const atMs = this.#clock.nowMs + STEP_REPORT_MS + spec.perf.host.outputMs;
      this.#heap.push({ kind: "step-report", atMs, rank: RANK.report, worker: id });
    }
    const first = observedStep(load, boundsMs[from + 1]! - boundsMs[from]!);
    steps.push(first);
    for (let step = from + 1; step < to; step++) {
      const decodeContextTokens = first.decodeContextTokens + (step - from) * load.numDecodes;
      steps.push({ ...first, decodeContextTokens, ms: boundsMs[step + 1]! - boundsMs[step]! });
    }
  }

  transferDone({ from, to, bytes, pushedMs }: Transfer): void {
    const { nowMs } = this.#clock;
    this.#heap.push({
      kind: "transfer-report",
      atMs: nowMs + from.spec.perf.host.outputMs,
      rank: RANK.report,
      from: from.id,
      to: to.id,
      bytes,
      ms: nowMs - pushedMs,
    });
  }

  handle(event: ReportTwinEvent): void {
    const { nowMs } = this.#clock;
    switch (event.kind) {
      case "kv-report":
        this.#dispatcher.workerKv(event.worker, event.batch, nowMs);
        return;
      case "step-report":
        this.#dispatcher.workerSteps(event.worker, this.#steps.get(event.worker)!, nowMs);
        this.#steps.delete(event.worker);
        return;
      case "transfer-report": {
        const { from, to, bytes, ms } = event;
        this.#dispatcher.transferred({ from, to, bytes, ms }, nowMs);
        return;
      }
      default:
        assertNever(event);
    }
  }
}

/** A step as policies see it. */
function observedStep(load: StepLoad, ms: number): ObservedStep {
  const { numPrefills, prefillTokens, prefillContext, numPrefillTokens, numDecodes } = load;
  let prefillAttention = 0;
  for (let i = 0; i < numPrefills; i++) {
    const tokens = prefillTokens[i]!;
    prefillAttention += tokens * (prefillContext[i]! + tokens / 2);
  }
  const decodeContextTokens = load.decodeContextTokens;
  return { numPrefillTokens, prefillAttention, numDecodes, decodeContextTokens, ms };
}
