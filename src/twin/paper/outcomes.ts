import type { RequestOutcome, TwinObserver } from "../observer.ts";
import type { WorkloadRequest } from "../workload/workload.ts";

/** One finished request of a paper's experiment. */
export interface PaperOutcome {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly arrivalMs: number;
  readonly ttftMs: number;
  readonly e2eMs: number;
  readonly maxGapMs: number;
}

/** Keeps what the figures of papers are made of: every request that was completed, in order of ending. */
export class OutcomeList implements TwinObserver {
  readonly outcomes: PaperOutcome[] = [];
  numFailed = 0;
  /** Gaps between tokens, rounded to hundredths of a millisecond, with how often each occurred. */
  readonly gaps = new Map<number, number>();

  requestEnded(request: WorkloadRequest, outcome: RequestOutcome): void {
    if (!outcome.isCompleted) {
      this.numFailed++;
      return;
    }
    const { inputTokens, outputTokens, arrivalMs } = request;
    const { ttftMs, e2eMs, maxGapMs } = outcome;
    this.outcomes.push({ inputTokens, outputTokens, arrivalMs, ttftMs, e2eMs, maxGapMs });
  }

  requestArrived(): void {}
  requestPlaced(): void {}
  tokenGap(gapMs: number, count: number): void {
    const rounded = Math.round(gapMs * 100) / 100;
    this.gaps.set(rounded, (this.gaps.get(rounded) ?? 0) + count);
  }

  tokenGaps(timesMs: Float64Array, from: number, to: number, count: number): void {
    for (let i = from; i < to; i++) this.tokenGap(timesMs[i + 1]! - timesMs[i]!, count);
  }

  stepsDone(): void {}
  transferDone(): void {}
  kvChanged(): void {}
  workerChanged(): void {}
}

/** The smallest gap that a share of all gaps does not exceed. */
export function gapQuantile(gaps: ReadonlyMap<number, number>, share: number): number {
  const sorted = [...gaps].sort((a, b) => a[0] - b[0]);
  let left = share * sorted.reduce((sum, [, count]) => sum + count, 0);
  for (const [gapMs, count] of sorted) {
    left -= count;
    if (left <= 0) return gapMs;
  }
  return 0;
}
