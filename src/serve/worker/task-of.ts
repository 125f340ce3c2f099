import type { WorkerTask } from "../../core/worker-effects.ts";
import type { Assignment } from "../../protocol/worker-rpc.ts";

/** An assignment without addresses, as the worker's loop takes it. */
export function taskOf(assignment: Assignment): WorkerTask {
  if (assignment.kind === "decode") return { kind: "decode", peer: assignment.prefillWorker };
  const source = assignment.fetch;
  const fetch = source === undefined ? undefined : { from: source.worker, numTokens: source.numTokens };
  if (assignment.kind === "prefill") return { kind: "prefill", peer: assignment.decodeWorker, fetch };
  return { kind: "local", fetch };
}
