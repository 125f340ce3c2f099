import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createServer, type Server } from "node:net";
import { Agent, type Dispatcher } from "undici";
import { expect, test } from "vitest";
import { event, fullStream, ManualClock } from "../../test/support/bench-server.ts";
import { callCompletion } from "./completion-call.ts";
import type { ResponseTrace } from "./record.ts";

const REQUEST = { origin: "http://test", path: "/v1/completions", headers: {}, body: "{}", timeoutMs: 1000 };
const EVENT_STREAM = { "content-type": "text/event-stream; charset=utf-8" };

/** A call whose bytes and time the test decides. */
class ScriptedCall {
  readonly clock = new ManualClock();
  readonly interrupt = new AbortController();
  readonly trace: Promise<ResponseTrace>;
  abortReason: Error | null = null;
  #handler: Dispatcher.DispatchHandler = {};
  readonly #controller: Dispatcher.DispatchController;

  constructor(startMs = 0) {
    this.clock.advanceTo(startMs);
    this.#controller = {
      aborted: false,
      paused: false,
      reason: null,
      abort: (reason) => {
        this.abortReason = reason;
      },
      pause: () => undefined,
      resume: () => undefined,
    };
    const dispatch = (_: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean => {
      this.#handler = handler;
      return true;
    };
    this.trace = callCompletion({ dispatch }, REQUEST, this.clock, this.interrupt.signal);
    this.#handler.onRequestStart?.(this.#controller, null);
  }

  head(status = 200, headers: Record<string, string> = EVENT_STREAM): this {
    this.#handler.onResponseStart?.(this.#controller, status, headers);
    return this;
  }

  data(text: string | Buffer, timeMs = this.clock.nowMs()): this {
    this.clock.advanceTo(timeMs);
    this.#handler.onResponseData?.(this.#controller, Buffer.from(text));
    return this;
  }

  end(timeMs = this.clock.nowMs()): this {
    this.clock.advanceTo(timeMs);
    this.#handler.onResponseEnd?.(this.#controller, {});
    return this;
  }
}

const text = (content: string, reason: string | null = null): string =>
  event({ choices: [{ index: 0, text: content, finish_reason: reason }] });
const delta = (value: object, reason: string | null = null): string =>
  event({ choices: [{ index: 0, delta: value, finish_reason: reason }] });

test("content chunks are timed when they arrive; roles, empty text, pings and usage are not content", async () => {
  const call = new ScriptedCall(50);
  call
    .head()
    .data(delta({ role: "assistant", content: "" }), 60)
    .data(": ping\n\n", 70);
  call.data(delta({ content: "A" }), 100).data(delta({ reasoning_content: "B" }), 130);
  call.data(delta({}, "stop"), 140);
  const usage = { prompt_tokens: 7, completion_tokens: 2, prompt_tokens_details: { cached_tokens: 4 } };
  call.data(`${event({ choices: [], usage })}data: [DONE]\n\n`, 150).end(160);
  expect(await call.trace).toEqual({
    sentMs: 50,
    contentTimesMs: [100, 130],
    contentTokens: null,
    endMs: 160,
    usage: { inputTokens: 7, outputTokens: 2, cachedTokens: 4 },
    failure: null,
  });
});

test("tokens are those that each event with content told of, if all did", async () => {
  const told = (content: string, completion_tokens: number, reason: string | null = null): string =>
    event({
      choices: [{ index: 0, text: content, finish_reason: reason }],
      usage: { prompt_tokens: 7, completion_tokens },
    });
  const call = new ScriptedCall();
  call
    .head()
    .data(`${told("a", 1)}${told("", 2)}${told("b", 3)}${told("", 3, "stop")}data: [DONE]\n\n`, 8)
    .end();
  expect(await call.trace).toMatchObject({ contentTokens: [1, 3], usage: { outputTokens: 3 } });
  const other = new ScriptedCall();
  other
    .head()
    .data(`${told("a", 1)}${text("b", "stop")}data: [DONE]\n\n`, 8)
    .end();
  expect(await other.trace).toMatchObject({ contentTokens: null });
});

test("an event that the network cuts counts when its last byte is there", async () => {
  const call = new ScriptedCall();
  const chunk = text("hello", "length");
  call.head().data(chunk.slice(0, 10), 5).data(chunk.slice(10), 9).data("data: [DONE]\n\n", 9).end(9);
  expect(await call.trace).toMatchObject({ contentTimesMs: [9], failure: null });
});

test("two events in one network chunk arrive at the same time", async () => {
  const call = new ScriptedCall();
  call
    .head()
    .data(`${text("a")}${text("b", "length")}data: [DONE]\n\n`, 8)
    .end();
  expect(await call.trace).toMatchObject({ contentTimesMs: [8, 8], failure: null });
});

