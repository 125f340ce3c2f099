import type { RequestId } from "../../core/request.ts";
import type { PlacementDecision } from "../../core/router/placement.ts";
import { assert, InvariantError } from "../../core/util/assert.ts";
import type { StepRow, TwinObserver } from "../observer.ts";
import { WorkloadError, type WorkloadRequest } from "../workload/workload.ts";
import type { RequestTrack } from "./twin-request.ts";

/** Steps [from, to) of a row that are over. */
interface StepReport {
  readonly outer: StepReport | null;
  readonly boundsMs: Float64Array;
  readonly from: number;
  readonly to: number;
  /** The longest of the steps before the last one that follow another one of the row. */
  readonly longestMs: number;
  /** Requests that got a token of every step, and of every step but the last, which drew a token that is kept back. */
  numWhole: number;
  numShort: number;
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

  /** From here until {@link endSteps}, tokens are those of the steps of a row. Reports may be nested. */
  beginSteps({ boundsMs, from, to }: StepRow): void {
    let longestMs = 0;
    for (let step = Math.max(from, 1); step < to - 1; step++) {
      const ms = boundsMs[step + 1]! - boundsMs[step]!;
      if (ms > longestMs) longestMs = ms;
    }
    this.#report = { outer: this.#report, boundsMs, from, to, longestMs, numWhole: 0, numShort: 0 };
  }

  /** Whoever decodes in a row gets one token per step: all have the same gaps but for the first one of the row. */
  endSteps(): void {
    const report = this.#report;
    assert(report !== null, "no steps are being reported");
    this.#report = report.outer;
    const { boundsMs, from, to, numWhole, numShort } = report;
    const first = Math.max(from, 1);
    const last = Math.max(from, to - 1, 1);
    if (first < last && numWhole + numShort > 0)
      this.#observer.tokenGaps(boundsMs, first, last, numWhole + numShort);
    if (last < to && numWhole > 0) this.#observer.tokenGaps(boundsMs, last, to, numWhole);
  }

  /** Tokens of a request have been passed on. */
  tokens(id: RequestId, count: number, nowMs: number): void {
    const track = this.#of(id);
    const report = this.#report;
    track.numOutputTokens += count;
    if (report === null || count > report.to - report.from || count < report.to - report.from - 1) {
      this.#tokenAt(track, nowMs);
      return;
    }
    const { boundsMs, from, to } = report;
    const end = from + count;
    if (end === to) report.numWhole++;
    else report.numShort++;
    if (from === 0) this.#tokenAt(track, boundsMs[1]!);
    track.lastTokenMs = boundsMs[end]!;
    const lastMs = end === to && end > 1 ? boundsMs[end]! - boundsMs[end - 1]! : 0;
    track.maxGapMs = Math.max(track.maxGapMs, report.longestMs, lastMs);
    if (track.gapsMs === null) return;
    for (let step = Math.max(from, 1); step < end; step++) {
      track.gapsMs.push(boundsMs[step + 1]! - boundsMs[step]!);
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
    if (track === undefined) throw new InvariantError(`request ${id} is not under way`);
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
