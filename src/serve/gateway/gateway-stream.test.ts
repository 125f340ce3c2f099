import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { type GatewayUnderTest, makeGateway, post } from "../../../test/support/gateway-harness.ts";

const CHAT = { messages: [{ role: "user", content: "hi" }], stream: true };
const COMPLETION = { prompt: [1, 2, 3], stream: true };

const open: GatewayUnderTest[] = [];
async function listening(...args: Parameters<typeof makeGateway>) {
  const made = await makeGateway(...args);
  open.push(made);
  const { url } = await made.gateway.listen();
  const send = (body: object) =>
    post(`${url}${"prompt" in body ? "/v1/completions" : "/v1/chat/completions"}`, body);
  return { ...made, url, send };
}
afterEach(async () => {
  for (const { gateway } of open.splice(0)) await gateway.close();
});

/** The stream with what differs from run to run replaced: identity and time. */
function stable(text: string): string {
  return text
    .replaceAll(/"id":"(chatcmpl|cmpl)-tf-[0-9a-f]{32}"/g, '"id":"$1"')
    .replaceAll(/"created":\d{10}/g, '"created":0');
}

interface Chunk {
  choices: Array<{
    index: number;
    delta?: { role?: string; content?: string };
    text?: string;
    finish_reason: string | null;
  }>;
  usage?: unknown;
}

/** Joins a stream's deltas by choice. */
function textsOf(events: unknown[]): Record<number, string> {
  const texts: Record<number, string> = {};
  for (const event of events.filter(
    (candidate): candidate is Chunk =>
      typeof candidate === "object" && candidate !== null && "choices" in candidate,
  ))
    for (const choice of event.choices)
      texts[choice.index] = (texts[choice.index] ?? "") + (choice.delta?.content ?? choice.text ?? "");
  return texts;
}

