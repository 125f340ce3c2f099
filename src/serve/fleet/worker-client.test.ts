import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Recorder, temporaryFolder } from "../../../test/support/link-support.ts";
import { ManualTimers } from "../../../test/support/link-timers.ts";
import { IDLE_LOAD, makeHello, RecordingService, TEST_TOKEN } from "../../../test/support/link-worker.ts";
import { makeRequest } from "../../../test/support/make.ts";
import { ServingError } from "../../protocol/errors.ts";
import { PROTOCOL_VERSION, type WorkerEvent } from "../../protocol/worker-rpc.ts";
import { createRpcServer, type RpcServer } from "../worker/rpc-server.ts";
import { connectWorker, type WorkerClient, type WorkerClientOptions } from "./worker-client.ts";

let folder: ReturnType<typeof temporaryFolder>;
let service: RecordingService;
let server: RpcServer;
let events: Recorder<WorkerEvent>;
let losses: Recorder<string>;
let cleanups: Array<() => unknown>;

const address = () => `unix:${join(folder.path, "rpc.sock")}`;

beforeEach(() => {
  folder = temporaryFolder();
  service = new RecordingService();
  server = createRpcServer(service, { token: TEST_TOKEN });
  events = new Recorder();
  losses = new Recorder();
  cleanups = [];
});

afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
  await server.close();
  folder.remove();
});

async function connect(options: Partial<WorkerClientOptions> = {}): Promise<WorkerClient> {
  const client = await connectWorker({
    address: address(),
    token: TEST_TOKEN,
    onEvent: events.add,
    onLost: losses.add,
    ...options,
  });
  cleanups.push(() => client.close());
  return client;
}

/** A server that answers as the test says, in place of a real worker. */
async function pretend(listener: RequestListener): Promise<Server> {
  const http = createServer(listener);
  cleanups.push(() => {
    http.close();
    http.closeAllConnections();
  });
  http.listen(join(folder.path, "rpc.sock"));
  await once(http, "listening");
  return http;
}

const hello = JSON.stringify(makeHello());
const tokens = (index: number): WorkerEvent => ({
  kind: "tokens",
  tokens: [{ requestId: "r", epoch: 0, index, sampled: { token: index } }],
});

