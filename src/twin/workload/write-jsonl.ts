import { closeSync, openSync, writeSync } from "node:fs";
import { reasonOf } from "./line-reader.ts";
import { DEFAULT_KIND, DEFAULT_TENANT } from "./plain-request.ts";
import { TimeHeap } from "./time-heap.ts";
import { WorkloadError, type WorkloadRequest, type WorkloadSource } from "./workload.ts";

/** Characters that are written at once. */
const FLUSH_CHARACTERS = 256 * 1024;

/** A request as a line of this project's own format; what has its default is left out. */
export function formatRequest(request: WorkloadRequest): string {
  const { id, arrivalMs, inputTokens, outputTokens, blocks, sessionId, tenant, priority, kind, encodeMs } =
    request;
  return JSON.stringify({
    id,
    arrivalMs,
    inputTokens,
    outputTokens,
    ...(blocks === null ? {} : { blockTokens: blocks.blockTokens, blocks: blocks.ids }),
    ...(blocks === null || blocks.scope === "" ? {} : { scope: blocks.scope }),
    ...(sessionId === null ? {} : { sessionId }),
    ...(tenant === DEFAULT_TENANT ? {} : { tenant }),
    ...(priority === 0 ? {} : { priority }),
    ...(kind === DEFAULT_KIND ? {} : { kind }),
    ...(encodeMs === 0 ? {} : { encodeMs }),
  });
}

/**
 * Writes all requests of a source to a file and returns their number. Closed-loop sources depend on when requests end:
 * `serviceMs` says how long each takes, and the file holds the arrivals that follow from it. Without it a source that waits for
 * its requests is refused. Throws {@link WorkloadError}.
 */
export function saveWorkload(
  source: WorkloadSource,
  path: string,
  serviceMs: ((request: WorkloadRequest) => number) | null = null,
): number {
  let descriptor: number;
  try {
    descriptor = openSync(path, "w");
  } catch (error) {
    throw new WorkloadError(path, 0, `cannot be written: ${reasonOf(error)}`);
  }
  try {
    return writeAll(descriptor, path, source, serviceMs);
  } finally {
    closeSync(descriptor);
    source.close?.();
  }
}

function writeAll(
  descriptor: number,
  path: string,
  source: WorkloadSource,
  serviceMs: ((request: WorkloadRequest) => number) | null,
): number {
  if (serviceMs === null && source.isClosedLoop === true)
    throw new WorkloadError(path, 0, "the workload waits for its requests to end; say how long they take");
  const running = new TimeHeap<WorkloadRequest>();
  let text = "";
  let numWritten = 0;
  for (;;) {
    if (running.size > 0 && running.firstMs <= source.nextArrivalMs) {
      const endMs = running.firstMs;
      source.ended(running.pop(), endMs);
      continue;
    }
    if (source.nextArrivalMs === Number.POSITIVE_INFINITY) break;
    const request = source.take();
    if (serviceMs !== null) running.push(request.arrivalMs + serviceMs(request), request);
    text += `${formatRequest(request)}\n`;
    numWritten++;
    if (text.length < FLUSH_CHARACTERS) continue;
    writeSync(descriptor, text);
    text = "";
  }
  writeSync(descriptor, text);
  return numWritten;
}
