import { describe, expect, test } from "vitest";
import type { z } from "zod";
import { ServingError } from "./errors.ts";
import { chatCompletionBody, completionBody, detokenizeBody, parseBody, tokenizeBody } from "./openai.ts";

const CHAT = { messages: [{ role: "user", content: "hi" }] };
const COMPLETION = { prompt: "hi" };

function fault(schema: z.ZodType, body: unknown): { code: string; param: string | null; message: string } {
  try {
    parseBody(schema, body);
  } catch (error) {
    if (!(error instanceof ServingError)) throw error;
    return { code: error.code, param: error.param, message: error.message };
  }
  throw new Error("the body was accepted");
}

describe("chat completion bodies", () => {
  const rows: ReadonlyArray<readonly [fields: object, code: string, param: string]> = [
    [{ messages: undefined }, "missing_required_parameter", "messages"],
    [{ messages: null }, "missing_required_parameter", "messages"],
    [{ messages: "hi" }, "invalid_type", "messages"],
    [{ messages: [] }, "invalid_value", "messages"],
    [{ messages: new Array(2049).fill(1) }, "invalid_value", "messages"],
    [{ messages: [5] }, "invalid_type", "messages[0]"],
    [{ messages: [{ content: "a" }] }, "missing_required_parameter", "messages[0].role"],
    [{ messages: [{ role: 5, content: "a" }] }, "invalid_type", "messages[0].role"],
    [{ messages: [{ role: "boss", content: "a" }] }, "invalid_value", "messages[0].role"],
    [{ messages: [{ role: "user" }] }, "missing_required_parameter", "messages[0].content"],
    [{ messages: [{ role: "user", content: null }] }, "missing_required_parameter", "messages[0].content"],
    [{ messages: [{ role: "user", content: 5 }] }, "invalid_type", "messages[0].content"],
    [
      { messages: [{ role: "user", content: [{ text: "a" }] }] },
      "missing_required_parameter",
      "messages[0].content[0].type",
    ],
    [
      { messages: [{ role: "user", content: [{ type: "text" }] }] },
      "missing_required_parameter",
      "messages[0].content[0].text",
    ],
    [
      { messages: [{ role: "user", content: [{ type: "text", text: 1 }] }] },
      "invalid_type",
      "messages[0].content[0].text",
    ],
    [
      {
        messages: [
          {
            role: "user",
            content: [
              { type: "text", text: "a" },
              { type: "image_url", image_url: {} },
            ],
          },
        ],
      },
      "unsupported_value",
      "messages[0].content[1].type",
    ],
    [{ messages: [{ role: "user", content: "a", name: 5 }] }, "invalid_type", "messages[0].name"],
    [{ model: 5 }, "invalid_type", "model"],
    [{ max_tokens: "5" }, "invalid_type", "max_tokens"],
    [{ max_tokens: 1.5 }, "invalid_type", "max_tokens"],
    [{ max_tokens: 0 }, "invalid_value", "max_tokens"],
    [{ max_completion_tokens: 0 }, "invalid_value", "max_completion_tokens"],
    [{ max_tokens: 4, max_completion_tokens: 5 }, "invalid_value", "max_completion_tokens"],
    [{ temperature: -0.1 }, "invalid_value", "temperature"],
    [{ temperature: 2.1 }, "invalid_value", "temperature"],
    [{ temperature: "1" }, "invalid_type", "temperature"],
    [{ top_p: 0 }, "invalid_value", "top_p"],
    [{ top_p: 1.1 }, "invalid_value", "top_p"],
    [{ n: 0 }, "invalid_value", "n"],
    [{ n: 9 }, "invalid_value", "n"],
    [{ stop: "" }, "invalid_value", "stop"],
    [{ stop: 5 }, "invalid_type", "stop"],
    [{ stop: ["a", ""] }, "invalid_value", "stop[1]"],
    [{ stop: ["a", 5] }, "invalid_type", "stop[1]"],
    [{ stop: ["a", "b", "c", "d", "e"] }, "invalid_value", "stop"],
    [{ stop: "x".repeat(257) }, "invalid_value", "stop"],
    [{ stop: "\ud83d" }, "invalid_value", "stop"],
    [{ seed: 1.5 }, "invalid_type", "seed"],
    [{ seed: "1" }, "invalid_type", "seed"],
    [{ logit_bias: [] }, "invalid_type", "logit_bias"],
    [{ logit_bias: { a: 1 } }, "invalid_value", "logit_bias"],
    [{ logit_bias: { 5: "1" } }, "invalid_type", "logit_bias.5"],
    [{ logit_bias: { 5: 101 } }, "invalid_value", "logit_bias.5"],
    [
      { logit_bias: Object.fromEntries(Array.from({ length: 1025 }, (_, i) => [i, 1])) },
      "invalid_value",
      "logit_bias",
    ],
    [{ logprobs: 5 }, "invalid_type", "logprobs"],
    [{ logprobs: true, top_logprobs: 21 }, "invalid_value", "top_logprobs"],
    [{ top_logprobs: 2 }, "invalid_value", "top_logprobs"],
    [{ presence_penalty: 2.1 }, "invalid_value", "presence_penalty"],
    [{ frequency_penalty: -2.1 }, "invalid_value", "frequency_penalty"],
    [{ user: 5 }, "invalid_type", "user"],
    [{ stream: "yes" }, "invalid_type", "stream"],
    [{ stream_options: { include_usage: true } }, "invalid_value", "stream_options"],
    [{ stream: true, stream_options: { include_usage: 1 } }, "invalid_type", "stream_options.include_usage"],
    [{ top_k: -2 }, "invalid_value", "top_k"],
    [{ min_p: 1.1 }, "invalid_value", "min_p"],
    [{ repetition_penalty: 0 }, "invalid_value", "repetition_penalty"],
    [{ ignore_eos: 1 }, "invalid_type", "ignore_eos"],
    [{ min_tokens: -1 }, "invalid_value", "min_tokens"],
    [{ priority: 0.5 }, "invalid_type", "priority"],
    [{ response_format: { type: "json_object" } }, "unsupported_value", "response_format.type"],
    [{ tool_choice: "required" }, "unsupported_value", "tool_choice"],
    [{ tool_choice: { type: "function", function: { name: "f" } } }, "unsupported_value", "tool_choice"],
    [{ tool_choice: 5 }, "invalid_type", "tool_choice"],
    [{ modalities: ["text", "audio"] }, "unsupported_value", "modalities"],
    [{ continue_final_message: true }, "invalid_value", "continue_final_message"],
    [
      {
        messages: [{ role: "assistant", content: "a" }],
        continue_final_message: true,
        add_generation_prompt: true,
      },
      "invalid_value",
      "continue_final_message",
    ],
  ];
  test.each(rows)("%j is refused as %s at %s", (fields, code, param) => {
    expect(fault(chatCompletionBody, { ...CHAT, ...fields })).toMatchObject({ code, param });
  });

  test("every field may be absent, null or at its bounds", () => {
    const body = {
      ...CHAT,
      model: null,
      max_tokens: 1,
      max_completion_tokens: 1,
      temperature: 2,
      top_p: 1,
      n: 8,
      stop: null,
      seed: null,
      logit_bias: { "3": -100, "4": 100 },
      logprobs: true,
      top_logprobs: 20,
      presence_penalty: -2,
      frequency_penalty: 2,
      user: "u",
      stream: true,
      stream_options: { include_usage: null },
      top_k: -1,
      min_p: 0,
      repetition_penalty: 1,
      ignore_eos: true,
      min_tokens: 0,
      priority: -3,
      response_format: { type: "text" },
      tools: [{ type: "function" }],
      tool_choice: "auto",
      modalities: ["text"],
      never_heard_of: { a: 1 },
    };
    const parsed = parseBody(chatCompletionBody, body);
    expect(parsed).toMatchObject({
      max_tokens: 1,
      logit_bias: [
        [3, -100],
        [4, 100],
      ],
    });
    expect(parsed.model).toBeUndefined();
    expect(parsed.stop).toBeUndefined();
    expect(parsed).not.toHaveProperty("never_heard_of");
  });

  test("an assistant message may have tool calls in place of content", () => {
    const messages = [{ role: "assistant", content: null, tool_calls: [{ id: "1" }] }];
    expect(parseBody(chatCompletionBody, { messages }).messages[0]?.tool_calls).toEqual([{ id: "1" }]);
  });

  test("tools and tool calls together are bounded in size", () => {
    const half = "x".repeat(300 * 1024);
    const messages = [{ role: "assistant", content: null, tool_calls: [half] }, ...CHAT.messages];
    expect(parseBody(chatCompletionBody, { ...CHAT, tools: [half] }).tools).toEqual([half]);
    expect(fault(chatCompletionBody, { messages, tools: [half] })).toMatchObject({
      code: "invalid_value",
      param: "tools",
    });
  });

  test("seeds beyond 32 bits are folded into 32 bits", () => {
    const seedOf = (seed: number) => parseBody(chatCompletionBody, { ...CHAT, seed }).seed;
    expect(seedOf(5)).toBe(5);
    expect(seedOf(2 ** 32 + 5)).toBe(5);
    expect(seedOf(-1)).toBe(2 ** 32 - 1);
    expect(seedOf(Number.MIN_SAFE_INTEGER)).toBe(1);
  });

  test.each([[[]], ["text"], [5], [null], [undefined]])("%j is no body", (body) => {
    expect(fault(chatCompletionBody, body)).toMatchObject({ code: "invalid_type", param: null });
  });

  test("a body with __proto__ keys changes no prototype", () => {
    const body: unknown = JSON.parse(
      '{"messages":[{"role":"user","content":"a","__proto__":{"name":"evil"}}],"__proto__":{"stream":true},"logit_bias":{"__proto__":5}}',
    );
    expect(fault(chatCompletionBody, body)).toMatchObject({ code: "invalid_value", param: "logit_bias" });
    const parsed = parseBody(
      chatCompletionBody,
      JSON.parse('{"messages":[{"role":"user","content":"a"}],"__proto__":{"stream":true}}'),
    );
    expect(parsed.stream).toBeUndefined();
    expect(Reflect.get({}, "stream")).toBeUndefined();
  });

  test("what a client sent is clipped in messages", () => {
    const long = "x".repeat(10_000);
    const { message } = fault(chatCompletionBody, { ...CHAT, response_format: { type: long } });
    expect(message.length).toBeLessThan(300);
  });
});

