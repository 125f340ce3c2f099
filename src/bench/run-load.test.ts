import { afterEach, expect, test } from "vitest";
import {
  answerFully,
  BenchServer,
  type BenchServerOptions,
  type Exchange,
  fullStream,
  ManualClock,
  wordsOf,
} from "../../test/support/bench-server.ts";
import { loadOptionsFor } from "../../test/support/load-options.ts";
import { BenchError } from "./options.ts";
import { loadReportSchema } from "./report.ts";
import { type LoadProgress, runLoad } from "./run-load.ts";
import { WORDS } from "./words.ts";

const servers: BenchServer[] = [];

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

async function start(options: BenchServerOptions = {}): Promise<{ server: BenchServer; url: URL }> {
  const server = new BenchServer(options);
  servers.push(server);
  return { server, url: await server.listen() };
}

function environment() {
  const clock = new ManualClock();
  const interrupt = new AbortController();
  const seen: LoadProgress[] = [];
  const waiting: { readonly numCompleted: number; readonly resolve: () => void }[] = [];
  const onProgress = (progress: LoadProgress): void => {
    seen.push(progress);
    for (const { numCompleted, resolve } of waiting) if (progress.numCompleted >= numCompleted) resolve();
  };
  /** Resolves once so many requests have completed; call it before they can. */
  const completed = (numCompleted: number): Promise<void> =>
    new Promise((resolve) => waiting.push({ numCompleted, resolve }));
  const given = { clock, signal: interrupt.signal, startedAt: new Date("2026-01-01T00:00:00Z"), onProgress };
  return { clock, interrupt, seen, completed, given };
}

/** Answers everything at once with as many tokens as were asked for. */
const autoAnswer = (body: Readonly<Record<string, unknown>>): string => fullStream(Number(body.max_tokens));

test("an open loop sends on schedule without waiting for answers, and TTFT counts from the schedule", async () => {
  const { server, url } = await start();
  const { clock, given } = environment();
  const running = runLoad(loadOptionsFor(url), given);
  const exchanges: Exchange[] = [];
  for (const arrivalMs of [0, 100, 200, 300]) {
    clock.advanceTo(arrivalMs);
    exchanges.push(await server.next());
  }
  clock.advanceTo(1000);
  for (const exchange of exchanges) answerFully(exchange, 3);
  const report = await running;
  expect(report.requests).toMatchObject({ scheduled: 4, completed: 4 });
  expect(report.latency.ttftMs).toMatchObject({ count: 4, mean: 850, p50: 800, max: 1000 });
  expect(report.latency.sendDelayMs?.max).toBe(0);
  expect(report.durationMs).toBe(1000);
  expect(report.throughput.outputTokensPerSecond).toBe(12);
});

test("a load generator that wakes up late still counts from the schedule and admits its delay", async () => {
  const { server, url } = await start();
  const { clock, given } = environment();
  const running = runLoad(loadOptionsFor(url), given);
  const first = await server.next();
  clock.advanceTo(350);
  const rest = [await server.next(), await server.next(), await server.next()];
  for (const exchange of [first, ...rest]) answerFully(exchange, 1);
  const { latency } = await running;
  expect(latency.sendDelayMs).toMatchObject({ p50: 50, max: 250 });
  expect(latency.ttftMs).toMatchObject({ mean: 200, max: 350 });
  expect(latency.ttftFromSentMs).toMatchObject({ p50: 0, max: 350 });
});

test("arrivals beyond the bound of requests in flight are dropped and counted", async () => {
  const { server, url } = await start();
  const { clock, given, seen } = environment();
  const running = runLoad(loadOptionsFor(url, { maxInFlight: 2, numRequests: 5 }), given);
  const first = await server.next();
  clock.advanceTo(400);
  const second = await server.next();
  answerFully(first, 1);
  answerFully(second, 1);
  const report = await running;
  expect(report.requests).toEqual({ scheduled: 5, completed: 2, failed: 0, dropped: 3, aborted: 0 });
  expect(server.bodies.length).toBe(2);
  expect(Math.max(...seen.map((progress) => progress.numInFlight))).toBe(2);
});

