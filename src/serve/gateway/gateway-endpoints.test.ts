import { afterEach, describe, expect, test } from "vitest";
import { FakeTokenizer } from "../../../test/support/fake-tokenizer.ts";
import { expectError } from "../../../test/support/gateway-errors.ts";
import { type GatewayUnderTest, makeGateway } from "../../../test/support/gateway-harness.ts";
import { Gauge } from "../telemetry/metrics.ts";

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

describe("routes", () => {
  test("an unknown path is 404, and so are endpoints of OpenAI's that do not exist here, with a hint", async () => {
    const { gateway } = await start();
    expectError(await gateway.app.inject({ url: "/nope" }), "not_found");
    expectError(await gateway.app.inject({ method: "OPTIONS", url: "/nope" }), "not_found");
    for (const url of ["/v1/embeddings", "/v1/responses"]) {
      const answer = await gateway.app.inject({ method: "POST", url, payload: {} });
      expect(expectError(answer, "not_found").message).toContain("not supported");
    }
  });

  test.each([
    ["GET", CHAT_PATH, "POST"],
    ["DELETE", "/v1/completions", "POST"],
    ["POST", "/v1/models", "GET, HEAD"],
    ["POST", "/v1/models/a", "GET, HEAD"],
    ["OPTIONS", CHAT_PATH, "POST"],
    ["PUT", "/health", "GET, HEAD"],
  ] as const)("%s %s is 405 and names what is allowed", async (method, url, allow) => {
    const { gateway } = await start();
    const answer = await gateway.app.inject({ method, url });
    expectError(answer, "method_not_allowed");
    expect(answer.headers.allow).toBe(allow);
  });

  test("no answer invites other origins", async () => {
    const { gateway } = await start();
    for (const method of ["OPTIONS", "GET"] as const) {
      const headers = { origin: "https://evil.example", "access-control-request-method": "POST" };
      const answer = await gateway.app.inject({ method, url: "/v1/models", headers });
      expect(Object.keys(answer.headers).filter((name) => name.startsWith("access-control"))).toEqual([]);
    }
  });

  test("models are listed with their aliases and found one by one, slashes and all", async () => {
    const { gateway } = await start({ modelName: "org/tiny", modelAliases: ["gpt-4o-mini"] });
    const list = (await gateway.app.inject({ url: "/v1/models" })).json() as { data: Array<{ id: string }> };
    expect(list.data.map((model) => model.id)).toEqual(["org/tiny", "gpt-4o-mini"]);
    for (const url of ["/v1/models/org/tiny", "/v1/models/org%2Ftiny"])
      expect((await gateway.app.inject({ url })).json()).toMatchObject({
        id: "org/tiny",
        object: "model",
        max_model_len: 1024,
      });
    expect((await gateway.app.inject({ url: "/v1/models/gpt-4o-mini" })).json()).toMatchObject({
      root: "org/tiny",
    });
    expectError(await gateway.app.inject({ url: "/v1/models/other" }), "model_not_found", "model");
    expect((await gateway.app.inject({ method: "HEAD", url: "/v1/models" })).statusCode).toBe(200);
  });

  test("text is tokenised in vLLM's and llama-server's spelling, each with its own default", async () => {
    const { gateway } = await start();
    const tokenize = async (payload: object, url = "/tokenize") =>
      (await gateway.app.inject({ method: "POST", url, payload })).json();
    expect(await tokenize({ prompt: "a" })).toEqual({ tokens: [256, 97], count: 2, max_model_len: 1024 });
    expect(await tokenize({ prompt: "a", add_special_tokens: false })).toMatchObject({ tokens: [97] });
    expect(await tokenize({ content: "a" })).toMatchObject({ tokens: [97] });
    expect(await tokenize({ content: "a", add_special: true }, "/v1/tokenize")).toMatchObject({
      tokens: [256, 97],
    });
    expect(await tokenize({ prompt: "" })).toMatchObject({ tokens: [256] });
  });

  test("tokens are turned back into text, and ids outside the vocabulary are refused", async () => {
    const { gateway } = await start();
    const detokenize = (payload: object, url = "/detokenize") =>
      gateway.app.inject({ method: "POST", url, payload });
    expect((await detokenize({ tokens: [...Buffer.from("ü🙂")] })).json()).toEqual({
      prompt: "ü🙂",
      content: "ü🙂",
    });
    expect((await detokenize({ tokens: [] }, "/v1/detokenize")).json()).toEqual({ prompt: "", content: "" });
    expectError(await detokenize({ tokens: [97, 9999] }), "invalid_value", "tokens[1]");
  });

  test("liveness is always well, readiness only with ready workers", async () => {
    const { gateway, fleet } = await start();
    for (const url of ["/livez", "/readyz", "/health"])
      expect((await gateway.app.inject({ url })).json()).toEqual({ status: "ok" });
    fleet.isReady = false;
    expect((await gateway.app.inject({ url: "/livez" })).statusCode).toBe(200);
    for (const url of ["/readyz", "/health"]) expectError(await gateway.app.inject({ url }), "no_workers");
  });

  test("metrics are scraped with what the caller has added", async () => {
    const { gateway } = await start({
      extraMetrics: (registry) =>
        new Gauge({ name: "twofold_fleet_extra", help: "Added by the caller.", registers: [registry] }).set(
          7,
        ),
    });
    await gateway.app.inject({ url: "/livez" });
    const answer = await gateway.app.inject({ url: "/metrics" });
    expect(answer.headers["content-type"]).toMatch(/^text\/plain/);
    expect(answer.body).toContain("twofold_fleet_extra 7");
    expect(answer.body).toContain('twofold_gateway_requests_total{endpoint="/livez",status="200"} 1');
  });

  test("the state of the workers is shown as the fleet reports it", async () => {
    const { gateway, fleet } = await start();
    const worker = {
      id: "w0",
      role: "both",
      state: "ready",
      pid: 5,
      numRunning: 1,
      numWaiting: 2,
      kvTokensUsed: 3,
      kvTokensTotal: 4,
      numSteps: 5,
    } as const;
    fleet.workerList = [worker];
    expect((await gateway.app.inject({ url: "/admin/workers" })).json()).toEqual({
      object: "list",
      data: [worker],
    });
  });
});

