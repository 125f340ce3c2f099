import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { temporaryFolder } from "../../../test/support/link-support.ts";
import { IDLE_LOAD, RecordingService, TEST_TOKEN } from "../../../test/support/link-worker.ts";
import { makeRequest } from "../../../test/support/make.ts";
import { ServingError } from "../../protocol/errors.ts";
import { decodeEvent } from "../../protocol/event-codec.ts";
import { encodeSubmission } from "../../protocol/request-codec.ts";
import type { WorkerEvent } from "../../protocol/worker-rpc.ts";
import { createRpcServer, type RpcServer, type RpcServerOptions } from "./rpc-server.ts";

let folder: ReturnType<typeof temporaryFolder>;
let service: RecordingService;
let server: RpcServer;
let internalErrors: unknown[];

const socketPath = () => join(folder.path, "rpc.sock");

async function start(options: Partial<RpcServerOptions> = {}): Promise<void> {
  server = createRpcServer(service, {
    token: TEST_TOKEN,
    onInternalError: (error) => internalErrors.push(error),
    ...options,
  });
  await server.listen(`unix:${socketPath()}`);
}

beforeEach(() => {
  folder = temporaryFolder();
  service = new RecordingService();
  internalErrors = [];
});

afterEach(async () => {
  await server.close();
  folder.remove();
});

interface Call {
  readonly method?: string;
  readonly path: string;
  readonly token?: string | null;
  readonly body?: string | Buffer;
}

async function open({ method = "GET", path, token = TEST_TOKEN, body }: Call): Promise<IncomingMessage> {
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  const request = httpRequest({ socketPath: socketPath(), method, path, headers, agent: false });
  request.end(body);
  const [response] = (await once(request, "response")) as [IncomingMessage];
  return response;
}

async function call(options: Call): Promise<{ status: number | undefined; body: unknown }> {
  const response = await open(options);
  const text = await readAll(response);
  return { status: response.statusCode, body: text === "" ? null : JSON.parse(text) };
}

async function readAll(response: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of response) text += String(chunk);
  return text;
}

const post = (path: string, body: string | Buffer) => call({ method: "POST", path, body });
const code = (name: string) => ({ error: expect.objectContaining({ code: name }) });

