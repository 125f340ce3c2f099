import { afterEach, describe, expect, test } from "vitest";
import { FakeFleet } from "../../../test/support/fake-fleet.ts";
import { FakeTokenizer } from "../../../test/support/fake-tokenizer.ts";
import { expectError } from "../../../test/support/gateway-errors.ts";
import { type GatewayUnderTest, makeGateway } from "../../../test/support/gateway-harness.ts";
import { BlockHasher, HASH_WORDS } from "../../core/tokens/block-hash.ts";
import { ERRORS, type ErrorCode, ServingError } from "../../protocol/errors.ts";
import { MAX_PUBLIC_PREFIX_TOKENS } from "../conversations/public-prefixes.ts";
import { hashApiKey } from "./api-keys.ts";

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

describe("errors of the fleet", () => {
  const codes = Object.keys(ERRORS) as ErrorCode[];
  test.each(codes)("a refusal with %s is answered as the table says", async (code) => {
    const { gateway, fleet } = await start();
    fleet.refusal = new ServingError(code, "said by the fleet");
    const answer = await gateway.app.inject({ method: "POST", url: CHAT_PATH, payload: CHAT });
    expect(expectError(answer, code).message).toBe("said by the fleet");
  });

  test.each([false, true])(
    "an error before any output is an ordinary answer (stream: %s)",
    async (stream) => {
      const { gateway, fleet } = await start();
      fleet.onSubmit = (request) => request.place().fail("worker_lost", "gone");
      const answer = await gateway.app.inject({
        method: "POST",
        url: CHAT_PATH,
        payload: { ...CHAT, stream },
      });
      expectError(answer, "worker_lost");
    },
  );

  test("a worker whose name is no header value costs nobody the answer", async () => {
    const { gateway, fleet } = await start();
    fleet.onSubmit = (request) =>
      request.place({ prefillWorker: "a\nb", decodeWorker: "ü" }).emitText("x").finish("stop");
    for (const stream of [false, true]) {
      const answer = await gateway.app.inject({
        method: "POST",
        url: CHAT_PATH,
        payload: { ...CHAT, stream },
      });
      expect(answer.statusCode).toBe(200);
      expect(answer.headers).toMatchObject({
        "x-twofold-prefill-worker": "a?b",
        "x-twofold-decode-worker": "?",
      });
    }
  });

  test("what is thrown unexpectedly is hidden from the client and logged", async () => {
    const { gateway, fleet, logs } = await start();
    fleet.onSubmit = () => {
      throw new Error("secret detail");
    };
    const answer = await gateway.app.inject({ method: "POST", url: CHAT_PATH, payload: CHAT });
    expect(expectError(answer, "internal_error").message).not.toContain("secret");
    expect(JSON.stringify(logs.find((line) => line.level === 50))).toContain("secret detail");
  });

  test("when one of several choices is refused, those already running are cancelled", async () => {
    const { gateway, fleet } = await start();
    fleet.onSubmit = () => {
      if (fleet.submitted.length === 2) fleet.refusal = new ServingError("queue_full", "full");
    };
    const answer = await gateway.app.inject({ method: "POST", url: CHAT_PATH, payload: { ...CHAT, n: 3 } });
    expectError(answer, "queue_full");
    expect(fleet.submitted.map((request) => request.isCancelled)).toEqual([true, true]);
  });

  test("a request that outlives its deadline is cancelled and answered 504", async () => {
    const { gateway, fleet } = await start({ limits: { generationMs: 5 } });
    const answer = await gateway.app.inject({ method: "POST", url: CHAT_PATH, payload: CHAT });
    expectError(answer, "deadline_exceeded");
    expect(fleet.submitted[0]?.isCancelled).toBe(true);
  });
});

