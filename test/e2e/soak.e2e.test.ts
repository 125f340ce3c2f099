import { readdirSync } from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import { Rng } from "../../src/core/util/rng.ts";
import { complete, mapConcurrently } from "../support/completions.ts";
import { type ServerProcess, startServer } from "../support/server-process.ts";
import { openStream } from "../support/sse-stream.ts";

const NUM_REQUESTS = 10_000;
const CONCURRENCY = 64;
const SEED = 77;

let server: ServerProcess;
afterEach(async () => {
  await server.stop();
});

/** Open files of a process; sockets among them. */
function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

describe("ten thousand requests with random cancels", () => {
  it("leave blocks, leases, sockets and memory as they were", async () => {
    server = await startServer([
      "--engine",
      "stub",
      "--prefill",
      "1",
      "--decode",
      "1",
      // Hands every prompt over.
      "--placement",
      "load",
      "--max-running",
      "32",
      "--chunk",
      "512",
    ]);
    const rng = new Rng(SEED).stream("requests");
    const plans = Array.from({ length: NUM_REQUESTS }, () => ({
      prompt: "a b c ".repeat(1 + rng.nextBelow(60)) + rng.nextBelow(1e6),
      maxTokens: 1 + rng.nextBelow(24),
      cancelAfter: rng.nextFloat() < 0.3 ? rng.nextBelow(6) : null,
      stream: rng.nextFloat() < 0.5,
    }));
    const run = async (plan: (typeof plans)[number]): Promise<"done" | "cancelled"> => {
      const body = { model: "stub", prompt: plan.prompt, max_tokens: plan.maxTokens, ignore_eos: true };
      if (plan.cancelAfter === null && !plan.stream) {
        const result = await complete(server.url, body);
        expect(result.error).toBeNull();
        expect(result.usage?.completion_tokens).toBe(plan.maxTokens);
        return "done";
      }
      const stream = await openStream(`${server.url}/v1/completions`, body);
      if (plan.cancelAfter === null) {
        await stream.rest();
        expect(stream.sawDone).toBe(true);
        return "done";
      }
      await stream.take(plan.cancelAfter);
      stream.abort();
      return "cancelled";
    };

    // Warm up first: what is compiled, pooled and cached once belongs to the baseline.
    await mapConcurrently(plans.slice(0, 1000), CONCURRENCY, run);
    const settled = () =>
      server.untilWorkers("idle workers", (seen) =>
        seen.every(
          (worker) => worker.kvTokensUsed === 0 && worker.numRunning === 0 && worker.numWaiting === 0,
        ),
      );
    const workers = await settled();
    const pids = [server.pid, ...workers.map((worker) => worker.pid!)];
    const filesBefore = pids.map(openFiles);
    const memoryBefore = await server.metric("twofold_gateway_process_resident_memory_bytes");

    const outcomes = await mapConcurrently(plans.slice(1000), CONCURRENCY, run);
    expect(outcomes.filter((outcome) => outcome === "cancelled").length).toBeGreaterThan(NUM_REQUESTS / 5);

    await settled();
    expect(await server.metric("twofold_fleet_requests", '{state="all"}')).toBe(0);
    expect(await server.metric("twofold_gateway_requests_in_flight")).toBeLessThanOrEqual(1);
    const after = (await server.workers()).map((worker) => worker.pid);
    expect(after).toEqual(workers.map((worker) => worker.pid));
    pids.forEach((pid, i) => {
      // Keep-alive connections of the clients may differ; leaked ones would be thousands.
      expect(openFiles(pid)).toBeLessThan(filesBefore[i]! + 2 * CONCURRENCY);
    });
    const memoryAfter = await server.metric("twofold_gateway_process_resident_memory_bytes");
    expect(memoryAfter - memoryBefore).toBeLessThan(96 * 1024 * 1024);
  }, 180_000);
});
