import { TimeHeap } from "../../src/twin/workload/time-heap.ts";
import type { WorkloadRequest, WorkloadSource } from "../../src/twin/workload/workload.ts";

/**
 * Takes requests until the source has none or `limit` is reached. Every request ends `serviceMs` after its arrival, and the source
 * hears of it in order of time.
 */
export function playWorkload(
  source: WorkloadSource,
  { serviceMs = 0, limit = 100_000 }: { serviceMs?: number; limit?: number } = {},
): WorkloadRequest[] {
  const running = new TimeHeap<WorkloadRequest>();
  const taken: WorkloadRequest[] = [];
  while (taken.length < limit) {
    if (running.size > 0 && running.firstMs <= source.nextArrivalMs) {
      const endMs = running.firstMs;
      source.ended(running.pop(), endMs);
    } else if (source.nextArrivalMs === Number.POSITIVE_INFINITY) break;
    else {
      const request = source.take();
      taken.push(request);
      running.push(request.arrivalMs + serviceMs, request);
    }
  }
  source.close?.();
  return taken;
}
