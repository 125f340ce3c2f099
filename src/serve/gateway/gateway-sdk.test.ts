import OpenAI, { APIError, APIUserAbortError } from "openai";
import { afterEach, describe, expect, test } from "vitest";
import { type GatewayUnderTest, makeGateway } from "../../../test/support/gateway-harness.ts";
import { ServingError } from "../../protocol/errors.ts";
import { hashApiKey } from "./api-keys.ts";

/** The official client against a real socket: what it makes of our bytes is what most users will see. */
const open: GatewayUnderTest[] = [];
async function connected(...args: Parameters<typeof makeGateway>) {
  const made = await makeGateway(...args);
  open.push(made);
  const { url } = await made.gateway.listen();
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "key", maxRetries: 0 });
  return { ...made, client };
}
afterEach(async () => {
  for (const { gateway } of open.splice(0)) await gateway.close();
});

const CHAT = { model: "fake-model", messages: [{ role: "user" as const, content: "hi" }] };

async function failure(act: () => Promise<unknown>): Promise<unknown> {
  try {
    await act();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

describe("the openai client", () => {
  test("reads a whole chat completion", async () => {
    const { client, fleet } = await connected();
    fleet.onSubmit = (request) => request.place().emitText("Hello 🙂").finish("stop", 1);
    const completion = await client.chat.completions.create(CHAT);
    expect(completion.choices[0]?.message.content).toBe("Hello 🙂");
    expect(completion.choices[0]?.finish_reason).toBe("stop");
    expect(completion.usage?.prompt_tokens_details?.cached_tokens).toBe(1);
    expect(completion._request_id).toMatch(/^req-/);
  });

  test("iterates over a stream and gets usage at its end", async () => {
    const { client, fleet } = await connected();
    fleet.onSubmit = (request) => request.place().emitText("one ").emitText("two").finish("length");
    const stream = await client.chat.completions.create({
      ...CHAT,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    const reasons: string[] = [];
    let usage: OpenAI.CompletionUsage | null | undefined;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      if (chunk.choices[0]?.finish_reason != null) reasons.push(chunk.choices[0].finish_reason);
      usage = chunk.usage ?? usage;
    }
    expect({ text, reasons }).toEqual({ text: "one two", reasons: ["length"] });
    expect(usage).toMatchObject({ completion_tokens: 7, prompt_tokens_details: { cached_tokens: 0 } });
  });

  test("assembles a stream with its helper, pings and several choices included", async () => {
    const { client, fleet } = await connected({ limits: { pingIntervalMs: 2 } });
    const helper = client.chat.completions.stream({ ...CHAT, n: 2, logprobs: true });
    const [first, second] = await fleet.take(2);
    const token = (text: string) => ({ token: text.charCodeAt(0), logprobs: { logprob: -1, top: [] } });
    first?.place().emit(token("a"));
    await helper.emitted("chunk");
    first?.emit(token("b")).finish("stop");
    second?.emit(token("c")).finish("length");
    const completion = await helper.finalChatCompletion();
    expect(
      completion.choices.map((choice) => [choice.message.role, choice.message.content, choice.finish_reason]),
    ).toEqual([
      ["assistant", "ab", "stop"],
      ["assistant", "c", "length"],
    ]);
    expect(completion.choices[0]?.logprobs?.content?.map((entry) => entry.token)).toEqual(["a", "b"]);
  });

  test("reads legacy completions, whole and streamed", async () => {
    const { client, fleet } = await connected();
    fleet.onSubmit = (request) => request.place().emitText("text").finish("length");
    const body = { model: "fake-model", prompt: "a" };
    expect((await client.completions.create(body)).choices[0]?.text).toBe("text");
    let text = "";
    for await (const chunk of await client.completions.create({ ...body, stream: true }))
      text += chunk.choices[0]?.text ?? "";
    expect(text).toBe("text");
  });

  test("lists and retrieves models", async () => {
    const { client } = await connected({ modelName: "org/m" });
    const ids: string[] = [];
    for await (const model of client.models.list()) ids.push(model.id);
    expect(ids).toEqual(["org/m"]);
    expect((await client.models.retrieve("org/m")).owned_by).toBe("twofold");
  });

  test("aborting or leaving a stream cancels the request", async () => {
    const { client, fleet } = await connected();
    const controller = new AbortController();
    const aborted = client.chat.completions.create({ ...CHAT, stream: true }, { signal: controller.signal });
    const first = (await fleet.next()).place().emitText("a");
    const stream = await aborted;
    for await (const _chunk of stream) controller.abort();
    await first.cancelled;
    const left = client.chat.completions.create({ ...CHAT, stream: true });
    const second = (await fleet.next()).place().emitText("a");
    for await (const _chunk of await left) break;
    await second.cancelled;
    expect([first.isCancelled, second.isCancelled]).toEqual([true, true]);
  });

  test("aborting before the answer begins cancels the request", async () => {
    const { client, fleet } = await connected();
    const controller = new AbortController();
    const failed = failure(() => client.chat.completions.create(CHAT, { signal: controller.signal }));
    const request = await fleet.next();
    controller.abort();
    await request.cancelled;
    expect(await failed).toBeInstanceOf(APIUserAbortError);
  });

  test("raises an error in mid-stream with its code, after the text so far", async () => {
    const { client, fleet } = await connected();
    fleet.onSubmit = (request) => request.place().emitText("partial").fail("worker_lost", "decode-0 is gone");
    let text = "";
    const error = await failure(async () => {
      const stream = await client.chat.completions.create({ ...CHAT, stream: true });
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    });
    expect(text).toBe("partial");
    expect(error).toBeInstanceOf(APIError);
    expect(error).toMatchObject({ code: "worker_lost", type: "server_error" });
    expect(String(error)).toContain("decode-0 is gone");
    const helperError = await failure(() => client.chat.completions.stream(CHAT).finalChatCompletion());
    expect(helperError).toMatchObject({ code: "worker_lost" });
  });

  test("raises refusals with status, code, parameter and request id", async () => {
    const { client } = await connected();
    const error = await failure(() => client.chat.completions.create({ ...CHAT, temperature: 3 }));
    expect(error).toBeInstanceOf(OpenAI.BadRequestError);
    expect(error).toMatchObject({
      status: 400,
      code: "invalid_value",
      param: "temperature",
      requestID: expect.stringMatching(/^req-/),
    });
  });

  test("is let in by its key and kept out by another", async () => {
    const { client } = await connected({ apiKeys: [{ name: "a", sha256: hashApiKey("key") }] });
    expect((await client.models.list()).data).toHaveLength(1);
    const stranger = client.withOptions({ apiKey: "other" });
    expect(await failure(() => stranger.models.list())).toBeInstanceOf(OpenAI.AuthenticationError);
  });

  test("comes back once after the time that an overloaded server names, and is counted as a retry", async () => {
    const { client, fleet, gateway } = await connected();
    fleet.refusal = new ServingError("queue_full", "full");
    const retrying = client.withOptions({
      maxRetries: 1,
      fetch: async (url, init) => {
        const response = await fetch(url, init);
        if (response.status !== 503) return response;
        // The test does not wait the second that the server asks for, but sees that it is asked for.
        expect(Number(response.headers.get("retry-after-ms"))).toBeGreaterThanOrEqual(1000);
        fleet.refusal = null;
        fleet.onSubmit = (request) => request.place().emitText("ok").finish();
        const headers = new Headers(response.headers);
        headers.set("retry-after-ms", "1");
        return new Response(response.body, { status: 503, headers });
      },
    });
    expect((await retrying.chat.completions.create(CHAT)).choices[0]?.message.content).toBe("ok");
    expect(await gateway.registry.metrics()).toContain("twofold_gateway_client_retries_total 1");
  });

  test("does not come back when it is told not to", async () => {
    const { client, fleet, logs } = await connected();
    fleet.refusal = new ServingError("deadline_exceeded", "too late");
    const error = await failure(() => client.withOptions({ maxRetries: 3 }).chat.completions.create(CHAT));
    expect(error).toMatchObject({ status: 504, code: "deadline_exceeded" });
    expect(logs.filter((line) => line.msg === "request")).toHaveLength(1);
  });

  test("without retries sees an overloaded server at once", async () => {
    const { client, fleet, logs } = await connected();
    fleet.refusal = new ServingError("no_workers", "none ready");
    expect(await failure(() => client.chat.completions.create(CHAT))).toMatchObject({
      status: 503,
      code: "no_workers",
    });
    expect(logs.filter((line) => line.msg === "request")).toHaveLength(1);
  });
});