test("a closed loop keeps its number of requests in flight and schedules each when it is sent", async () => {
  const { server, url } = await start();
  const { clock, given, seen } = environment();
  const arrivals = { kind: "concurrency", numRequests: 2 } as const;
  const running = runLoad(loadOptionsFor(url, { arrivals, numRequests: 4, maxInFlight: 2 }), given);
  const [first, second] = [await server.next(), await server.next()];
  expect(server.bodies.length).toBe(2);
  clock.advanceTo(100);
  answerFully(first, 2);
  const third = await server.next();
  answerFully(second, 2);
  const fourth = await server.next();
  clock.advanceTo(150);
  answerFully(third, 2);
  answerFully(fourth, 2);
  const report = await running;
  expect(report.requests).toMatchObject({ scheduled: 4, completed: 4 });
  expect(report.latency.e2eMs).toMatchObject({ mean: 75, p50: 50, max: 100 });
  expect(report.latency.sendDelayMs?.max).toBe(0);
  expect(Math.max(...seen.map((progress) => progress.numInFlight))).toBe(2);
});

test("a duration ends the arrivals, and what is in flight is awaited", async () => {
  const { server, url } = await start();
  const { clock, given } = environment();
  const running = runLoad(loadOptionsFor(url, { durationMs: 250, numRequests: 1000 }), given);
  const exchanges: Exchange[] = [];
  for (const arrivalMs of [0, 100, 200]) {
    clock.advanceTo(arrivalMs);
    exchanges.push(await server.next());
  }
  clock.advanceTo(5000);
  for (const exchange of exchanges) answerFully(exchange, 1);
  expect((await running).requests).toMatchObject({ scheduled: 3, completed: 3 });
});

test("an interrupt ends the run at once and reports what there is", async () => {
  const { server, url } = await start();
  const { clock, given, interrupt, completed } = environment();
  const running = runLoad(loadOptionsFor(url, { numRequests: 100 }), given);
  const firstCompleted = completed(1);
  answerFully(await server.next(), 3);
  clock.advanceTo(100);
  const open = await server.next();
  await firstCompleted;
  open.response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
  interrupt.abort();
  const report = await running;
  expect(report.isInterrupted).toBe(true);
  expect(report.requests).toEqual({ scheduled: 2, completed: 1, failed: 0, dropped: 0, aborted: 1 });
});

test("each failure is counted by its kind and none stops the run", async () => {
  const { server, url } = await start();
  const { clock, given } = environment();
  const running = runLoad(loadOptionsFor(url, { numRequests: 4 }), given);
  const refuse = await server.next();
  refuse.response.writeHead(503, { "content-type": "application/json" });
  refuse.response.end(JSON.stringify({ error: { message: "queue is full" } }));
  clock.advanceTo(100);
  const cut = await server.next();
  cut.response
    .writeHead(200, { "content-type": "text/event-stream" })
    .end(fullStream(2).replace("data: [DONE]\n\n", ""));
  clock.advanceTo(200);
  (await server.next()).response.destroy();
  clock.advanceTo(300);
  answerFully(await server.next(), 3);
  const report = await running;
  expect(report.requests).toMatchObject({ completed: 1, failed: 3 });
  expect(new Map(report.failures.map(({ kind, count }) => [kind, count]))).toEqual(
    new Map([
      ["http_503", 1],
      ["truncated", 1],
      ["connection_lost", 1],
    ]),
  );
  expect(loadReportSchema.parse(JSON.parse(JSON.stringify(report)))).toEqual(report);
});

test("requests carry exact lengths, streaming with usage, and the key", async () => {
  const { server, url } = await start({ tokenize: "twofold", overheadTokens: 1 });
  const { given } = environment();
  const running = runLoad(loadOptionsFor(url, { numRequests: 1, apiKey: "secret-key" }), given);
  const exchange = await server.next();
  expect(exchange.headers.authorization).toBe("Bearer secret-key");
  expect(exchange.body).toMatchObject({
    model: "fake-model",
    max_tokens: 3,
    min_tokens: 3,
    ignore_eos: true,
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
  });
  expect(wordsOf(exchange.body).length + 1).toBe(20);
  answerFully(exchange, 3);
  expect((await running).prompts).toEqual({
    method: "tokenize",
    isExact: true,
    tokensPerWord: 1,
    overheadTokens: 2,
  });
});