describe("bad requests", () => {
  test.each<[string, object, ErrorCode, string | null]>([
    ["an unknown model", { ...CHAT, model: "gpt-9" }, "model_not_found", "model"],
    ["a missing field", {}, "missing_required_parameter", "messages"],
    ["a wrong type", { messages: [{ role: 7, content: "a" }] }, "invalid_type", "messages[0].role"],
    ["a value out of range", { ...CHAT, temperature: 3 }, "invalid_value", "temperature"],
    [
      "something unsupported",
      { ...CHAT, response_format: { type: "json_object" } },
      "unsupported_value",
      "response_format.type",
    ],
    ["a prompt that is too long", { ...CHAT, max_tokens: 1024 }, "context_length_exceeded", "messages"],
    ["a body that is no object", [], "invalid_type", null],
  ])("%s is refused", async (_name, payload, code, param) => {
    const { gateway, fleet } = await start();
    expectError(await gateway.app.inject({ method: "POST", url: CHAT_PATH, payload }), code, param);
    expect(fleet.submitted).toEqual([]);
  });

  test.each<[string, string | Buffer, ErrorCode]>([
    ["no JSON", "{nope", "invalid_json"],
    ["no UTF-8", Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]), "invalid_json"],
    ["nothing", "", "invalid_json"],
    ["ten thousand levels", "[".repeat(10_000), "nesting_too_deep"],
  ])("a body with %s is refused", async (_name, payload, code) => {
    const { gateway } = await start();
    const headers = { "content-type": "application/json" };
    expectError(await gateway.app.inject({ method: "POST", url: CHAT_PATH, payload, headers }), code);
  });

  test.each([
    undefined,
    "application/json",
    "application/json; charset=utf-8",
    "application/vnd.x+json",
    "Application/JSON",
  ])("a body of type %s is read as JSON", async (type) => {
    const { gateway, fleet } = await start();
    fleet.onSubmit = (request) => request.finish();
    const headers = type === undefined ? {} : { "content-type": type };
    const payload = Buffer.from(JSON.stringify(CHAT));
    const answer = await gateway.app.inject({ method: "POST", url: CHAT_PATH, payload, headers });
    expect(answer.statusCode).toBe(200);
  });

  test.each([
    { "content-type": "text/plain" },
    { "content-type": "application/x-www-form-urlencoded" },
    { "content-type": "application/json; charset=latin1" },
    { "content-type": "json" },
    { "content-type": "application/json", "content-encoding": "gzip" },
  ])("a body sent with %j is refused as a media type", async (headers) => {
    const { gateway } = await start();
    expectError(
      await gateway.app.inject({ method: "POST", url: CHAT_PATH, payload: JSON.stringify(CHAT), headers }),
      "unsupported_media_type",
    );
  });

  test("token ids outside the vocabulary are refused with their place", async () => {
    const { gateway, tokenizer } = await start();
    const send = (prompt: unknown) =>
      gateway.app.inject({ method: "POST", url: "/v1/completions", payload: { prompt } });
    expectError(await send([1, tokenizer.vocabSize]), "invalid_value", "prompt[1]");
    expectError(await send([[1], [2, tokenizer.vocabSize]]), "invalid_value", "prompt[1][1]");
    expectError(await send([[]]), "invalid_value", "prompt");
  });
});

