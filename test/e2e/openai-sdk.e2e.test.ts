import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ServerProcess, startServer } from "../support/server-process.ts";

/** The official client, the real server and the built-in model: what a user's first program does. */
const MODEL = "lexicon-3m";
const CHAT = {
  model: MODEL,
  messages: [{ role: "user" as const, content: "What is a river?" }],
  max_tokens: 48,
};
const GREEDY_CHAT = { ...CHAT, temperature: 0 };
/** Long enough to be handed over and to fill blocks of the prefix cache; every test that counts has one of its own. */
const longPrompt = (topic: string): string => `${topic} is a large natural stream of water. `.repeat(12);

let server: ServerProcess;
let client: OpenAI;
beforeAll(async () => {
  server = await startServer(["--prefill", "1", "--decode", "1", "--placement", "load"]);
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", maxRetries: 0 });
});
afterAll(async () => {
  await server.stop();
});

interface Streamed {
  /** Text of each choice, by its index. */
  readonly texts: string[];
  readonly reasons: Array<string | null>;
  readonly usage: OpenAI.CompletionUsage | null;
}

async function streamed(body: OpenAI.ChatCompletionCreateParamsNonStreaming): Promise<Streamed> {
  const texts: string[] = [];
  const reasons: Array<string | null> = [];
  let usage: OpenAI.CompletionUsage | null = null;
  const stream = await client.chat.completions.create({
    ...body,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of stream) {
    for (const { index, delta, finish_reason } of chunk.choices) {
      texts[index] = (texts[index] ?? "") + (delta.content ?? "");
      reasons[index] = finish_reason ?? reasons[index] ?? null;
    }
    usage = chunk.usage ?? usage;
  }
  return { texts, reasons, usage };
}

const textsOf = (completion: OpenAI.ChatCompletion): Array<string | null> =>
  completion.choices.map(({ message }) => message.content);

describe("the openai client with the built-in model", () => {
  it("gets an answer, usage that adds up, and the names of the workers that made it", async () => {
    const answer = await client.chat.completions.create(GREEDY_CHAT).withResponse();
    const { data, response } = answer;
    expect(data.choices).toHaveLength(1);
    expect(data.choices[0]?.message.role).toBe("assistant");
    expect(data.choices[0]?.message.content).toMatch(/river/i);
    expect(data.choices[0]?.finish_reason).toBe("stop");
    const { prompt_tokens, completion_tokens, total_tokens } = data.usage!;
    expect(prompt_tokens).toBeGreaterThan(0);
    expect(completion_tokens).toBeGreaterThan(0);
    expect(total_tokens).toBe(prompt_tokens + completion_tokens);
    expect(response.headers.get("x-twofold-prefill-worker")).toBe("prefill-1");
    expect(response.headers.get("x-twofold-decode-worker")).toBe("decode-1");
    expect(data.id).toContain(response.headers.get("x-twofold-request-id"));
    expect(answer.request_id).toMatch(/^req-/);
  });

  it("streams the same text, reason and usage that it gets in one piece", async () => {
    const whole = await client.chat.completions.create(GREEDY_CHAT);
    const { texts, reasons, usage } = await streamed(GREEDY_CHAT);
    expect(texts).toEqual(textsOf(whole));
    expect(reasons).toEqual(whole.choices.map(({ finish_reason }) => finish_reason));
    expect(usage?.completion_tokens).toBe(whole.usage?.completion_tokens);
    expect(usage?.total_tokens).toBe(whole.usage?.total_tokens);
  });

  it("names the workers in the headers of a stream too", async () => {
    const { data, response } = await client.chat.completions
      .create({ ...GREEDY_CHAT, stream: true })
      .withResponse();
    for await (const chunk of data) expect(chunk.object).toBe("chat.completion.chunk");
    expect(response.headers.get("x-twofold-prefill-worker")).toBe("prefill-1");
    expect(response.headers.get("x-twofold-decode-worker")).toBe("decode-1");
  });

  it("gets the same text for the same seed, whole and streamed, and another for some other seed", async () => {
    const body = { ...CHAT, temperature: 1, seed: 11 };
    const first = textsOf(await client.chat.completions.create(body));
    expect(textsOf(await client.chat.completions.create(body))).toEqual(first);
    expect((await streamed(body)).texts).toEqual(first);
    const others = await Promise.all(
      [12, 13, 14, 15].map((seed) => client.chat.completions.create({ ...body, seed })),
    );
    expect(others.some((other) => textsOf(other)[0] !== first[0])).toBe(true);
  });

  it("gets two choices for n: 2, drawn with the seed and the next", async () => {
    const body = { ...CHAT, temperature: 1, seed: 100 };
    const both = await client.chat.completions.create({ ...body, n: 2 });
    expect(both.choices.map(({ index }) => index)).toEqual([0, 1]);
    const alone = [
      await client.chat.completions.create(body),
      await client.chat.completions.create({ ...body, seed: 101 }),
    ];
    expect(textsOf(both)).toEqual(alone.flatMap(textsOf));
    expect((await streamed({ ...body, n: 2 })).texts).toEqual(textsOf(both));
    const tokens = alone.map(({ usage }) => usage!.completion_tokens);
    expect(both.usage?.completion_tokens).toBe(tokens[0]! + tokens[1]!);
    expect(both.usage?.prompt_tokens).toBe(alone[0]?.usage?.prompt_tokens);
  });

  it("gets log probabilities whose tokens spell the text, the likeliest first", async () => {
    const body = { ...GREEDY_CHAT, logprobs: true, top_logprobs: 3 };
    const completion = await client.chat.completions.create(body);
    const entries = completion.choices[0]!.logprobs!.content!;
    expect(entries.map(({ token }) => token).join("")).toBe(completion.choices[0]!.message.content);
    for (const { token, logprob, top_logprobs } of entries) {
      const top = top_logprobs.map((one) => one.logprob);
      expect(top).toHaveLength(3);
      expect(top).toEqual(top.toSorted((a, b) => b - a));
      expect(top_logprobs[0]?.token).toBe(token);
      expect(top[0]).toBe(logprob);
      expect(top.reduce((sum, one) => sum + Math.exp(one), 0)).toBeLessThanOrEqual(1.001);
    }
  });

  it("ends before a stop string, whole and streamed", async () => {
    const full = textsOf(await client.chat.completions.create(GREEDY_CHAT))[0]!;
    const stop = full.slice(Math.floor(full.length / 2), Math.floor(full.length / 2) + 5);
    const body = { ...GREEDY_CHAT, stop: [stop] };
    const stopped = await client.chat.completions.create(body);
    expect(textsOf(stopped)).toEqual([full.slice(0, full.indexOf(stop))]);
    expect(stopped.choices[0]?.finish_reason).toBe("stop");
    expect(await streamed(body)).toMatchObject({ texts: textsOf(stopped), reasons: ["stop"] });
  });

  it("is cut off at max_tokens, and told so", async () => {
    const completion = await client.chat.completions.create({ ...GREEDY_CHAT, max_tokens: 3 });
    expect(completion.choices[0]?.finish_reason).toBe("length");
    expect(completion.usage?.completion_tokens).toBe(3);
  });

  it("completes token ids as it completes the text that they spell", async () => {
    const prompt = longPrompt("A river");
    const { tokens } = await client.post<{ tokens: number[] }>("/tokenize", { body: { prompt } });
    const body = { model: MODEL, temperature: 0, max_tokens: 24 };
    const fromText = await client.completions.create({ ...body, prompt });
    const fromTokens = await client.completions.create({ ...body, prompt: tokens });
    expect(fromText.choices[0]?.text).not.toBe("");
    expect(fromTokens.choices[0]?.text).toBe(fromText.choices[0]?.text);
    expect(fromTokens.usage?.prompt_tokens).toBe(tokens.length);
  });

  it("lists the model and its context length", async () => {
    const { data } = await client.models.list();
    expect(data.map(({ id }) => id)).toEqual([MODEL]);
    expect(await client.models.retrieve(MODEL)).toMatchObject({ object: "model", max_model_len: 8192 });
  });

  it("counts cached tokens when a long prompt comes a second time, and gets the same text", async () => {
    const body = { model: MODEL, prompt: longPrompt("A lake"), temperature: 0, max_tokens: 16 };
    const [first, second] = [await client.completions.create(body), await client.completions.create(body)];
    expect(first.usage?.prompt_tokens_details?.cached_tokens).toBe(0);
    const cached = second.usage?.prompt_tokens_details?.cached_tokens ?? 0;
    expect(cached).toBeGreaterThanOrEqual(64);
    expect(cached).toBeLessThan(second.usage!.prompt_tokens);
    expect(second.choices[0]?.text).toBe(first.choices[0]?.text);
  });

  it("frees the workers when it aborts a stream midway", async () => {
    // Extensions of the API are no part of the client's types, so they come in by a variable.
    const body = { model: MODEL, prompt: longPrompt("A canal"), max_tokens: 7000, ignore_eos: true };
    const cancelled = 'twofold_gateway_requests_total{endpoint="/v1/completions",status="499"}';
    await expect(server.metric(cancelled)).rejects.toThrow("no metric");
    const stream = await client.completions.create({ ...body, stream: true });
    const chunks = stream[Symbol.asyncIterator]();
    expect((await chunks.next()).value?.choices[0]?.finish_reason).toBeNull();
    await server.untilWorkers("a decode worker that holds the stream's KV", (seen) =>
      seen.some(({ role, kvTokensUsed }) => role === "decode" && kvTokensUsed > 0),
    );
    stream.controller.abort();
    await server.untilWorkers("workers without KV in use after the abort", (seen) =>
      seen.every(({ numRunning, numWaiting, kvTokensUsed }) => numRunning + numWaiting + kvTokensUsed === 0),
    );
    // Had the request run to its end instead, it would count as answered with 200.
    expect(await server.metric(cancelled)).toBe(1);
  });
});