describe("completion bodies", () => {
  const rows: ReadonlyArray<readonly [fields: object, code: string, param: string]> = [
    [{ prompt: undefined }, "missing_required_parameter", "prompt"],
    [{ prompt: null }, "missing_required_parameter", "prompt"],
    [{ prompt: 5 }, "invalid_type", "prompt"],
    [{ prompt: [] }, "invalid_value", "prompt"],
    [{ prompt: [1, "a"] }, "invalid_type", "prompt[1]"],
    [{ prompt: ["a", 1] }, "invalid_type", "prompt[1]"],
    [{ prompt: [1, -1] }, "invalid_value", "prompt[1]"],
    [{ prompt: [1, 1.5] }, "invalid_value", "prompt[1]"],
    [{ prompt: [[1], [2, "x"]] }, "invalid_type", "prompt[1][1]"],
    [{ prompt: new Array(65).fill("a") }, "invalid_value", "prompt"],
    [{ prompt: new Array(17).fill("a"), n: 8 }, "invalid_value", "n"],
    [{ echo: true }, "unsupported_value", "echo"],
    [{ suffix: "a" }, "unsupported_value", "suffix"],
    [{ best_of: 2 }, "unsupported_value", "best_of"],
    [{ n: 2, best_of: 1 }, "invalid_value", "best_of"],
    [{ logprobs: true }, "invalid_type", "logprobs"],
    [{ logprobs: 21 }, "invalid_value", "logprobs"],
  ];
  test.each(rows)("%j is refused as %s at %s", (fields, code, param) => {
    expect(fault(completionBody, { ...COMPLETION, ...fields })).toMatchObject({ code, param });
  });

  test("a prompt may be a string, strings, token ids or lists of token ids", () => {
    const prompts = (prompt: unknown) => parseBody(completionBody, { prompt }).prompt;
    expect(prompts("a")).toEqual(["a"]);
    expect(prompts(["a", "b"])).toEqual(["a", "b"]);
    expect(prompts([1, 2])).toEqual([Int32Array.of(1, 2)]);
    expect(prompts([[1], [2, 3]])).toEqual([Int32Array.of(1), Int32Array.of(2, 3)]);
  });
});

test("tokenising takes exactly one of the two spellings of its text", () => {
  expect(parseBody(tokenizeBody, { content: "a", add_special: true })).toMatchObject({ content: "a" });
  expect(fault(tokenizeBody, {})).toMatchObject({ code: "missing_required_parameter", param: "prompt" });
  expect(fault(tokenizeBody, { prompt: "a", content: "b" })).toMatchObject({ code: "invalid_value" });
});

test("detokenising needs token ids", () => {
  expect(parseBody(detokenizeBody, { tokens: [1, 2] }).tokens).toEqual(Int32Array.of(1, 2));
  expect(fault(detokenizeBody, {})).toMatchObject({ code: "missing_required_parameter", param: "tokens" });
  expect(fault(detokenizeBody, { tokens: "a" })).toMatchObject({ code: "invalid_type", param: "tokens" });
  expect(fault(detokenizeBody, { tokens: [1, "a"] })).toMatchObject({
    code: "invalid_type",
    param: "tokens[1]",
  });
});
