import { expect, test } from "vitest";
import { z } from "zod";
import type { LoadOptions } from "./options.ts";
import { type RequestRecord, toRecord } from "./record.ts";
import { type LoadResult, loadReportSchema, makeReport, meetsSlo } from "./report.ts";
import { renderReport } from "./report-table.ts";

const OPTIONS: LoadOptions = {
  url: new URL("http://127.0.0.1:8080"),
  endpoint: "completions",
  model: null,
  apiKey: null,
  arrivals: { kind: "poisson", requestsPerSecond: 5 },
  numRequests: 3,
  durationMs: null,
  inputLengths: { kind: "uniform", min: 10, max: 20 },
  outputLengths: { kind: "fixed", tokens: 3 },
  sharedPrefixShare: 0,
  ignoreEos: true,
  temperature: 0,
  seed: 1,
  numWarmupRequests: 0,
  maxInFlight: 10,
  requestTimeoutMs: 1000,
  slo: { ttftMs: null, itlMs: null, e2eMs: null },
};

function record(
  times: { scheduled?: number; sent?: number; content: number[]; end: number },
  more: Partial<RequestRecord> = {},
): RequestRecord {
  const { scheduled = 0, sent = scheduled, content, end } = times;
  const usage = { inputTokens: 10, outputTokens: content.length, cachedTokens: 2 };
  const trace = {
    sentMs: sent,
    contentTimesMs: content,
    contentTokens: null,
    endMs: end,
    usage,
    failure: null,
  };
  return { ...toRecord(scheduled, 3, trace), ...more };
}

function resultOf(records: readonly RequestRecord[], more: Partial<LoadResult> = {}): LoadResult {
  return {
    startedAt: "2026-01-01T00:00:00.000Z",
    isInterrupted: false,
    model: "m",
    calibration: { method: "tokenize", words: [], tokensPerWord: 1, overheadTokens: 0 },
    records,
    numDropped: 0,
    startMs: 0,
    endMs: 2000,
    gapsMs: new Float64Array([10, 20]),
    numGapsSeen: 2,
    ...more,
  };
}

test("each metric follows its definition on a request worked out by hand", () => {
  const report = makeReport(
    OPTIONS,
    resultOf([record({ scheduled: 100, sent: 105, content: [150, 170, 200], end: 220 })]),
  );
  expect(report.latency.ttftMs?.p50).toBe(50);
  expect(report.latency.ttftFromSentMs?.p50).toBe(45);
  expect(report.latency.e2eMs?.p50).toBe(120);
  expect(report.latency.tpotMs?.p50).toBe((120 - 50) / 2);
  expect(report.latency.sendDelayMs?.p50).toBe(5);
  expect(report.latency.itlMs).toMatchObject({ count: 2, mean: 15, max: 20 });
  expect(report.throughput).toEqual({
    requestsPerSecond: 0.5,
    inputTokensPerSecond: 5,
    outputTokensPerSecond: 1.5,
  });
  expect(report.tokens).toEqual({
    input: 10,
    cachedInput: 2,
    output: 3,
    requestedOutput: 3,
    countedBy: "usage",
    contentChunks: 3,
  });
});

test("failed, aborted and dropped requests are counted apart and leave latencies alone", () => {
  const failure = { kind: "http_503", message: "queue is full" } as const;
  const records = [
    record({ content: [10, 20, 30], end: 40 }),
    record({ content: [], end: 999 }, { failure }),
    record({ content: [], end: 999 }, { failure: { ...failure, message: "later" } }),
    record({ content: [1], end: 999 }, { failure: { kind: "truncated", message: "cut" } }),
    record({ content: [], end: 999 }, { failure: { kind: "aborted", message: "stop" } }),
  ];
  const report = makeReport(OPTIONS, resultOf(records, { numDropped: 4, isInterrupted: true }));
  expect(report.requests).toEqual({ scheduled: 9, completed: 1, failed: 3, dropped: 4, aborted: 1 });
  expect(report.failures).toEqual([
    { kind: "http_503", count: 2, example: "queue is full" },
    { kind: "truncated", count: 1, example: "cut" },
  ]);
  expect(report.latency.e2eMs).toMatchObject({ count: 1, max: 40 });
  expect(report.isInterrupted).toBe(true);
});

