import type { RequestId } from "../../core/request.ts";
import type { PlacementDecision } from "../../core/router/placement.ts";
import { assert } from "../../core/util/assert.ts";
import type { TwinObserver } from "../observer.ts";
import { WorkloadError, type WorkloadRequest } from "../workload/workload.ts";
import type { ModelledEngine } from "./modelled-engine.ts";
import type { RequestTrack } from "./twin-request.ts";

/** Steps [from, to) of an engine's row that are over. */
interface StepReport {
  readonly outer: StepReport | null;
  readonly engine: ModelledEngine;
  readonly from: number;
  readonly to: number;
  /** The longest of the steps that follow another one of the row. */
  readonly longestMs: number;
  /** Requests that got a token of every step. */
  numRequests: number;
}

/** What the clients of one run see: when the first token comes, the gaps after it, and the end. */
export class RequestTracks {
  readonly #observer: TwinObserver;
  readonly #outputMs: number;
  readonly #byId = new Map<RequestId, RequestTrack>();
  /** The steps that are being reported, so that tokens passed on meanwhile have a time. */
  #report: StepReport | null = null;

  /** `outputMs`: from the end of a step until its tokens are at the client. */
  constructor(observer: TwinObserver, outputMs: number) {
    this.#observer = observer;
    this.#outputMs = outputMs;
  }

  begin(track: RequestTrack): void {
    const { id } = track.workload;
    // Readers look for this with the line, but not over the whole of a long trace.
    if (this.#byId.has(id))
      throw new WorkloadError(
        "workload",
        0,
        `two requests that are under way have the id ${JSON.stringify(id)}`,
      );
    this.#byId.set(id, track);
  }

  placed(id: RequestId, decision: PlacementDecision): WorkloadRequest {
    const track = this.#of(id);
    track.prefillWorker = decision.prefillWorker;
    track.decodeWorker = decision.decodeWorker;
    return track.workload;
  }

  /** Null: the request is over, and what is sent for it is of no use. */
  inputTokensOf(id: RequestId): number | null {
    return this.#byId.get(id)?.workload.inputTokens ?? null;
  }

  cached(id: RequestId, numTokens: number): void {
    this.#of(id).numCachedTokens = numTokens;
  }

  /** From here until {@link endSteps}, tokens are those of an engine's steps [from, to). Reports may be nested. */
  beginSteps(engine: ModelledEngine, from: number, to: number): void {
    let longestMs = 0;
    for (let step = Math.max(from, 1); step < to; step++) {
      longestMs = Math.max(longestMs, engine.stepEndMs(step) - engine.stepStartMs(step));
    }
    this.#report = { outer: this.#report, engine, from, to, longestMs, numRequests: 0 };
  }

  /** Whoever decodes in a row gets one token per step: all have the same gaps but for the first one of the row. */
  endSteps(): void {
    const report = this.#report;
    assert(report !== null, "no steps are being reported");
    this.#report = report.outer;
    const { engine, from, to, numRequests } = report;
    if (numRequests === 0) return;
    for (let step = Math.max(from, 1); step < to; step++) {
      this.#observer.tokenGap(engine.stepEndMs(step) - engine.stepStartMs(step), numRequests);
    }
  }

  /** Tokens of a request have been passed on. */
  tokens(id: RequestId, count: number, nowMs: number): void {
    const track = this.#of(id);
    const report = this.#report;
    track.numOutputTokens += count;
    if (report === null || count !== report.to - report.from) {
      this.#tokenAt(track, nowMs);
      return;
    }
    report.numRequests++;
    if (report.from === 0) this.#tokenAt(track, report.engine.stepEndMs(0));
    track.lastTokenMs = report.engine.stepEndMs(report.to - 1);
    if (report.longestMs > track.maxGapMs) track.maxGapMs = report.longestMs;
    if (track.gapsMs === null) return;
    for (let step = Math.max(report.from, 1); step < report.to; step++) {
      track.gapsMs.push(report.engine.stepEndMs(step) - report.engine.stepStartMs(step));
    }
  }

  /** A token whose gap to the one before is the request's own. */
  #tokenAt(track: RequestTrack, atMs: number): void {
    if (Number.isNaN(track.firstTokenMs)) track.firstTokenMs = atMs;
    else {
      const gapMs = atMs - track.lastTokenMs;
      if (gapMs > track.maxGapMs) track.maxGapMs = gapMs;
      track.gapsMs?.push(gapMs);
      this.#observer.tokenGap(gapMs, 1);
    }
    track.lastTokenMs = atMs;
  }

  end(id: RequestId, end: string, isCompleted: boolean, nowMs: number): WorkloadRequest {
    const track = this.#of(id);
    this.#byId.delete(id);
    const { workload } = track;
    if (end === "stop") {
      // The loop keeps the end-of-generation token to itself. It was drawn in a step of its own, and traces count it.
      track.numOutputTokens++;
      this.#tokenAt(track, nowMs);
    }
    const firstMs = Number.isNaN(track.firstTokenMs) ? nowMs : track.firstTokenMs;
    const outcome = {
      end,
      isCompleted,
      ttftMs: firstMs + this.#outputMs - workload.arrivalMs,
      e2eMs: nowMs + this.#outputMs - workload.arrivalMs,
      numOutputTokens: track.numOutputTokens,
      maxGapMs: track.maxGapMs,
      worstGapsMs: track.gapsMs === null ? null : meanOfWorst(track.gapsMs),
      gapsMs: track.gapsMs,
      queuedMs: Number.isNaN(track.firstStepMs) ? null : track.firstStepMs - workload.arrivalMs,
      numCachedTokens: track.numCachedTokens,
      prefillWorker: track.prefillWorker,
      decodeWorker: track.decodeWorker,
    };
    this.#observer.requestEnded(workload, outcome, nowMs);
    return workload;
  }

  #of(id: RequestId): RequestTrack {
    const track = this.#byId.get(id);
    assert(track !== undefined, `request ${id} is not under way`);
    return track;
  }
}

/** Share of a request's gaps that Mooncake's time between tokens looks at (FAST '25, section 5). */
const WORST_SHARE = 0.1;

function meanOfWorst(gapsMs: readonly number[]): number | null {
  if (gapsMs.length === 0) return null;
  const count = Math.max(1, Math.floor(gapsMs.length * WORST_SHARE));
  const worst = gapsMs.toSorted((a, b) => b - a).slice(0, count);
  return worst.reduce((sum, gapMs) => sum + gapMs, 0) / count;
}
