import type { RunResult } from "../../protocol/simulation-schema.ts";

/** When more than this share of all requests is in flight at the last arrival, and more than a few, the fleet did not keep up. */
const OVERLOAD_SHARE = 0.25;
const OVERLOAD_REQUESTS = 50;

/** Above this share of step time outside the measured range a run says so. */
const EXTRAPOLATED_WARNING_SHARE = 0.01;

/** A p99.9, or a p99, of fewer values than this is a guess. */
const MIN_REQUESTS_FOR_P99 = 1000;

/** What a reader has to know before believing a run, the most serious first. */
export function runWarnings(run: Omit<RunResult, "warnings">, maxVirtualMs: number): string[] {
  return [...endWarnings(run, maxVirtualMs), ...overload(run), ...failures(run), ...doubts(run)];
}

function endWarnings(run: Omit<RunResult, "warnings">, maxVirtualMs: number): string[] {
  const { arrived, unfinished } = run.requests;
  if (run.end === "time") {
    return [
      `DID NOT FINISH: ${unfinished} of ${arrived} requests were not over after ${seconds(maxVirtualMs)} of virtual time (limits.virtualSeconds); latencies are of the others`,
    ];
  }
  if (run.end === "stuck") {
    return [
      `DID NOT FINISH: ${unfinished} of ${arrived} requests can never run, as no ready worker can take them; nothing happened after ${seconds(run.endMs)}`,
    ];
  }
  return [];
}

function overload(run: Omit<RunResult, "warnings">): string[] {
  const { arrived, completed } = run.requests;
  const waiting = run.inFlightAtLastArrival;
  if (run.lastArrivalMs <= 0 || waiting < OVERLOAD_REQUESTS || waiting < arrived * OVERLOAD_SHARE) return [];
  const demand = ((arrived * 1000) / run.lastArrivalMs).toPrecision(3);
  const served = ((completed * 1000) / Math.max(run.endMs, 1)).toPrecision(3);
  return [
    `DEMAND OVER CAPACITY: ${waiting} of ${arrived} requests were in flight when the last one arrived; ${demand} requests/s came, ${served} were completed. Latencies grow with the length of the run`,
  ];
}

function failures(run: Omit<RunResult, "warnings">): string[] {
  if (run.requests.failed === 0) return [];
  const kinds = run.failures.map(({ kind, count }) => `${count} × ${kind}`).join(", ");
  return [
    `${run.requests.failed} of ${run.requests.arrived} requests failed (${kinds}); latencies are of completed requests`,
  ];
}

function doubts(run: Omit<RunResult, "warnings">): string[] {
  const warnings: string[] = [];
  const { extrapolatedShare, extrapolatedBySource } = run.provenance;
  if (run.requests.arrived === 0) warnings.push("no request arrived");
  if (extrapolatedShare > EXTRAPOLATED_WARNING_SHARE) {
    const parts = Object.entries(extrapolatedBySource).flatMap(([source, share]) =>
      share > 0 ? [`${source} ${percent(share)}`] : [],
    );
    warnings.push(
      `${percent(extrapolatedShare)} of step time is outside the range its source covers (${parts.join(", ")})`,
    );
  }
  const { completed } = run.requests;
  if (completed > 0 && completed < MIN_REQUESTS_FOR_P99) {
    warnings.push(
      `p99 of ${completed} requests rests on few values; ${MIN_REQUESTS_FOR_P99} or more make it meaningful`,
    );
  }
  return warnings;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toPrecision(4)} s`;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
