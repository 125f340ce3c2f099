import type { ObservedStep } from "../../core/router/placement.ts";
import { MAX_REPORTED_STEPS } from "../../protocol/report-codec.ts";
import type { SubscribeOptions, WorkerEvent, WorkerReport } from "../../protocol/worker-rpc.ts";

/** Steps wait so long to be reported together: enough to learn from, and hardly a line more on the stream. */
const STEP_REPORT_MS = 200;

export type EventSink = (event: WorkerEvent) => void;

/** Those who listen to a worker. Reports are made only while somebody takes them. */
export class Subscribers {
  readonly #all = new Set<EventSink>();
  readonly #reported = new Set<EventSink>();
  #steps: ObservedStep[] = [];
  #timer: NodeJS.Timeout | null = null;

  get size(): number {
    return this.#all.size;
  }

  /** Whether anybody takes reports. */
  get takeReports(): boolean {
    return this.#reported.size > 0;
  }

  add(sink: EventSink, { reports }: SubscribeOptions): void {
    this.#all.add(sink);
    if (reports) this.#reported.add(sink);
  }

  /** Returns whether it was there. */
  delete(sink: EventSink): boolean {
    this.#reported.delete(sink);
    return this.#all.delete(sink);
  }

  publish(event: WorkerEvent): void {
    for (const sink of this.#all) sink(event);
  }

  report(report: WorkerReport): void {
    for (const sink of this.#reported) sink(report);
  }

  /** A step to be reported with others. */
  reportStep(step: ObservedStep): void {
    if (!this.takeReports) return;
    this.#steps.push(step);
    if (this.#steps.length >= MAX_REPORTED_STEPS) this.#flush();
    if (this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#flush();
    }, STEP_REPORT_MS);
    this.#timer.unref();
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #flush(): void {
    const steps = this.#steps;
    this.#steps = [];
    if (steps.length > 0) this.report({ kind: "steps", steps });
  }
}
