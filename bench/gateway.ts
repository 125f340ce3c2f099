/**
 * Streamed tokens per second of gateway CPU: 64 streams over the stub engine. The gateway is a process of its own; its CPU
 * time, user and system, is read from the kernel, so the client and the worker do not count.
 */
import { streamCompletion } from "./lib/load.ts";
import { median, report, round } from "./lib/report.ts";
import { cpuSeconds, startServe } from "./lib/serve-process.ts";

const STREAMS = 64;
const TOKENS = 2000;
const ROUNDS = 5;

const server = await startServe([
  ...["--engine", "stub", "--both", "1", "--max-running", String(STREAMS), "--chunk", "1024"],
  ...["--kv-tokens", "262144", "--stub-step-ms", "2"],
]);
const round1 = async (): Promise<{ tokens: number; cpuS: number; wallS: number; chunks: number }> => {
  const cpuBefore = cpuSeconds(server.pid);
  const startMs = performance.now();
  const traces = await Promise.all(
    Array.from({ length: STREAMS }, (_, i) =>
      streamCompletion(server.url, {
        model: "stub",
        prompt: `stream ${i} of a benchmark with some words`,
        max_tokens: TOKENS,
      }),
    ),
  );
  const wallS = (performance.now() - startMs) / 1000;
  const tokens = traces.reduce((sum, trace) => sum + (trace.usage?.outputTokens ?? 0), 0);
  const chunks = traces.reduce((sum, trace) => sum + trace.contentTimesMs.length, 0);
  return { tokens, cpuS: cpuSeconds(server.pid) - cpuBefore, wallS, chunks };
};
await round1();
const rounds = [];
for (let i = 0; i < ROUNDS; i++) rounds.push(await round1());
await server.stop();
const perCoreSecond = median(rounds.map(({ tokens, cpuS }) => tokens / cpuS));
report({
  title: `${STREAMS} streams of ${TOKENS} tokens over the stub engine`,
  rows: rounds.map(({ tokens, cpuS, wallS, chunks }) => ({
    tokens,
    gatewayCpuS: cpuS,
    wallS,
    tokensPerSecond: tokens / wallS,
    tokensPerCoreSecond: tokens / cpuS,
    tokensPerEvent: tokens / chunks,
  })),
  result: { tokensPerCoreSecond: round(perCoreSecond) },
});
process.exit(0);