describe("a streamed chat completion", () => {
  test("tells the usage so far with each event that has text, if it is asked to", async () => {
    const { fleet, send } = await listening();
    const options = { include_usage: true, continuous_usage_stats: true };
    const sent = send({ ...CHAT, stream_options: options });
    const request = (await fleet.next()).place();
    const answer = await sent;
    request.emitText("ab");
    await answer.until("ab");
    request.emitText("c");
    await answer.until('"c"');
    request.finish("stop", 0);
    const counts = [...(await answer.whole()).matchAll(/"content":"(.*?)".*"completion_tokens":(\d+)/g)];
    expect(counts.map(([, content, count]) => [content, count])).toEqual([
      ["ab", "2"],
      ["c", "3"],
    ]);
  });

  test("is, byte by byte: role with the first text, text, finish reason, usage, done", async () => {
    const { fleet, send } = await listening();
    const sent = send({ ...CHAT, stream_options: { include_usage: true } });
    const request = (await fleet.next()).place();
    const answer = await sent;
    request.emitText('Say "ü');
    await answer.until("ü");
    request.emitText("🙂\n");
    await answer.until("🙂");
    request.finish("stop", 2);
    const head =
      '{"id":"chatcmpl","object":"chat.completion.chunk","created":0,"model":"fake-model","choices":[';
    const numPrompt = request.request.promptTokens.length;
    expect(stable(await answer.whole())).toBe(
      `data: ${head}{"index":0,"delta":{"role":"assistant","content":"Say \\"ü"},"logprobs":null,"finish_reason":null}],"usage":null}\n\n` +
        `data: ${head}{"index":0,"delta":{"content":"🙂\\n"},"logprobs":null,"finish_reason":null}],"usage":null}\n\n` +
        `data: ${head}{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}\n\n` +
        `data: ${head}],"usage":{"prompt_tokens":${numPrompt},"completion_tokens":12,"total_tokens":${numPrompt + 12},"prompt_tokens_details":{"cached_tokens":2}}}\n\n` +
        "data: [DONE]\n\n",
    );
    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject({
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-accel-buffering": "no",
      "x-twofold-prefill-worker": "prefill-0",
      "x-twofold-decode-worker": "decode-0",
      "x-twofold-request-id": request.request.id,
    });
    expect(answer.headers["x-request-id"]).toMatch(/^req-/);
  });

  test("without any text still has its role and its finish reason", async () => {
    const { fleet, send } = await listening();
    fleet.onSubmit = (request) => request.place().finish("stop");
    const answer = await send(CHAT);
    const head =
      '{"id":"chatcmpl","object":"chat.completion.chunk","created":0,"model":"fake-model","choices":[';
    expect(stable(await answer.whole())).toBe(
      `data: ${head}{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":"stop"}]}\n\n` +
        "data: [DONE]\n\n",
    );
  });

  test("with n choices gives each its own role, text and finish reason under its index", async () => {
    const { fleet, send } = await listening();
    const sent = send({ ...CHAT, n: 2 });
    const [first, second] = await fleet.take(2);
    first?.place();
    const answer = await sent;
    second?.emitText("two");
    await answer.until("two");
    first?.emitText("one").finish("length");
    second?.finish("stop");
    await answer.whole();
    const chunks = answer.events().filter((event) => event !== "[DONE]") as Chunk[];
    expect(textsOf(chunks)).toEqual({ 0: "one", 1: "two" });
    const choices = chunks.flatMap((chunk) => chunk.choices);
    for (const index of [0, 1]) {
      const own = choices.filter((choice) => choice.index === index);
      expect(own.filter((choice) => choice.delta?.role === "assistant")).toEqual([own[0]]);
      expect(own.filter((choice) => choice.finish_reason !== null)).toEqual([own.at(-1)]);
    }
    expect(answer.events().at(-1)).toBe("[DONE]");
  });

  test("ends at a stop string, cancels its request and sends nothing of the string", async () => {
    const { fleet, send } = await listening();
    const sent = send({ ...CHAT, stop: ["<end>"], stream_options: { include_usage: true } });
    const request = (await fleet.next()).place();
    const answer = await sent;
    request.emitText("ab<e");
    await answer.until('"ab"');
    expect(answer.text).not.toContain("<e");
    request.emitText("nd>cd");
    await request.cancelled;
    await answer.whole();
    expect(textsOf(answer.events())).toEqual({ 0: "ab" });
    expect(answer.text).toContain('"finish_reason":"stop"');
    expect(answer.events().at(-2)).toMatchObject({ choices: [], usage: { completion_tokens: 7 } });
  });

  test("cancels a choice that met its stop string before submit returned, while the others go on", async () => {
    const { fleet, send } = await listening();
    fleet.onSubmit = (request) => {
      if (fleet.submitted.length === 1) request.place().emitText("a.");
    };
    const answer = await send({ ...CHAT, n: 2, stop: "." });
    const [first, second] = await fleet.take(2);
    expect(first?.isCancelled).toBe(true);
    expect(second?.isCancelled).toBe(false);
    second?.emitText("b").finish("length");
    await answer.whole();
    expect(textsOf(answer.events())).toEqual({ 0: "a", 1: "b" });
  });

  test("never splits a character, wherever the fleet cuts the bytes", async () => {
    const { fleet, send } = await listening();
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: "grapheme", maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 30 }),
        async (text, cuts) => {
          const bytes = [...Buffer.from(text)];
          fleet.onSubmit = (request) => {
            request.place();
            for (const cut of cuts) request.emit(...bytes.splice(0, cut));
            request.emit(...bytes).finish("stop");
          };
          const answer = await send(CHAT);
          await answer.whole();
          expect(textsOf(answer.events())).toEqual({ 0: text });
        },
      ),
      { numRuns: 50 },
    );
  });

  test("has log probabilities with the text that they belong to", async () => {
    const { fleet, send } = await listening();
    const sent = send({ ...CHAT, logprobs: true });
    const request = (await fleet.next()).place();
    const answer = await sent;
    for (const token of Buffer.from("é!")) request.emit({ token, logprobs: { logprob: -1, top: [] } });
    request.finish("stop");
    await answer.whole();
    const entry = (token: string, bytes: number[]) => ({ token, logprob: -1, bytes, top_logprobs: [] });
    expect(answer.events().slice(0, 2)).toMatchObject([
      { choices: [{ delta: { role: "assistant", content: "" }, logprobs: null }] },
      {
        choices: [
          {
            delta: { content: "é!" },
            logprobs: {
              content: [entry("bytes:\\xc3", [0xc3]), entry("bytes:\\xa9", [0xa9]), entry("!", [0x21])],
            },
          },
        ],
      },
    ]);
  });
});

test("a streamed completion is, byte by byte: text, finish reason, done", async () => {
  const { fleet, send } = await listening();
  const sent = send(COMPLETION);
  const request = (await fleet.next()).place();
  const answer = await sent;
  request.emitText("a");
  await answer.until('"a"');
  request.finish("length");
  const head = '{"id":"cmpl","object":"text_completion","created":0,"model":"fake-model","choices":[';
  expect(stable(await answer.whole())).toBe(
    `data: ${head}{"index":0,"text":"a","logprobs":null,"finish_reason":null}]}\n\n` +
      `data: ${head}{"index":0,"text":"","logprobs":null,"finish_reason":"length"}]}\n\n` +
      "data: [DONE]\n\n",
  );
});