describe("what reaches the fleet", () => {
  test("a chat request, rendered, tokenised with control tokens, with all its parameters", async () => {
    const { gateway, fleet, tokenizer } = await start();
    fleet.onSubmit = (request) => request.finish();
    const payload = {
      ...CHAT,
      max_completion_tokens: 20,
      min_tokens: 2,
      ignore_eos: true,
      priority: -1,
      seed: 7,
      temperature: 0.5,
      top_p: 0.9,
      top_k: 5,
      min_p: 0.1,
      presence_penalty: 1,
      frequency_penalty: -1,
      repetition_penalty: 1.1,
      logit_bias: { 97: -5 },
      logprobs: true,
      top_logprobs: 3,
    };
    await gateway.app.inject({ method: "POST", url: CHAT_PATH, payload });
    const rendered = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";
    expect(tokenizer.encodeCalls).toEqual([{ text: rendered, parseSpecial: true, addSpecial: false }]);
    const { promptTokens, resumedTokens, id, cacheSalt, ...rest } = fleet.submitted[0]!.request;
    expect(promptTokens).toEqual(
      await new FakeTokenizer().encode(rendered, { parseSpecial: true, addSpecial: false }),
    );
    expect(resumedTokens).toHaveLength(0);
    expect(id).toMatch(/^tf-[0-9a-f]{32}$/);
    expect(cacheSalt).toMatch(/^[0-9a-f]{64}$/);
    expect(rest).toEqual({
      epoch: 0,
      maxOutputTokens: 20,
      minOutputTokens: 2,
      ignoreEndOfGeneration: true,
      priority: -1,
      sampling: {
        temperature: 0.5,
        topK: 5,
        topP: 0.9,
        minP: 0.1,
        presencePenalty: 1,
        frequencyPenalty: -1,
        repetitionPenalty: 1.1,
        seed: 7,
        logitBias: [[97, -5]],
        topLogprobs: 3,
      },
    });
  });

  test("n choices have their own ids and seeds, and share the prompt", async () => {
    const { gateway, fleet } = await start();
    fleet.onSubmit = (request) => request.finish();
    await gateway.app.inject({ method: "POST", url: CHAT_PATH, payload: { ...CHAT, n: 3, seed: 10 } });
    const requests = fleet.submitted.map((fake) => fake.request);
    expect(requests.map((request) => request.sampling.seed)).toEqual([10, 11, 12]);
    expect(new Set(requests.map((request) => request.id)).size).toBe(3);
    expect(new Set(requests.map((request) => request.promptTokens)).size).toBe(1);
  });

  test("several prompts are numbered prompt by prompt; text gets its BOS, token ids go as they are", async () => {
    const { gateway, fleet } = await start();
    fleet.onSubmit = (request) => request.emitText(`${fleet.submitted.length - 1}`).finish("length");
    const payload = { prompt: ["a", [5, 6]], n: 2, seed: 1 };
    const mixed = await gateway.app.inject({ method: "POST", url: "/v1/completions", payload });
    const requests = fleet.submitted.map((fake) => fake.request);
    expect(requests.map((request) => [...request.promptTokens])).toEqual([
      [256, 97],
      [256, 97],
      [5, 6],
      [5, 6],
    ]);
    expect(requests.map((request) => request.sampling.seed)).toEqual([1, 2, 1, 2]);
    expect(mixed.json()).toMatchObject({
      choices: [0, 1, 2, 3].map((index) => ({ index, text: String(index), finish_reason: "length" })),
      usage: { prompt_tokens: 4, completion_tokens: 4, total_tokens: 8 },
    });
  });
});

