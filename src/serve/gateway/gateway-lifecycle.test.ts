import { once } from "node:events";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { afterEach, describe, expect, test } from "vitest";
import { FakeTokenizer } from "../../../test/support/fake-tokenizer.ts";
import {
  connectTo,
  type GatewayUnderTest,
  makeGateway,
  post,
  readAll,
} from "../../../test/support/gateway-harness.ts";
import { hashApiKey } from "./api-keys.ts";

const CHAT = { messages: [{ role: "user", content: "my secret" }] };
const STREAM = { ...CHAT, stream: true };

const open: GatewayUnderTest[] = [];
async function listening(...args: Parameters<typeof makeGateway>) {
  const made = await makeGateway(...args);
  open.push(made);
  const { url } = await made.gateway.listen();
  const chatUrl = `${url}/v1/chat/completions`;
  return { ...made, url, chatUrl, send: (body: object) => post(chatUrl, body) };
}
afterEach(async () => {
  for (const { gateway } of open.splice(0)) await gateway.close();
});

/** Posts a body and returns the request, to be destroyed before there is an answer. */
function begin(url: string, body: object) {
  const sent = httpRequest(url, {
    method: "POST",
    agent: false,
    headers: { "content-type": "application/json" },
  });
  sent.on("error", () => {});
  sent.end(JSON.stringify(body));
  return sent;
}

const isRequestLine = (line: Record<string, unknown>) => line.msg === "request";