test.each([
  ["without finish_reason", `${text("a")}data: [DONE]\n\n`],
  ["without [DONE]", text("a", "length")],
  ["without finish_reason", ""],
])("a stream that ends %s is truncated", async (what, stream) => {
  const call = new ScriptedCall();
  call.head().data(stream).end();
  expect((await call.trace).failure).toEqual({ kind: "truncated", message: `the stream ended ${what}` });
});

test.each([
  ["data: {not json}\n\n", "an event is not JSON"],
  ["data: 3\n\n", "an event is not an object"],
  ["data: []\n\n", "an event is not an object"],
])("the event %j is malformed and ends the call", async (stream, message) => {
  const call = new ScriptedCall();
  call.head().data(text("a"), 3).data(stream, 4);
  expect(await call.trace).toMatchObject({
    contentTimesMs: [3],
    endMs: 4,
    failure: { kind: "malformed", message },
  });
  expect(call.abortReason?.message).toBe(message);
});

test("bytes that are not UTF-8 are malformed", async () => {
  const call = new ScriptedCall();
  call.head().data(Buffer.from([0xc3, 0x28]));
  expect((await call.trace).failure).toEqual({ kind: "malformed", message: "the stream is not UTF-8" });
});

test("an error inside the stream is reported with its message", async () => {
  const call = new ScriptedCall();
  call
    .head()
    .data(text("a"))
    .data(event({ error: { message: "worker lost", code: "worker_lost" } }));
  expect((await call.trace).failure).toEqual({ kind: "stream_error", message: "worker lost" });
});

test("an error status is reported with the message of its body, in whatever form", async () => {
  const envelope = new ScriptedCall()
    .head(503, {})
    .data('{"error":{"mess')
    .data('age":"queue is full"}}')
    .end();
  expect((await envelope.trace).failure).toEqual({ kind: "http_503", message: "queue is full" });
  const plain = new ScriptedCall().head(404, {}).data("no\n such page").end();
  expect((await plain.trace).failure).toEqual({ kind: "http_404", message: "no such page" });
  const empty = new ScriptedCall().head(500, {}).end();
  expect((await empty.trace).failure).toEqual({ kind: "http_500", message: "status 500" });
});

test("an endless error body is cut off", async () => {
  const call = new ScriptedCall().head(500, {});
  for (let index = 0; index < 20; index++) call.data("x".repeat(1000));
  expect((await call.trace).failure?.kind).toBe("http_500");
  expect((await call.trace).failure?.message.length).toBeLessThan(300);
  expect(call.abortReason).not.toBeNull();
});

test("an answer that is no event stream is refused by its content type", async () => {
  const call = new ScriptedCall().head(200, { "content-type": "application/json" });
  expect((await call.trace).failure).toMatchObject({ kind: "not_a_stream" });
});

test("a response that does not end in time is a timeout and is aborted", async () => {
  const call = new ScriptedCall(100);
  call.head().data(text("a"), 500);
  call.clock.advanceTo(1100);
  expect(await call.trace).toMatchObject({
    contentTimesMs: [500],
    endMs: 1100,
    failure: { kind: "timeout" },
  });
  expect(call.abortReason).not.toBeNull();
});

test("an interrupt aborts the call, and what comes later changes nothing", async () => {
  const call = new ScriptedCall();
  call.head().data(text("a"), 3);
  call.interrupt.abort();
  call.data(fullStream(3), 9).end();
  expect(await call.trace).toMatchObject({ contentTimesMs: [3], endMs: 3, failure: { kind: "aborted" } });
});

test("usage that makes no sense is ignored", async () => {
  const call = new ScriptedCall();
  const usage = { prompt_tokens: -1, completion_tokens: "2" };
  call
    .head()
    .data(`${text("a", "length")}${event({ choices: [], usage })}data: [DONE]\n\n`)
    .end();
  expect(await call.trace).toMatchObject({ usage: null, failure: null });
});

async function callTcp(server: Server): Promise<ResponseTrace> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const agent = new Agent();
  const origin = `http://127.0.0.1:${port}`;
  try {
    return await callCompletion(
      agent,
      { ...REQUEST, origin },
      new ManualClock(),
      new AbortController().signal,
    );
  } finally {
    await agent.destroy();
    server.close();
  }
}

test("a connection that breaks in the middle of a stream is lost", async () => {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => {
      const head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
      const chunk = text("a");
      socket.write(`${head}${chunk.length.toString(16)}\r\n${chunk}\r\n`, () => socket.destroy());
    });
  });
  const trace = await callTcp(server);
  expect(trace.failure?.kind).toBe("connection_lost");
  expect(trace.contentTimesMs.length).toBe(1);
});

test("a port that nobody listens on is a failed connection", async () => {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  const agent = new Agent();
  const origin = `http://127.0.0.1:${port}`;
  const trace = await callCompletion(
    agent,
    { ...REQUEST, origin },
    new ManualClock(),
    new AbortController().signal,
  );
  await agent.destroy();
  expect(trace.failure?.kind).toBe("connect");
});