describe("whole answers", () => {
  test("a chat completion has OpenAI's shape, true usage and the placement in its headers", async () => {
    const { gateway, fleet } = await start({ modelAliases: ["alias"] });
    fleet.onSubmit = (request) => request.place().emitText("Hé").emitText("llo").finish("stop", 5);
    const answer = await gateway.app.inject({
      method: "POST",
      url: CHAT_PATH,
      payload: { ...CHAT, model: "alias" },
    });
    expect(answer.headers).toMatchObject({
      "content-type": "application/json; charset=utf-8",
      "x-twofold-prefill-worker": "prefill-0",
      "x-twofold-decode-worker": "decode-0",
    });
    const id = answer.headers["x-twofold-request-id"];
    expect(answer.json()).toEqual({
      id: `chatcmpl-${id}`,
      object: "chat.completion",
      created: expect.any(Number),
      model: "alias",
      choices: [
        {
          index: 0,
          message: { role: "assistant", content: "Héllo", refusal: null },
          logprobs: null,
          finish_reason: "stop",
        },
      ],
      usage: {
        prompt_tokens: fleet.submitted[0]!.request.promptTokens.length,
        completion_tokens: 6,
        total_tokens: fleet.submitted[0]!.request.promptTokens.length + 6,
        prompt_tokens_details: { cached_tokens: 5 },
      },
    });
  });

  test("for several choices the prompt counts once and the best cache hit counts", async () => {
    const { gateway, fleet } = await start();
    fleet.onSubmit = (request) => request.emitText("ab").finish("length", fleet.submitted.length);
    const answer = await gateway.app.inject({
      method: "POST",
      url: "/v1/completions",
      payload: { prompt: [1, 2, 3], n: 3 },
    });
    expect((answer.json() as { usage: unknown }).usage).toEqual({
      prompt_tokens: 3,
      completion_tokens: 6,
      total_tokens: 9,
      prompt_tokens_details: { cached_tokens: 3 },
    });
  });

  test("an answer that ends at a stop string cancels its request and claims nothing about the cache", async () => {
    const { gateway, fleet } = await start();
    fleet.onSubmit = (request) => request.emitText("one. two");
    const answer = await gateway.app.inject({
      method: "POST",
      url: CHAT_PATH,
      payload: { ...CHAT, stop: "." },
    });
    expect(answer.json()).toMatchObject({
      choices: [{ message: { content: "one" }, finish_reason: "stop" }],
    });
    expect((answer.json() as { usage: object }).usage).not.toHaveProperty("prompt_tokens_details");
    expect(fleet.submitted[0]?.isCancelled).toBe(true);
  });

  test("log probabilities come in the shape of their endpoint", async () => {
    const { gateway, fleet } = await start();
    fleet.onSubmit = (request) =>
      request.emit({ token: 97, logprobs: { logprob: -0.25, top: [[97, -0.25]] } }).finish("length");
    const chat = await gateway.app.inject({
      method: "POST",
      url: CHAT_PATH,
      payload: { ...CHAT, logprobs: true, top_logprobs: 1 },
    });
    expect(chat.json()).toMatchObject({
      choices: [
        {
          logprobs: {
            content: [
              {
                token: "a",
                logprob: -0.25,
                bytes: [97],
                top_logprobs: [{ token: "a", logprob: -0.25, bytes: [97] }],
              },
            ],
          },
        },
      ],
    });
    const plain = await gateway.app.inject({
      method: "POST",
      url: "/v1/completions",
      payload: { prompt: "x", logprobs: 1 },
    });
    expect(plain.json()).toMatchObject({
      choices: [
        {
          text: "a",
          logprobs: {
            tokens: ["a"],
            token_logprobs: [-0.25],
            top_logprobs: [{ a: -0.25 }],
            text_offset: [0],
          },
        },
      ],
    });
  });
});