describe("worker RPC", () => {
  it("says who the worker is", async () => {
    await start();
    expect(await call({ path: "/v1/worker" })).toEqual({ status: 200, body: service.greeting });
  });

  it("passes submissions and cancels on to the worker", async () => {
    await start();
    const request = makeRequest({ id: "r:1" });
    const assignment = { kind: "decode", prefillWorker: "w2" } as const;
    expect(await post("/v1/requests", Buffer.concat(encodeSubmission(request, assignment)))).toEqual({
      status: 204,
      body: null,
    });
    expect(await post("/v1/requests/r:1/cancel", '{"epoch":3}')).toEqual({ status: 204, body: null });
    expect(service.calls.items).toEqual([
      { kind: "submit", request, assignment },
      { kind: "cancel", requestId: "r:1", epoch: 3 },
    ]);
  });

  it("asks for the token on every route and says no more without it", async () => {
    await start({ onDrain: () => expect.unreachable() });
    const calls: Call[] = [
      { path: "/v1/worker" },
      { path: "/v1/events" },
      { method: "POST", path: "/v1/requests", body: "{}" },
      { method: "POST", path: "/v1/requests/r/cancel", body: '{"epoch":0}' },
      { method: "POST", path: "/v1/drain" },
      { path: "/nowhere" },
    ];
    for (const each of calls) {
      for (const token of [null, "", "wrong", `${TEST_TOKEN}x`, TEST_TOKEN.slice(1)]) {
        expect(await call({ ...each, token })).toEqual({ status: 401, body: code("invalid_api_key") });
      }
    }
    expect(service.calls.items).toEqual([]);
    expect(service.subscriptions.items).toEqual([]);
    expect(() => createRpcServer(service, { token: "short" })).toThrow("at least 32 characters");
  });

  it("answers unknown routes and wrong methods with the error envelope", async () => {
    await start();
    expect(await call({ path: "/v1/workers" })).toEqual({ status: 404, body: code("not_found") });
    expect(await call({ path: "/v1/requests/a/b/cancel" })).toEqual({ status: 404, body: code("not_found") });
    expect(await post("/v1/drain", "{}")).toEqual({ status: 404, body: code("not_found") });
    expect(await post("/v1/worker", "{}")).toEqual({ status: 405, body: code("method_not_allowed") });
    expect(await call({ path: "/v1/requests" })).toEqual({ status: 405, body: code("method_not_allowed") });
  });

  it("refuses bodies that are not JSON, not valid or too large", async () => {
    await start({ limits: { maxBodyBytes: 1000 } });
    expect(await post("/v1/requests", "{")).toEqual({ status: 400, body: code("invalid_json") });
    expect(await post("/v1/requests", "{}")).toEqual({ status: 400, body: code("invalid_value") });
    expect(await post("/v1/requests", Buffer.alloc(1001, "x"))).toEqual({
      status: 413,
      body: code("request_too_large"),
    });
    expect(await post("/v1/requests/r/cancel", '{"epoch":-1}')).toEqual({
      status: 400,
      body: code("invalid_value"),
    });
    expect(await post("/v1/requests/%20/cancel", '{"epoch":1}')).toEqual({
      status: 400,
      body: code("invalid_value"),
    });
    expect(service.calls.items).toEqual([]);
  });

  it("passes the worker's refusals on, and keeps other failures to itself and the log", async () => {
    await start();
    const submission = Buffer.concat(encodeSubmission(makeRequest(), { kind: "local" }));
    service.refusal = new ServingError("queue_full", "16 requests wait already", { param: "priority" });
    expect(await post("/v1/requests", submission)).toEqual({
      status: 503,
      body: {
        error: {
          message: "16 requests wait already",
          type: "server_overloaded",
          param: "priority",
          code: "queue_full",
        },
      },
    });
    service.refusal = new Error("secret detail");
    const { status, body } = await post("/v1/requests", submission);
    expect({ status, body }).toEqual({ status: 500, body: code("internal_error") });
    expect(JSON.stringify(body)).not.toContain("secret detail");
    expect(internalErrors).toEqual([service.refusal]);
  });

  it("drains when it can", async () => {
    let drains = 0;
    await start({ onDrain: () => drains++ });
    expect(await post("/v1/drain", "")).toEqual({ status: 204, body: null });
    expect(drains).toBe(1);
  });

  it("streams the events of one turn in one chunk, in order", async () => {
    await start();
    const response = await open({ path: "/v1/events" });
    expect(response.headers["x-twofold-worker"]).toBe("w1");
    const events: WorkerEvent[] = [
      { kind: "cached", requestId: "r", epoch: 0, numTokens: 16 },
      { kind: "tokens", tokens: [{ requestId: "r", epoch: 0, index: 0, sampled: { token: 7 } }] },
      { kind: "finish", requestId: "r", epoch: 0, reason: "stop", numOutputTokens: 1 },
    ];
    for (const event of events) service.emit(event);
    const [chunk] = (await once(response, "data")) as [Buffer];
    const lines = chunk.toString().split("\n");
    expect(lines.pop()).toBe("");
    expect(lines.map(decodeEvent)).toEqual(events);
    response.destroy();
    await service.subscriptions.until((counts) => counts.at(-1) === 0);
  });

  it("cuts a subscriber that does not read, and only that one", async () => {
    await start({ limits: { maxBufferedBytes: 100_000 } });
    const silent = connect(socketPath());
    silent.on("error", () => undefined);
    silent.write(`GET /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${TEST_TOKEN}\r\n\r\n`);
    await service.subscriptions.atLeast(1);
    const reader = await open({ path: "/v1/events" });
    let lines = 0;
    reader.on("data", (chunk: Buffer) => {
      for (const byte of chunk) if (byte === 0x0a) lines++;
    });
    await service.subscriptions.until((counts) => counts.at(-1) === 2);
    let emitted = 0;
    while (service.subscriptions.items.at(-1) === 2 && emitted < 10_000) {
      service.emit({ kind: "load", load: IDLE_LOAD });
      emitted++;
      if (emitted % 50 === 0) await once(reader, "data");
    }
    expect(service.subscriptions.items.at(-1)).toBe(1);
    while (lines < emitted) await once(reader, "data");
    expect(lines).toBe(emitted);
    reader.destroy();
    silent.destroy();
  });

  it("bounds the number of subscribers", async () => {
    await start({ limits: { maxSubscribers: 1 } });
    const first = await open({ path: "/v1/events" });
    expect(await call({ path: "/v1/events" })).toEqual({ status: 503, body: code("queue_full") });
    first.destroy();
    await service.subscriptions.until((counts) => counts.at(-1) === 0);
    const second = await open({ path: "/v1/events" });
    expect(second.statusCode).toBe(200);
    second.destroy();
  });

  it("ends event streams when it closes", async () => {
    await start();
    const response = await open({ path: "/v1/events" });
    const ended = new Promise<void>((resolve) => response.on("close", resolve));
    response.on("error", () => undefined).resume();
    await server.close();
    await ended;
    await service.subscriptions.until((counts) => counts.at(-1) === 0);
    expect(service.subscriptions.items).toEqual([1, 0]);
  });

  it("survives bytes that are not HTTP", async () => {
    await start();
    const stranger = connect(socketPath());
    stranger.on("error", () => undefined).resume();
    stranger.write("\x16\x03\x01 this is not HTTP\r\n\r\n");
    await once(stranger, "close");
    expect((await call({ path: "/v1/worker" })).status).toBe(200);
  });
});