test("words of several tokens are left out when lengths are to be exact", async () => {
  const twoTokenWords = WORDS.filter((_, index) => index % 2 === 0);
  const { server, url } = await start({ tokenize: "twofold", twoTokenWords, autoAnswer });
  const report = await runLoad(
    loadOptionsFor(url, { inputLengths: { kind: "fixed", tokens: 300 }, numRequests: 1 }),
    environment().given,
  );
  const used = new Set(server.bodies.flatMap((body) => wordsOf(body)));
  expect(report.prompts.isExact).toBe(true);
  expect(twoTokenWords.filter((word) => used.has(word))).toEqual([]);
});

test.each(["vllm", "llama-server", "twofold"] as const)(
  "lengths are exact with the /tokenize of %s",
  async (tokenize) => {
    const { server, url } = await start({ tokenize, autoAnswer, overheadTokens: 2 });
    const report = await runLoad(loadOptionsFor(url, { numRequests: 1 }), environment().given);
    expect(report.prompts).toMatchObject({ method: "tokenize", isExact: true, overheadTokens: 3 });
    expect(wordsOf(server.bodies[0]!).length + 2).toBe(20);
  },
);

test("without /tokenize tokens per word and overhead are measured by usage", async () => {
  const { server, url } = await start({ tokensPerWord: 1.5, overheadTokens: 12, autoAnswer });
  const options = loadOptionsFor(url, {
    endpoint: "chat",
    inputLengths: { kind: "fixed", tokens: 312 },
    numRequests: 1,
  });
  const report = await runLoad(options, environment().given);
  expect(report.prompts).toMatchObject({ method: "usage", isExact: false, tokensPerWord: 1.5 });
  const tokens = Math.round(wordsOf(server.bodies[0]!).length * 1.5) + 12;
  expect(Math.abs(tokens - 312)).toBeLessThanOrEqual(2);
});

test("without usage one token per word is assumed, and the report says so", async () => {
  const { url } = await start({ usage: false, autoAnswer });
  const report = await runLoad(loadOptionsFor(url, { numRequests: 1 }), environment().given);
  expect(report.prompts).toMatchObject({ method: "assumed", isExact: false });
});

test("warm-up requests are sent and not measured", async () => {
  const { server, url } = await start({ autoAnswer });
  const { given, clock } = environment();
  const running = runLoad(loadOptionsFor(url, { numWarmupRequests: 5, numRequests: 1 }), given);
  clock.advanceTo(10);
  const report = await running;
  expect(server.bodies.length).toBe(6);
  expect(report.requests.scheduled).toBe(1);
});

test("outputs may end early when the server is not told to go on", async () => {
  const { server, url } = await start({ autoAnswer });
  await runLoad(loadOptionsFor(url, { ignoreEos: false, numRequests: 1 }), environment().given);
  expect(server.bodies[0]).not.toHaveProperty("ignore_eos");
  expect(server.bodies[0]).not.toHaveProperty("min_tokens");
});

test("the same seed sends the same requests in the same order, another seed others", async () => {
  const send = async (seed: number): Promise<unknown[]> => {
    const { server, url } = await start({ autoAnswer });
    const arrivals = { kind: "concurrency", numRequests: 1 } as const;
    const lengths = { kind: "uniform", min: 5, max: 40 } as const;
    await runLoad(
      loadOptionsFor(url, { arrivals, seed, inputLengths: lengths, outputLengths: lengths }),
      environment().given,
    );
    return [...server.bodies];
  };
  const first = await send(1);
  expect(first.length).toBe(4);
  expect(await send(1)).toEqual(first);
  expect(await send(2)).not.toEqual(first);
});

test("a server that refuses a plain request or lists no model ends the run with its reason", async () => {
  const { url } = await start();
  const unknown = new URL("http://127.0.0.1:9/");
  await expect(runLoad(loadOptionsFor(unknown), environment().given)).rejects.toThrow(
    /cannot reach http:\/\/127\.0\.0\.1:9/,
  );
  const wrongPath = new URL("/elsewhere", url);
  const notFound = runLoad(loadOptionsFor(wrongPath), environment().given);
  await expect(notFound).rejects.toThrow(BenchError);
});
