import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FakeTokenizer } from "../../../test/support/fake-tokenizer.ts";
import type { SampledToken } from "../../core/scheduler/step-plan.ts";
import type { ServingError } from "../../protocol/errors.ts";
import { Choice, type ChoiceObserver } from "./choice.ts";
import { TokenTexts } from "./detokenizer.ts";
import { ChatLogprobs, CompletionLogprobs } from "./logprobs.ts";
import { StopPatterns } from "./stop-matcher.ts";

class Recorder implements ChoiceObserver {
  readonly ends: boolean[] = [];
  readonly errors: ServingError[] = [];
  numTokens = 0;
  onPlaced(): void {}
  onTokens(_choice: Choice, numTokens: number): void {
    this.numTokens += numTokens;
  }
  onEnd(_choice: Choice, isCut: boolean): void {
    this.ends.push(isCut);
  }
  onError(error: ServingError): void {
    this.errors.push(error);
  }
}

interface Setup {
  stop?: string[];
  minTokens?: number;
  logprobs?: "chat" | "completion";
  extraTokens?: Array<string | Uint8Array>;
}

function makeChoice(setup: Setup = {}) {
  const tokenizer = new FakeTokenizer({ extraTokens: setup.extraTokens ?? [] });
  const texts = new TokenTexts(tokenizer);
  const recorder = new Recorder();
  const logprobs =
    setup.logprobs === undefined
      ? null
      : setup.logprobs === "chat"
        ? new ChatLogprobs(texts)
        : new CompletionLogprobs(texts, 1);
  const choice = new Choice(
    {
      index: 0,
      promptIndex: 0,
      texts,
      stop: setup.stop === undefined ? null : new StopPatterns(setup.stop),
      minTokens: setup.minTokens ?? 0,
      logprobs,
    },
    recorder,
  );
  const emit = (...tokens: number[]) =>
    choice.onTokens(
      tokens.map(
        (token): SampledToken => ({
          token,
          logprobs: { logprob: -token / 100, top: [[token, -token / 100]] },
        }),
      ),
    );
  return { choice, recorder, emit, first: tokenizer.firstExtra };
}

/** Names of the tokens whose log probabilities are ready. */
function takeNames(choice: Choice): string[] {
  const parsed = JSON.parse(choice.logprobs!.take()) as {
    content?: Array<{ token: string }>;
    tokens?: string[];
  };
  return parsed.tokens ?? parsed.content!.map((entry) => entry.token);
}

describe("Choice", () => {
  test("a stop string over token borders ends it, cut, with everything before shown", () => {
    const { choice, recorder, emit } = makeChoice({ stop: ["END"] });
    emit(...Buffer.from("ab E"));
    expect(choice.takeText()).toBe("ab ");
    emit(...Buffer.from("ND and more"));
    expect(choice.takeText()).toBe("");
    expect(choice.finishReason).toBe("stop");
    expect(recorder.ends).toEqual([true]);
    expect(choice.numTokens).toBe("ab END".length);
    expect(recorder.numTokens).toBe("ab END".length);
  });

  test("what comes after a stop string is ignored", () => {
    const { choice, recorder, emit } = makeChoice({ stop: ["."] });
    emit(...Buffer.from("a."));
    emit(...Buffer.from("b"));
    choice.onFinish({ reason: "length", numCachedTokens: 3 });
    expect(choice.takeText()).toBe("a");
    expect(choice.finishReason).toBe("stop");
    expect(recorder.ends).toEqual([true]);
  });

  test("held text is shown when the output ends before the stop string is complete", () => {
    const { choice, emit } = makeChoice({ stop: ["END"] });
    emit(...Buffer.from("aEN"));
    expect(choice.takeText()).toBe("a");
    choice.onFinish({ reason: "length", numCachedTokens: 2 });
    expect(choice.takeText()).toBe("EN");
    expect(choice.finishReason).toBe("length");
    expect(choice.numCachedTokens).toBe(2);
  });

  test("text of the first min_tokens tokens is not searched", () => {
    const { choice, emit } = makeChoice({ stop: ["a"], minTokens: 3 });
    emit(...Buffer.from("aaaba"));
    expect(choice.takeText()).toBe("aaab");
    expect(choice.numTokens).toBe(5);
  });

  test("an unfinished character at the end is replaced, and may complete no stop string by accident", () => {
    const { choice, emit } = makeChoice({ stop: ["x"] });
    emit(0x61, 0xf0, 0x9f);
    choice.onFinish({ reason: "length", numCachedTokens: 0 });
    expect(choice.takeText()).toBe("a\ufffd");
  });

  test("a stop string that the last replacement character completes is found", () => {
    const { choice, emit } = makeChoice({ stop: ["\ufffd"] });
    emit(0x61, 0xf0);
    choice.onFinish({ reason: "length", numCachedTokens: 0 });
    expect(choice.takeText()).toBe("a");
    expect(choice.finishReason).toBe("stop");
  });

  test("a token outside the vocabulary is an error of the server", () => {
    const { choice, recorder } = makeChoice();
    for (const token of [-1, 9999, Number.NaN]) choice.onTokens([{ token }]);
    expect(recorder.errors.map((error) => error.code)).toEqual([
      "internal_error",
      "internal_error",
      "internal_error",
    ]);
    expect(choice.numTokens).toBe(0);
  });

  test("a token without the log probabilities that were asked for is an error of the server", () => {
    const { choice, recorder } = makeChoice({ logprobs: "chat" });
    choice.onTokens([{ token: 97 }]);
    expect(recorder.errors.map((error) => error.code)).toEqual(["internal_error"]);
  });
});