test("text offsets of a streamed completion count on over its chunks", async () => {
  const { fleet, send } = await listening();
  const sent = send({ ...COMPLETION, logprobs: 0 });
  const request = (await fleet.next()).place();
  const answer = await sent;
  const emit = (text: string) =>
    request.emit(...[...Buffer.from(text)].map((token) => ({ token, logprobs: { logprob: -1, top: [] } })));
  emit("ab");
  await answer.until('"ab"');
  emit("c");
  await answer.until('"c"');
  request.finish("length");
  await answer.whole();
  expect(answer.events().slice(0, 2)).toMatchObject([
    { choices: [{ logprobs: { tokens: ["a", "b"], text_offset: [0, 1], top_logprobs: null } }] },
    { choices: [{ logprobs: { tokens: ["c"], text_offset: [2] } }] },
  ]);
});

describe("the opening of a stream", () => {
  test("waits for the placement, and pings flow while nothing else moves", async () => {
    const { fleet, send, gateway } = await listening({ limits: { pingIntervalMs: 5 } });
    const sent = send(CHAT);
    const request = (await fleet.next()).place({ prefillWorker: "p7", decodeWorker: "d9" });
    const answer = await sent;
    expect(answer.headers).toMatchObject({
      "x-twofold-prefill-worker": "p7",
      "x-twofold-decode-worker": "d9",
    });
    await answer.until(": ping\n\n: ping\n\n");
    request.emitText("a").finish("stop");
    const text = await answer.whole();
    expect(text.replaceAll(": ping\n\n", "")).toMatch(/^data: \{.*"content":"a"/);
    expect(await gateway.registry.metrics()).toMatch(/^twofold_gateway_pings_total [1-9]/m);
  });

  test("does not wait for ever: the headers then leave the placement out", async () => {
    const { fleet, send } = await listening({ limits: { placementWaitMs: 5 } });
    const sent = send(CHAT);
    const request = await fleet.next();
    const answer = await sent;
    expect(answer.status).toBe(200);
    expect(answer.headers).not.toHaveProperty("x-twofold-prefill-worker");
    request.place().fail("worker_lost", "gone");
    expect(await answer.whole()).toBe(
      'data: {"error":{"message":"gone","type":"server_error","param":null,"code":"worker_lost"}}\n\n',
    );
  });

  test("may happen inside submit, with output, before the fleet has returned", async () => {
    const { fleet, send } = await listening();
    fleet.onSubmit = (request) => request.place().emitText("now").finish("stop");
    const answer = await send(CHAT);
    await answer.whole();
    expect(textsOf(answer.events())).toEqual({ 0: "now" });
  });
});

describe("the failure of a stream", () => {
  test("is said in the stream, after all output so far, and no [DONE] follows", async () => {
    const { fleet, send, gateway, logged } = await listening();
    const sent = send({ ...CHAT, stream_options: { include_usage: true } });
    const request = (await fleet.next()).place();
    const answer = await sent;
    request.emitText("partial").fail("worker_lost", "decode-0 is gone");
    await answer.whole();
    expect(textsOf(answer.events())).toEqual({ 0: "partial" });
    expect(answer.events().at(-1)).toEqual({
      error: { message: "decode-0 is gone", type: "server_error", param: null, code: "worker_lost" },
    });
    expect(answer.text).not.toContain("[DONE]");
    expect(answer.text).not.toMatch(/"finish_reason":"/);
    expect(await gateway.registry.metrics()).toContain(
      'twofold_gateway_stream_errors_total{code="worker_lost"} 1',
    );
    expect(await logged((line) => line.msg === "request")).toMatchObject({
      status: 200,
      code: "worker_lost",
    });
  });

  test("of one choice ends all of them", async () => {
    const { fleet, send } = await listening();
    const sent = send({ ...CHAT, n: 2 });
    const [first, second] = await fleet.take(2);
    first?.place();
    const answer = await sent;
    second?.fail("kv_exhausted");
    await first?.cancelled;
    await answer.whole();
    expect(answer.events()).toMatchObject([{ error: { code: "kv_exhausted" } }]);
  });

  test("by a worker that sends nonsense is an internal error", async () => {
    const { fleet, send } = await listening();
    const sent = send(CHAT);
    const request = (await fleet.next()).place();
    const answer = await sent;
    request.emit(999_999);
    await request.cancelled;
    await answer.whole();
    expect(answer.events()).toMatchObject([{ error: { code: "internal_error" } }]);
  });
});

test("streams of one turn of the event loop are written together, tokens of one stream as one delta", async () => {
  const { fleet, send } = await listening();
  const sent = send(CHAT);
  const request = (await fleet.next()).place();
  const answer = await sent;
  for (const letter of "abc") request.emitText(letter);
  await answer.until("abc");
  request.finish("stop");
  await answer.whole();
  expect(answer.events()).toHaveLength(3);
});