describe("who may ask", () => {
  const apiKeys = [
    { name: "ann", sha256: hashApiKey("key-a") },
    { name: "bob", sha256: hashApiKey("key-b") },
  ];

  test("with keys every route but the probes needs one", async () => {
    const { gateway } = await start({ apiKeys });
    for (const url of [
      "/v1/models",
      "/metrics",
      "/admin/workers",
      "/admin/decisions/x",
      "/nope",
      CHAT_PATH,
    ]) {
      for (const headers of [{}, { authorization: "Bearer wrong" }]) {
        const answer = await gateway.app.inject({ url, headers });
        expectError(answer, "invalid_api_key");
        expect(answer.headers["www-authenticate"]).toMatch(/^Bearer/);
      }
    }
    for (const url of ["/livez", "/readyz", "/health"])
      expect((await gateway.app.inject({ url })).statusCode).toBe(200);
    const headers = { authorization: "Bearer key-b" };
    expect((await gateway.app.inject({ url: "/v1/models", headers })).statusCode).toBe(200);
  });

  test("the fleet gets the prompt's block hashes under the tenant's salt, once a worker has joined", async () => {
    const { gateway, fleet } = await start({ apiKeys });
    fleet.onSubmit = (request) => queueMicrotask(() => request.place().emit(1).finish("length"));
    const ask = (key: string) =>
      gateway.app.inject({
        method: "POST",
        url: "/v1/completions",
        headers: { authorization: `Bearer ${key}` },
        payload: { prompt: "twenty-one characters", max_tokens: 1 },
      });
    expect((await ask("key-a")).statusCode).toBe(200);
    fleet.blockIdentity = { modelId: "m", blockSizeTokens: 4 };
    for (const key of ["key-a", "key-b"]) expect((await ask(key)).statusCode).toBe(200);
    const [before, ...after] = fleet.submitted.map(({ request }) => request);
    expect(before).not.toHaveProperty("knownBlockHashes");
    for (const { promptTokens, cacheSalt, knownBlockHashes } of after) {
      const numBlocks = Math.floor(promptTokens.length / 4);
      const expected = new Int32Array(numBlocks * HASH_WORDS);
      new BlockHasher({ ...fleet.blockIdentity, cacheSalt }).hashBlocks(promptTokens, 0, numBlocks, expected);
      expect(knownBlockHashes).toEqual(expected);
    }
    expect(after[0]?.knownBlockHashes).not.toEqual(after[1]?.knownBlockHashes);
  });

  test("tenants get different cache salts, whatever a body says", async () => {
    const { gateway, fleet } = await start({ apiKeys });
    fleet.onSubmit = (request) => request.finish();
    for (const key of ["key-a", "key-b", "key-a"])
      await gateway.app.inject({
        method: "POST",
        url: CHAT_PATH,
        payload: { ...CHAT, cache_salt: "mine" },
        headers: { authorization: `Bearer ${key}` },
      });
    const [first, second, third] = fleet.submitted.map((request) => request.request.cacheSalt);
    expect(first).toMatch(/^[0-9a-f]{64}$/);
    expect(second).not.toBe(first);
    expect(third).toBe(first);
  });

  test("a tenant's share of the cache and a request's wishes reach the fleet", async () => {
    const { gateway, fleet } = await start({ apiKeys, cacheShares: new Map([["ann", 0.25]]) });
    fleet.onSubmit = (request) => request.finish();
    const ask = (key: string, extra: object) =>
      gateway.app.inject({
        method: "POST",
        url: CHAT_PATH,
        payload: { ...CHAT, ...extra },
        headers: { authorization: `Bearer ${key}` },
      });
    await ask("key-a", { first_token_ms: 1500 });
    await ask("key-b", {
      cache: { keep: "long", ttl_seconds: 60, fan_out: 12, next_turn_seconds: 2.5 },
      prompt_cache_retention: "24h",
    });
    await ask("key-b", { prompt_cache_retention: "24h", prompt_cache_key: "k", n: 2 });
    await ask("key-b", { cache: { keep: null }, prompt_cache_retention: "in_memory" });
    const wishes = fleet.submitted.map(({ request }) => {
      const { cacheShare, retention, expectedFanOut, nextTurnMs, firstTokenGoalMs } = request;
      return { cacheShare, retention, expectedFanOut, nextTurnMs, firstTokenGoalMs };
    });
    const day = { keep: "long", ttlMs: 86_400_000 };
    expect(wishes).toEqual([
      { cacheShare: 0.25, firstTokenGoalMs: 1500 },
      { retention: { keep: "long", ttlMs: 60_000 }, expectedFanOut: 12, nextTurnMs: 2500 },
      { retention: day, expectedFanOut: 2 },
      { retention: day, expectedFanOut: 2 },
      {},
    ]);
    for (const [cache, param] of [
      [{ keep: "forever" }, "cache.keep"],
      [{ ttl_seconds: 0 }, "cache.ttl_seconds"],
      [{ next_turn_seconds: -1 }, "cache.next_turn_seconds"],
      [{ fan_out: 1.5 }, "cache.fan_out"],
      [{ ttl: 60 }, "cache"],
      ["long", "cache"],
    ] as const)
      expectError(
        await ask("key-b", { cache }),
        cache === "long" || param === "cache.fan_out" ? "invalid_type" : "invalid_value",
        param,
      );
  });

  test("the log names the conversation as the client does, and as the gateway sees it", async () => {
    const { gateway, fleet, logged } = await start();
    fleet.blockIdentity = { modelId: "m", blockSizeTokens: 4 };
    fleet.onSubmit = (request) => request.finish();
    const lineOf = async (id: string, headers: object, extra: object = {}) => {
      const messages = [...CHAT.messages, { role: "assistant", content: "a" }, ...CHAT.messages];
      const payload = { messages: id === "1" ? CHAT.messages : messages, ...extra };
      await gateway.app.inject({
        method: "POST",
        url: CHAT_PATH,
        payload,
        headers: { "x-request-id": id, ...headers },
      });
      return logged((line) => line.requestId === id);
    };
    const first = await lineOf("1", { "x-twofold-session": "s-1", "x-session-id": "s-2" });
    expect(first).toMatchObject({ session: "s-1", turn: 1 });
    const second = await lineOf("2", { "x-session-id": "s-2" }, { prompt_cache_key: "key" });
    expect(second).toMatchObject({ session: "s-2", conversation: first.conversation, turn: 2 });
    expect(await lineOf("3", {}, { prompt_cache_key: "key" })).toMatchObject({ session: "key" });
    expect(await lineOf("4", {}, { prompt_cache_key: "two words" })).not.toHaveProperty("session");
  });

  test("a public prefix that the chat template refuses is a configuration that cannot be served", async () => {
    const tokenizer = new FakeTokenizer({ chatTemplate: "{{ raise_exception('no system message') }}" });
    await expect(start({ tokenizer, publicPrefixes: ["Be brief."] })).rejects.toThrow("no system message");
  });

  test("a public prefix that is longer than the context, or than there is room for its hashes, is refused", async () => {
    // A byte is a token.
    const long = "x".repeat(MAX_PUBLIC_PREFIX_TOKENS + 1);
    await expect(start({ publicPrefixes: ["short", long] })).rejects.toThrow(
      /Number 2 .* raise contextTokens/,
    );
    const fleet = Object.assign(new FakeFleet(), { contextTokens: 1 << 20 });
    const tooMany = `at most ${MAX_PUBLIC_PREFIX_TOKENS} are allowed`;
    await expect(start({ fleet, publicPrefixes: [long] })).rejects.toThrow(tooMany);
  });

  test.each(["localhost", "localhost:8080", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:8080"])(
    "on loopback the host %s is let in",
    async (host) => {
      const { gateway } = await start();
      expect((await gateway.app.inject({ url: "/v1/models", headers: { host } })).statusCode).toBe(200);
    },
  );

  test.each([
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "localhost:8080:1",
  ])("on loopback the host %j is kept out", async (host) => {
    const { gateway } = await start();
    expectError(await gateway.app.inject({ url: "/v1/models", headers: { host } }), "invalid_host");
    expectError(await gateway.app.inject({ url: "/livez", headers: { host } }), "invalid_host");
  });

  test("a client's request id is echoed when it is well-formed, else replaced", async () => {
    const { gateway } = await start();
    const idFor = async (id: string) =>
      (await gateway.app.inject({ url: "/livez", headers: { "x-request-id": id } })).headers["x-request-id"];
    expect(await idFor("Abc-1.2:3_4")).toBe("Abc-1.2:3_4");
    for (const bad of ["a b", "x".repeat(129), "a\u00e9", ""])
      expect(await idFor(bad)).toMatch(/^req-[0-9a-f]{32}$/);
  });
});