describe("worker client", () => {
  it("learns who the worker is and hears its events in order", async () => {
    await server.listen(address());
    const client = await connect();
    expect(client.hello).toEqual(makeHello());
    const sent = Array.from({ length: 200 }, (_, i) => tokens(i));
    for (const event of sent) service.emit(event);
    await events.atLeast(200);
    expect(events.items).toEqual(sent);
  });

  it("tells what is expected of a conversation, and hears what is wrong with that", async () => {
    await server.listen(address());
    const client = await connect();
    const expectation = {
      lastHash: Int32Array.of(1, -2, 3, 4),
      ...{ numBlocks: 7, earlyMs: 10.5, lateMs: 1000, probability: 0.9 },
      owner: { cacheSalt: "a", cacheShare: 0.5, publicBlocks: 2 },
    };
    await client.expect(expectation);
    expect(service.calls.items).toEqual([{ kind: "expect", expectation }]);
    const refused = { code: "invalid_value", param: "probability" };
    await expect(client.expect({ ...expectation, probability: 2 })).rejects.toMatchObject(refused);
    const short = { ...expectation, lastHash: Int32Array.of(1) };
    await expect(client.expect(short)).rejects.toMatchObject({ ...refused, param: "lastHash" });
  });

  it("asks for reports when they are wanted, and for a snapshot of the caches", async () => {
    await server.listen(address());
    const client = await connect({ reports: true });
    await connect();
    expect(service.reports).toEqual([true, false]);
    const event: WorkerEvent = { kind: "kv", batch: { sequence: 1, isSnapshot: true, events: [] } };
    service.emit(event);
    await events.atLeast(1);
    expect(events.items[0]).toEqual(event);
    await client.snapshotKv();
    expect(service.calls.items).toEqual([{ kind: "snapshot-kv" }]);
  });

  it("works over TCP on loopback", async () => {
    const actual = await server.listen("tcp:127.0.0.1:0");
    const client = await connect({ address: actual });
    await client.submit(makeRequest(), { kind: "local" });
    expect(service.calls.items).toHaveLength(1);
    await expect(connect({ address: "tcp:192.0.2.1:1" })).rejects.toThrow("not encrypted");
  });

  it("submits requests and passes the worker's refusal on as it is", async () => {
    await server.listen(address());
    const client = await connect();
    const request = makeRequest({ id: "r1", resumed: [4, 5] });
    await client.submit(request, { kind: "local" });
    expect(service.calls.items).toEqual([{ kind: "submit", request, assignment: { kind: "local" } }]);
    service.refusal = new ServingError("draining", "this worker is shutting down");
    await expect(client.submit(request, { kind: "local" })).rejects.toMatchObject({
      name: "ServingError",
      code: "draining",
      message: "this worker is shutting down",
    });
    service.refusal = null;
    const invalid = makeRequest({ id: "not an id" });
    await expect(client.submit(invalid, { kind: "local" })).rejects.toMatchObject({
      code: "invalid_value",
      param: "request.id",
    });
  });

  it("cancels after the submit of the same id, although calls run side by side", async () => {
    await server.listen(address());
    const client = await connect();
    const calls: Array<Promise<void>> = [];
    for (let i = 0; i < 50; i++) {
      // A long prompt takes longer on its way than the cancel behind it.
      const prompt = new Int32Array(i % 2 === 0 ? 50_000 : 1);
      calls.push(client.submit(makeRequest({ id: `r${i}`, prompt }), { kind: "local" }));
      calls.push(client.cancel(`r${i}`, 0));
    }
    await Promise.all(calls);
    for (let i = 0; i < 50; i++) {
      const order = service.calls.items
        .filter((call) => call.kind === "submit" || call.kind === "cancel")
        .filter((call) => (call.kind === "submit" ? call.request.id : call.requestId) === `r${i}`)
        .map((call) => call.kind);
      expect(order).toEqual(["submit", "cancel"]);
    }
  });

  it("cancels also when the submit failed", async () => {
    await server.listen(address());
    const client = await connect();
    service.refusal = new ServingError("queue_full", "full");
    const submitted = client.submit(makeRequest({ id: "r" }), { kind: "local" });
    const cancelled = client.cancel("r", 0);
    await expect(submitted).rejects.toMatchObject({ code: "queue_full" });
    await cancelled;
    expect(service.calls.items).toEqual([{ kind: "cancel", requestId: "r", epoch: 0 }]);
  });

  it("reports a worker that closes once, and refuses calls from then on", async () => {
    await server.listen(address());
    const client = await connect();
    await server.close();
    await losses.atLeast(1);
    expect(losses.items).toHaveLength(1);
    await expect(client.submit(makeRequest(), { kind: "local" })).rejects.toMatchObject({
      code: "worker_lost",
    });
    client.close();
    expect(losses.items).toHaveLength(1);
  });

  it("ends the worker's subscription when it closes, and reports no loss", async () => {
    await server.listen(address());
    const client = await connect();
    client.close();
    await service.subscriptions.until((counts) => counts.at(-1) === 0);
    expect(losses.items).toEqual([]);
  });

  it("notices a worker that falls silent, and not one that sends heartbeats", async () => {
    const timers = new ManualTimers();
    await server.listen(address());
    await connect({ timers });
    for (let second = 1; second <= 12; second++) {
      service.emit({ kind: "load", load: IDLE_LOAD });
      await events.atLeast(second);
      timers.advance(1000);
    }
    expect(losses.items).toEqual([]);
    for (let second = 0; second < 7; second++) timers.advance(1000);
    expect(losses.items).toEqual(["no heartbeat for 6000 ms"]);
    expect(timers.size).toBe(0);
  });

  it("says why it cannot connect", async () => {
    await expect(connect()).rejects.toMatchObject({ name: "WorkerConnectError", code: "unreachable" });
    await server.listen(address());
    await expect(connect({ token: "x".repeat(32) })).rejects.toMatchObject({ code: "unauthorized" });
    service.greeting = { ...makeHello(), protocolVersion: 99 };
    await expect(connect()).rejects.toThrow(`speaks protocol version 99, this process ${PROTOCOL_VERSION}`);
    service.greeting = { ...makeHello(), blockSizeTokens: -1 };
    await expect(connect()).rejects.toMatchObject({
      code: "incompatible",
      message: expect.stringContaining("blockSizeTokens"),
    });
  });

  it("does not take another worker's stream for the one that it greeted", async () => {
    await pretend((request, response) => {
      if (request.url === "/v1/worker") response.end(hello);
      else response.writeHead(200, { "x-twofold-worker": "w2" }).flushHeaders();
    });
    await expect(connect()).rejects.toThrow("another worker has taken the address over");
  });

  it.each([
    ["a line that is no event", "{}\n", "not a worker event"],
    ["a line that does not end", "x".repeat(5 * 1024 * 1024), "a line exceeds"],
  ])("gives a worker up that sends %s", async (_, text, reason) => {
    await pretend((request, response) => {
      if (request.url === "/v1/worker") response.end(hello);
      else response.writeHead(200, { "x-twofold-worker": "w1" }).write(text);
    });
    await connect();
    expect((await losses.atLeast(1))[0]).toContain(reason);
  });

  it("bounds the time and the size of answers", async () => {
    const timers = new ManualTimers();
    const http = await pretend((request, response) => {
      if (request.url === "/v1/worker") response.end(hello);
      else if (request.url === "/v1/events")
        response.writeHead(200, { "x-twofold-worker": "w1" }).flushHeaders();
      else if (request.url === "/v1/requests/big/cancel") response.end("x".repeat(300_000));
      else if (request.url === "/v1/requests/odd/cancel") response.writeHead(502).end("<html>");
    });
    const client = await connect({ timers });
    await expect(client.cancel("big", 0)).rejects.toThrow("exceeds 262144 bytes");
    await expect(client.cancel("odd", 0)).rejects.toMatchObject({ code: "worker_lost" });
    const asked = once(http, "request");
    const unanswered = client.drain();
    const refused = expect(unanswered).rejects.toThrow("no answer after 10000 ms");
    await asked;
    timers.leap(10_000);
    await refused;
  });

  it("rejects calls under way when it is closed", async () => {
    const http = await pretend((request, response) => {
      if (request.url === "/v1/worker") response.end(hello);
      else if (request.url === "/v1/events")
        response.writeHead(200, { "x-twofold-worker": "w1" }).flushHeaders();
    });
    const client = await connect();
    const asked = once(http, "request");
    const outcome = expect(client.drain()).rejects.toMatchObject({ code: "worker_lost" });
    await asked;
    client.close();
    await outcome;
  });
});
