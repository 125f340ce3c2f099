import { findPlacementPolicy } from "../../src/core/router/policies/registry.ts";
import { Rng } from "../../src/core/util/rng.ts";
import { runTwin } from "../../src/twin/driver/run-twin.ts";
import { DispatchLogFile } from "../../src/twin/record/dispatch-log-file.ts";
import type { TwinFault } from "../../src/twin/twin-spec.ts";
import { ListSource } from "../../src/twin/workload/list-source.ts";
import type { WorkloadRequest } from "../../src/twin/workload/workload.ts";
import { ListObserver, twinSpec, twinWorker, workloadRequest } from "./twin.ts";

const BLOCK_TOKENS = 16;

/** Prompts that begin alike, from a few families. */
export function sharingRequests(count: number, meanGapMs: number): WorkloadRequest[] {
  const stream = new Rng(5).stream("sharing");
  let arrivalMs = 0;
  return Array.from({ length: count }, (_, i) => {
    arrivalMs += stream.nextExponential(meanGapMs);
    const family = stream.nextBelow(5);
    const numShared = stream.nextBelow(14);
    const ids = Array.from({ length: 15 }, (_, at) =>
      at < numShared ? family * 100 + at : 1000 + i * 20 + at,
    );
    return workloadRequest({
      id: `r${i}`,
      arrivalMs,
      inputTokens: 200 + stream.nextBelow(40),
      outputTokens: 1 + stream.nextBelow(60),
      blocks: { blockTokens: BLOCK_TOKENS, scope: "", ids },
    });
  });
}

export const RECORDED_FLEET = [
  twinWorker({ id: "p1", endpoint: "p1", role: "prefill", numBlocks: 200 }),
  twinWorker({ id: "p2", endpoint: "p2", role: "prefill", numBlocks: 200 }),
  twinWorker({ id: "d1", endpoint: "d1", role: "decode", numBlocks: 300 }),
  twinWorker({ id: "b1", endpoint: "b1", role: "both", numBlocks: 300 }),
];

/** Runs a small fleet in the twin and records its dispatcher at `path`. */
export function recordRun(
  path: string,
  policy: string,
  options: { requests: readonly WorkloadRequest[]; faults?: readonly TwinFault[]; maxBytes?: number },
): ListObserver {
  const observer = new ListObserver();
  const told = { seed: 7 };
  let file: DispatchLogFile | null = null;
  const spec = twinSpec({
    workers: RECORDED_FLEET,
    placement: findPlacementPolicy(policy, told)!,
    faults: options.faults ?? [],
    outputBound: 100,
    checks: false,
    record: (dispatcher) => {
      const header = {
        twofoldVersion: "test",
        world: "twin" as const,
        policy: { name: policy, options: told },
        dispatcher,
        blockSizeTokens: BLOCK_TOKENS,
      };
      const opened = new DispatchLogFile(path, header, options.maxBytes);
      file = opened;
      return (entry) => opened.add(entry);
    },
  });
  runTwin(spec, new ListSource(options.requests), observer);
  (file as DispatchLogFile | null)?.close();
  return observer;
}
