import { once } from "node:events";
import { afterEach, describe, expect, test } from "vitest";
import { expectError } from "../../../test/support/gateway-errors.ts";
import {
  connectTo,
  type GatewayUnderTest,
  makeGateway,
  post,
  readAll,
} from "../../../test/support/gateway-harness.ts";
import { ERRORS, type ErrorCode } from "../../protocol/errors.ts";

const CHAT = { messages: [{ role: "user", content: "hi" }] };
const CHAT_PATH = "/v1/chat/completions";

const open: GatewayUnderTest[] = [];
async function start(...args: Parameters<typeof makeGateway>): Promise<GatewayUnderTest> {
  const made = await makeGateway(...args);
  open.push(made);
  return made;
}
afterEach(async () => {
  for (const { gateway } of open.splice(0)) await gateway.close();
});

describe("on the wire", () => {
  async function listening(...args: Parameters<typeof makeGateway>) {
    const made = await start(...args);
    return { ...made, ...(await made.gateway.listen()) };
  }

  test("a body that is announced too large is refused unread, and the connection closes", async () => {
    const { url } = await listening();
    const socket = await connectTo(url);
    const received = readAll(socket);
    socket.write(
      `POST ${CHAT_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 104857600\r\n\r\n{`,
    );
    const answer = await received;
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    expect(answer.toLowerCase()).toContain("connection: close");
    expect(answer).toContain('"code":"request_too_large"');
  });

  test("a body that turns out too large is refused on the way", async () => {
    const { url } = await listening({ limits: { bodyBytes: 1000 } });
    const socket = await connectTo(url);
    const received = readAll(socket);
    socket.on("error", () => {});
    socket.write(`POST ${CHAT_PATH} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n`);
    socket.write(`400\r\n${"x".repeat(1024)}\r\n`);
    expect(await received).toContain('"code":"request_too_large"');
  });

  test("a client that sends a large body to its end learns that it was too large", async () => {
    const { url } = await listening({ limits: { bodyBytes: 1000 } });
    const answer = await post(`${url}${CHAT_PATH}`, Buffer.alloc(8 * 1024 * 1024, 0x20));
    expect(answer.status).toBe(413);
    expect(JSON.parse(await answer.whole())).toMatchObject({ error: { code: "request_too_large" } });
  });

  test.each<[string, string, ErrorCode]>([
    ["no HTTP at all", "hello there\r\n\r\n", "invalid_value"],
    [
      "headers that are too large",
      `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${"a".repeat(20_000)}\r\n\r\n`,
      "headers_too_large",
    ],
    [
      "a URL that cannot be decoded",
      "GET /%zz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
      "invalid_value",
    ],
    ["no host", "GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n", "invalid_host"],
  ])("%s is answered in the envelope", async (_name, bytes, code) => {
    const { url } = await listening();
    const socket = await connectTo(url);
    const received = readAll(socket);
    socket.write(bytes);
    const answer = await received;
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${ERRORS[code].status} `));
    expect(answer.toLowerCase()).toContain("x-request-id: ");
    expect(JSON.parse(answer.slice(answer.indexOf("\r\n\r\n") + 4))).toMatchObject({ error: { code } });
  });

  test("a request that does not arrive in time is answered 408", async () => {
    const { url, logged } = await listening({ limits: { requestMs: 50 } });
    const socket = await connectTo(url);
    const received = readAll(socket);
    socket.write(`POST ${CHAT_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{`);
    const answer = await received;
    expect(answer).toMatch(/^HTTP\/1\.1 408 /);
    expect(answer).toContain('"code":"request_timeout"');
    expect(await logged((line) => line.msg === "request")).toMatchObject({
      status: 408,
      code: "request_timeout",
    });
  });

  test("garbage after a request does not get into the stream that answers it", async () => {
    const { url, fleet } = await listening();
    const socket = await connectTo(url);
    const received = readAll(socket);
    const body = JSON.stringify({ ...CHAT, stream: true });
    socket.write(
      `POST ${CHAT_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    const request = await fleet.next();
    request.place().emitText("hello");
    await once(socket, "data");
    socket.write("garbage\r\n\r\n");
    await request.cancelled;
    const answer = await received;
    expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1);
    expect(answer).toContain("hello");
  });

  test("what is no request is counted too", async () => {
    const { url, gateway } = await listening();
    for (const bytes of [
      "nonsense\r\n\r\n",
      "GET /%zz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ]) {
      const socket = await connectTo(url);
      const received = readAll(socket);
      socket.write(bytes);
      await received;
    }
    expect(await gateway.registry.metrics()).toContain(
      'twofold_gateway_requests_total{endpoint="none",status="400"} 2',
    );
  });

  test("two requests in one packet are answered one after the other, a stream first", async () => {
    const { url, fleet } = await listening();
    const socket = await connectTo(url);
    const received = readAll(socket);
    const body = JSON.stringify({ ...CHAT, stream: true });
    const head = `POST ${CHAT_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n`;
    socket.write(`${head}\r\n${body}${head}Connection: close\r\n\r\n${body}`);
    const [first, second] = await fleet.take(2);
    second?.place().emitText("SECOND").finish("stop");
    first?.place().emitText("FIRST").finish("stop");
    expect(await received).toMatch(/^HTTP\/1\.1 200 .*FIRST.*\[DONE\].*HTTP\/1\.1 200 .*SECOND.*\[DONE\]/s);
  });

  test("a client of HTTP/1.0 gets its stream without chunks", async () => {
    const { url, fleet } = await listening();
    fleet.onSubmit = (request) => request.place().emitText("hello").finish("stop");
    const socket = await connectTo(url);
    const received = readAll(socket);
    const body = JSON.stringify({ ...CHAT, stream: true });
    socket.write(
      `POST ${CHAT_PATH} HTTP/1.0\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    const answer = await received;
    expect(answer).not.toMatch(/transfer-encoding/i);
    expect(answer).toMatch(/\r\n\r\ndata: \{.*hello.*\[DONE\]\n\n$/s);
  });

  test("beyond the bound on requests in progress new ones are refused, probes are not", async () => {
    const { url, fleet, gateway } = await listening({ limits: { inFlightRequests: 1 } });
    const first = post(`${url}${CHAT_PATH}`, CHAT);
    const request = await fleet.next();
    expectError(await gateway.app.inject({ url: "/v1/models" }), "queue_full");
    expect((await gateway.app.inject({ url: "/livez" })).statusCode).toBe(200);
    request.finish();
    expect((await first).status).toBe(200);
  });
});