describe("log probabilities", () => {
  test("wait with the text that a stop string holds back", () => {
    const { choice, emit } = makeChoice({ stop: ["bcd"], logprobs: "chat" });
    emit(97, 98, 99);
    expect([choice.takeText(), takeNames(choice)]).toEqual(["a", ["a"]]);
    emit(120);
    expect([choice.takeText(), takeNames(choice)]).toEqual(["bcx", ["b", "c", "x"]]);
  });

  test("of tokens that belong to the stop string are not shown", () => {
    const { choice, emit } = makeChoice({ stop: ["bc"], logprobs: "completion" });
    emit(97, 98, 99);
    expect([choice.takeText(), takeNames(choice)]).toEqual(["a", ["a"]]);
  });

  test("of a token that is cut by the stop string are shown with the part that is", () => {
    const { choice, emit, first } = makeChoice({ stop: ["lo"], logprobs: "chat", extraTokens: ["hello"] });
    emit(first);
    expect([choice.takeText(), takeNames(choice)]).toEqual(["hel", ["hello"]]);
  });

  test("of the parts of a character come together when it is whole", () => {
    const { choice, emit } = makeChoice({ logprobs: "chat" });
    emit(...Buffer.from("🙂").subarray(0, 3));
    expect(choice.hasPending).toBe(false);
    emit(0x82);
    expect(choice.takeText()).toBe("🙂");
    expect(takeNames(choice)).toEqual(["bytes:\\xf0", "bytes:\\x9f", "bytes:\\x99", "bytes:\\x82"]);
  });

  test("of a token without text come at once when nothing is held back", () => {
    const { choice, emit } = makeChoice({ logprobs: "chat", stop: ["ab"] });
    emit(257);
    expect(takeNames(choice)).toEqual([""]);
    emit(97, 257);
    expect(choice.hasPending).toBe(false);
    choice.onFinish({ reason: "stop", numCachedTokens: 0 });
    expect(takeNames(choice)).toEqual(["a", ""]);
  });

  test("are shown for every token exactly once, in order, at its offset, unless a stop string ate it", () => {
    const token = fc.oneof(fc.constantFrom(97, 98, 99, 257), fc.constantFrom(0xf0, 0x9f, 0x99, 0x82));
    fc.assert(
      fc.property(
        fc.array(fc.array(token, { maxLength: 4 }), { maxLength: 8 }),
        fc.boolean(),
        (batches, hasStop) => {
          const { choice, emit } = makeChoice({
            logprobs: "completion",
            ...(hasStop ? { stop: ["abc", "cc"] } : {}),
          });
          let text = "";
          const offsets: number[] = [];
          const values: number[] = [];
          const take = () => {
            text += choice.takeText();
            const parsed = JSON.parse(choice.logprobs!.take()) as {
              text_offset: number[];
              token_logprobs: number[];
            };
            offsets.push(...parsed.text_offset);
            values.push(...parsed.token_logprobs);
          };
          for (const batch of batches) {
            emit(...batch);
            take();
          }
          choice.onFinish({ reason: "stop", numCachedTokens: 0 });
          take();
          const all = batches.flat();
          const isCut =
            choice.numTokens < all.length ||
            (hasStop && text.length < new TextDecoder().decode(textBytes(all)).length);
          expect(values).toEqual(all.slice(0, values.length).map((id) => -id / 100));
          if (!isCut) expect(values).toHaveLength(all.length);
          for (const offset of offsets) expect(offset).toBeLessThanOrEqual(text.length);
          expect([...offsets].sort((a, b) => a - b)).toEqual(offsets);
        },
      ),
      { numRuns: 1000 },
    );
  });
});

/** The bytes of those tokens that have any. */
function textBytes(tokens: readonly number[]): Uint8Array {
  return Uint8Array.from(tokens.filter((token) => token < 256));
}

describe("shapes of log probabilities", () => {
  const sampled = (token: number): SampledToken => ({
    token,
    logprobs: {
      logprob: Number.NEGATIVE_INFINITY,
      top: [
        [98, -0.5],
        [0xff, -2],
      ],
    },
  });

  test("chat: text, bytes and alternatives of each token, minus infinity as -9999", () => {
    const { choice } = makeChoice({ logprobs: "chat" });
    choice.onTokens([sampled(97)]);
    expect(JSON.parse(choice.logprobs!.take())).toEqual({
      content: [
        {
          token: "a",
          logprob: -9999,
          bytes: [97],
          top_logprobs: [
            { token: "b", logprob: -0.5, bytes: [98] },
            { token: "bytes:\\xff", logprob: -2, bytes: [255] },
          ],
        },
      ],
      refusal: null,
    });
  });

  test("completions: parallel lists, the drawn token among the alternatives", () => {
    const { choice } = makeChoice({ logprobs: "completion" });
    choice.onTokens([sampled(97), sampled(98)]);
    expect(JSON.parse(choice.logprobs!.take())).toEqual({
      tokens: ["a", "b"],
      token_logprobs: [-9999, -9999],
      top_logprobs: [
        { a: -9999, b: -0.5, "bytes:\\xff": -2 },
        { b: -0.5, "bytes:\\xff": -2 },
      ],
      text_offset: [0, 1],
    });
  });

  test("completions without alternatives have null in their place", () => {
    const writer = new CompletionLogprobs(new TokenTexts(new FakeTokenizer()), 0);
    writer.add(97, 0, { logprob: -1, top: [] });
    expect(JSON.parse(writer.take())).toEqual({
      tokens: ["a"],
      token_logprobs: [-1],
      top_logprobs: null,
      text_offset: [0],
    });
  });
});