describe("a client that goes away", () => {
  test.each([STREAM, CHAT])("before the first token cancels its request: %j", async (body) => {
    const { fleet, chatUrl, logged, gateway } = await listening();
    const sent = begin(chatUrl, body);
    const request = await fleet.next();
    sent.destroy();
    await request.cancelled;
    expect(await logged(isRequestLine)).toMatchObject({ status: 499, code: "client_closed_request" });
    const metrics = await gateway.registry.metrics();
    expect(metrics).toContain('twofold_gateway_client_disconnects_total{endpoint="/v1/chat/completions"} 1');
    expect(metrics).toContain(
      'twofold_gateway_requests_total{endpoint="/v1/chat/completions",status="499"} 1',
    );
  });

  test("in the middle of a stream cancels all its choices", async () => {
    const { fleet, send, logged } = await listening();
    const sent = send({ ...STREAM, n: 3 });
    const requests = await fleet.take(3);
    requests[0]?.place().emitText("abc");
    const answer = await sent;
    await answer.until("abc");
    answer.disconnect();
    await Promise.all(requests.map((request) => request.cancelled));
    expect(await logged(isRequestLine)).toMatchObject({ status: 499, completionTokens: 3 });
  });

  test("in the middle of an answer that is not streamed cancels it", async () => {
    const { fleet, chatUrl } = await listening();
    const sent = begin(chatUrl, CHAT);
    const request = (await fleet.next()).place().emitText("abc");
    sent.destroy();
    await request.cancelled;
    expect(request.isCancelled).toBe(true);
  });

  test("while its prompt is tokenised never reaches the fleet", async () => {
    let release = () => {};
    let entered = () => {};
    const isEncoding = new Promise<void>((resolve) => {
      entered = resolve;
    });
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const tokenizer = new FakeTokenizer({
      beforeEncode: () => {
        entered();
        return held;
      },
    });
    const { fleet, chatUrl, logged } = await listening({ tokenizer });
    const sent = begin(chatUrl, STREAM);
    await isEncoding;
    sent.destroy();
    await logged(isRequestLine);
    release();
    // What follows the tokeniser runs in microtasks, all of them before the next turn of the event loop.
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
    expect(fleet.submitted).toEqual([]);
  });

  test("by closing only its sending side counts as gone too", async () => {
    const { fleet, url } = await listening();
    const socket = await connectTo(url);
    const body = JSON.stringify(STREAM);
    socket.end(
      `POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    const received = readAll(socket);
    const request = await fleet.next();
    await request.cancelled;
    expect(await received).not.toContain("[DONE]");
  });
});

describe("a slow reader", () => {
  const BIG = "x".repeat(10_000);

  /** Emits until the gateway has to hold text back; resolves with how many times it took. */
  async function fill(gateway: GatewayUnderTest["gateway"], emit: () => void): Promise<number> {
    for (let i = 1; i < 10_000; i++) {
      emit();
      await new Promise<void>((resolve) => {
        setImmediate(resolve);
      });
      if ((await gateway.registry.metrics()).includes('slow_readers_total{action="coalesced"} 1')) return i;
    }
    throw new Error("the socket never filled up");
  }

  async function stalled(limits: {
    pendingStreamChars?: number;
    slowReaderMs?: number;
    pingIntervalMs?: number;
  }) {
    const tokenizer = new FakeTokenizer({ extraTokens: [BIG] });
    const made = await listening({ tokenizer, limits });
    const socket = await connectTo(made.url);
    const body = JSON.stringify(STREAM);
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
    );
    const request = (await made.fleet.next()).place();
    const numEmitted = await fill(made.gateway, () => request.emit(tokenizer.firstExtra));
    return { ...made, numEmitted, socket, request, token: tokenizer.firstExtra };
  }

  test("gets what piled up as one delta when it reads on, and everything exactly once", async () => {
    const { socket, request, token, numEmitted } = await stalled({});
    for (let i = 0; i < 20; i++) request.emit(token);
    request.finish("length");
    const text = await readAll(socket);
    const contents = [...text.matchAll(/"content":"(x*)"/g)].map((match) => match[1]!.length);
    expect(Math.max(...contents)).toBeGreaterThanOrEqual(20 * BIG.length);
    expect(contents.reduce((sum, length) => sum + length, 0)).toBe((numEmitted + 20) * BIG.length);
    expect(text).toContain("data: [DONE]");
  });

  test("is cut off when more piles up than the bound, and its request is cancelled", async () => {
    const { request, token, gateway, logged, socket } = await stalled({ pendingStreamChars: 100_000 });
    const received = readAll(socket);
    socket.pause();
    socket.on("error", () => {});
    for (let i = 0; i < 11; i++) request.emit(token);
    await request.cancelled;
    expect(await logged(isRequestLine)).toMatchObject({ status: 499, code: "client_closed_request" });
    expect(await gateway.registry.metrics()).toContain('slow_readers_total{action="cut"} 1');
    socket.resume();
    expect(await received).not.toContain("[DONE]");
  });

  test("that reads nothing at all is cut off after a while, without pings piling up", async () => {
    const { request, gateway } = await stalled({ slowReaderMs: 20, pingIntervalMs: 1 });
    await request.cancelled;
    expect(await gateway.registry.metrics()).toContain('slow_readers_total{action="cut"} 1');
  });

  test("is cut off after a while also when the output is complete", async () => {
    const { request, gateway, logged } = await stalled({ slowReaderMs: 20 });
    request.finish("length");
    expect(await logged(isRequestLine)).toMatchObject({ status: 499 });
    expect(await gateway.registry.metrics()).toContain('slow_readers_total{action="cut"} 1');
  });
});

test("a client that does not read a whole answer is cut off after a while", async () => {
  const tokenizer = new FakeTokenizer({ extraTokens: ["x".repeat(1_000_000)] });
  const { fleet, url, logged } = await listening({ tokenizer, limits: { slowReaderMs: 20 } });
  const socket = await connectTo(url);
  const body = JSON.stringify(CHAT);
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  const request = await fleet.next();
  for (let i = 0; i < 30; i++) request.emit(tokenizer.firstExtra);
  request.finish("length");
  expect(await logged(isRequestLine)).toMatchObject({ status: 499 });
  socket.destroy();
});

describe("closing", () => {
  test("lets a stream finish, and refuses what comes in the meantime", async () => {
    const { fleet, send, gateway, url, chatUrl } = await listening();
    const agent = new Agent({ keepAlive: true });
    const sent = send(STREAM);
    const request = (await fleet.next()).place();
    const answer = await sent;
    const closed = gateway.close();
    const refused = await post(chatUrl, CHAT);
    expect(refused.status).toBe(503);
    expect(refused.headers).toMatchObject({
      connection: "close",
      "retry-after": expect.stringMatching(/^[12]$/),
    });
    expect(JSON.parse(await refused.whole())).toMatchObject({ error: { code: "draining" } });
    const ready = (await once(httpRequest(`${url}/readyz`, { agent }).end(), "response")) as [
      IncomingMessage,
    ];
    expect(ready[0].statusCode).toBe(503);
    ready[0].resume();
    const alive = (await once(httpRequest(`${url}/livez`, { agent }).end(), "response")) as [IncomingMessage];
    expect(alive[0].statusCode).toBe(200);
    alive[0].resume();
    request.emitText("to the end").finish("stop");
    expect(await answer.whole()).toMatch(/to the end.*\[DONE\]\n\n$/s);
    await closed;
    agent.destroy();
    await expect(post(chatUrl, CHAT)).rejects.toThrow(/ECONNREFUSED/);
  });

  test("fails streams that do not finish in time, in the stream, and answers the others with 503", async () => {
    const { fleet, send, gateway } = await listening({ limits: { drainMs: 5 } });
    const streamed = send(STREAM);
    const first = (await fleet.next()).place().emitText("half");
    const answer = await streamed;
    await answer.until("half");
    const whole = send(CHAT);
    const second = await fleet.next();
    await gateway.close();
    expect([first.isCancelled, second.isCancelled]).toEqual([true, true]);
    await answer.whole();
    expect(answer.events().at(-1)).toMatchObject({ error: { code: "draining" } });
    expect((await whole).status).toBe(503);
  });

  test("closes idle connections at once and may be asked twice", async () => {
    const { gateway, url } = await listening();
    const agent = new Agent({ keepAlive: true });
    const [message] = (await once(httpRequest(`${url}/livez`, { agent }).end(), "response")) as [
      IncomingMessage,
    ];
    message.resume();
    await once(message, "end");
    await Promise.all([gateway.close(), gateway.close()]);
    agent.destroy();
    expect(gateway.app.server.listening).toBe(false);
  });
});

describe("the log", () => {
  test("has one line per request with what it took, and neither prompt, nor answer, nor key", async () => {
    const made = await listening({ apiKeys: [{ name: "ann", sha256: hashApiKey("key-a") }] });
    const { fleet, chatUrl, logs, logged } = made;
    fleet.onSubmit = (request) => request.place().emitText("the answer").finish("stop", 3);
    const answer = await post(chatUrl, CHAT, { authorization: "Bearer key-a", "x-request-id": "my-id" });
    await answer.whole();
    const line = await logged(isRequestLine);
    expect(line).toMatchObject({
      level: 30,
      requestId: "my-id",
      tenant: "ann",
      method: "POST",
      endpoint: "/v1/chat/completions",
      status: 200,
      completionTokens: 10,
      cachedTokens: 3,
      ttftMs: expect.any(Number),
      durationMs: expect.any(Number),
    });
    expect(logs.filter(isRequestLine)).toHaveLength(1);
    const all = JSON.stringify(logs);
    for (const secret of ["my secret", "the answer", "key-a"]) expect(all).not.toContain(secret);
  });
});