test("goodput counts completed requests within every bound, over all that were not aborted", () => {
  const slo = { ttftMs: 100, itlMs: 15, e2eMs: 200 };
  const records = [
    record({ content: [100, 115, 130], end: 200 }),
    record({ content: [101, 110, 120], end: 130 }),
    record({ content: [50, 70, 90], end: 95 }),
    record({ content: [50, 60, 70], end: 201 }),
    record({ content: [50], end: 60 }, { failure: { kind: "truncated", message: "" } }),
    record({ content: [], end: 60 }, { failure: { kind: "aborted", message: "" } }),
  ];
  expect(records.map((entry) => meetsSlo(entry, slo))).toEqual([true, false, false, false, false, false]);
  const report = makeReport({ ...OPTIONS, slo }, resultOf(records, { numDropped: 5 }));
  expect(report.goodput).toEqual({ requestsPerSecond: 0.5, good: 1, share: 1 / 10 });
  expect(makeReport(OPTIONS, resultOf(records)).goodput).toBeNull();
});

test("without usage tokens are counted by chunks, and the report says so", () => {
  const records = [
    record({ content: [1, 2], end: 3 }),
    record({ content: [1, 2, 3], end: 4 }, { usage: null }),
  ];
  expect(makeReport(OPTIONS, resultOf(records)).tokens).toMatchObject({ output: 5, countedBy: "mixed" });
  expect(makeReport(OPTIONS, resultOf(records.slice(1))).tokens).toMatchObject({
    output: 3,
    countedBy: "chunks",
  });
});

test("a run without a single request has a report of zeros and nulls that fits the schema", () => {
  const report = makeReport(OPTIONS, resultOf([], { endMs: 0, gapsMs: new Float64Array(), numGapsSeen: 0 }));
  expect(loadReportSchema.parse(JSON.parse(JSON.stringify(report)))).toEqual(report);
  expect(report.latency.ttftMs).toBeNull();
  expect(report.throughput.requestsPerSecond).toBe(0);
  expect(renderReport(report)).toContain("0 completed of 0");
});

test("the schema of the report changes only together with its version", async () => {
  const schema = JSON.stringify(z.toJSONSchema(loadReportSchema), null, 2);
  await expect(`${schema}\n`).toMatchFileSnapshot("report-schema.snap");
});

test("the table shows load, quantiles, goodput and failures", () => {
  const records = [
    record(
      { scheduled: 0, sent: 60, content: [150, 170, 200], end: 220 },
      { usage: { inputTokens: 10, outputTokens: 6, cachedTokens: 0 } },
    ),
    record({ content: [], end: 9 }, { failure: { kind: "connect", message: "refused" } }),
  ];
  const slo = { ttftMs: 500, itlMs: null, e2eMs: 1000 };
  const report = makeReport({ ...OPTIONS, slo }, resultOf(records, { numGapsSeen: 5 }));
  expect(renderReport(report)).toMatchInlineSnapshot(`
    "http://127.0.0.1:8080/  completions  model m
    load        poisson 5.00 requests/s, ISL uniform:10:20, OSL 3, seed 1
    prompts     exact lengths by /tokenize
    requests    1 completed of 2; 1 failed, 0 dropped, 0 aborted
    duration    2.00 s
    throughput  0.50 requests/s, 3.00 output tokens/s, 5.00 input tokens/s
    tokens      6 output of 3 requested (by usage) in 3 chunks; 10 input, 0 of them cached

    ms                    mean       p50       p90       p95       p99     p99.9       max
    TTFT                   150       150       150       150       150       150       150
    TTFT from sent        90.0      90.0      90.0      90.0      90.0      90.0      90.0
    ITL                   15.0      10.0      20.0      20.0      20.0      20.0      20.0
    TPOT                  14.0      14.0      14.0      14.0      14.0      14.0      14.0
    E2E                    220       220       220       220       220       220       220
    send delay            30.0      0.00      60.0      60.0      60.0      60.0      60.0

    goodput     0.50 requests/s, 50.0 % of requests (TTFT ≤ 500 ms, E2E ≤ 1000 ms)
    failed      1 × connect: refused
    note        the load generator was late itself (p99 60.0 ms): use a lower rate or an idle machine
    note        ITL quantiles are of a uniform sample of 2 of 5 gaps
    note        2.00 tokens per chunk: ITL is between chunks, TPOT between tokens
    "
  `);
});
