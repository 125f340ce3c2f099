import { describe, expect, test } from "vitest";
import { ServingError } from "../../protocol/errors.ts";
import { chatCompletionBody, parseBody } from "../../protocol/openai.ts";
import { outputBounds, samplingOf, samplingOfChoice } from "./sampling.ts";

const VOCAB = 300;
const bodyOf = (fields: object) =>
  parseBody(chatCompletionBody, { messages: [{ role: "user", content: "a" }], ...fields });

function fault(act: () => unknown): ServingError {
  try {
    act();
  } catch (error) {
    if (error instanceof ServingError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("sampling parameters", () => {
  test("have OpenAI's defaults", () => {
    const { seed, ...rest } = samplingOf(bodyOf({}), null, VOCAB);
    expect(rest).toEqual({
      temperature: 1,
      topK: 0,
      topP: 1,
      minP: 0,
      frequencyPenalty: 0,
      presencePenalty: 0,
      repetitionPenalty: 1,
      logitBias: [],
      topLogprobs: null,
    });
    expect(seed).toBeGreaterThanOrEqual(0);
    expect(seed).toBeLessThan(2 ** 32);
  });

  test("without a seed every request draws its own", () => {
    const seeds = new Set(Array.from({ length: 20 }, () => samplingOf(bodyOf({}), null, VOCAB).seed));
    expect(seeds.size).toBeGreaterThan(15);
  });

  test("top_k of 1 is greedy, -1 and 0 keep all", () => {
    expect(samplingOf(bodyOf({ top_k: 1, temperature: 1.5 }), null, VOCAB).temperature).toBe(0);
    expect(samplingOf(bodyOf({ top_k: -1 }), null, VOCAB).topK).toBe(0);
    expect(samplingOf(bodyOf({ top_k: 0 }), null, VOCAB).topK).toBe(0);
    expect(samplingOf(bodyOf({ top_k: 40 }), null, VOCAB)).toMatchObject({ topK: 40, temperature: 1 });
  });

  test("choice i draws with the seed plus i, within 32 bits", () => {
    const sampling = samplingOf(bodyOf({ seed: 2 ** 32 - 1 }), null, VOCAB);
    expect([0, 1, 2].map((i) => samplingOfChoice(sampling, i).seed)).toEqual([2 ** 32 - 1, 0, 1]);
  });

  test("a bias for a token outside the vocabulary is refused", () => {
    expect(fault(() => samplingOf(bodyOf({ logit_bias: { [VOCAB]: 1 } }), null, VOCAB))).toMatchObject({
      code: "invalid_value",
      param: `logit_bias.${VOCAB}`,
    });
  });
});

describe("output bounds", () => {
  const wanted = {
    maxTokens: undefined,
    minTokens: undefined,
    maxTokensParam: "max_tokens",
    promptParam: "messages",
  };

  test("without max_tokens the output may fill the context", () => {
    expect(outputBounds(10, 100, wanted)).toEqual({ maxOutputTokens: 90, minOutputTokens: 0 });
  });

  test("prompt and output may fill the context exactly, and not one token more", () => {
    expect(outputBounds(10, 100, { ...wanted, maxTokens: 90 }).maxOutputTokens).toBe(90);
    const error = fault(() => outputBounds(10, 100, { ...wanted, maxTokens: 91 }));
    expect(error).toMatchObject({ code: "context_length_exceeded", param: "messages" });
    expect(error.message).toMatch(/100 tokens.*101.*10 in the prompt.*91/);
  });

  test("a prompt that fills the context leaves no room", () => {
    expect(fault(() => outputBounds(100, 100, wanted))).toMatchObject({ code: "context_length_exceeded" });
    expect(outputBounds(99, 100, wanted).maxOutputTokens).toBe(1);
  });

  test("an empty prompt and a minimum above the maximum are refused", () => {
    expect(fault(() => outputBounds(0, 100, wanted))).toMatchObject({
      code: "invalid_value",
      param: "messages",
    });
    expect(fault(() => outputBounds(1, 100, { ...wanted, maxTokens: 3, minTokens: 4 }))).toMatchObject({
      code: "invalid_value",
      param: "min_tokens",
    });
  });
});
