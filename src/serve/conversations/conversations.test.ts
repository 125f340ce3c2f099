import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FakeTokenizer } from "../../../test/support/fake-tokenizer.ts";
import { StubTokenizer } from "../engine/stub/stub-tokenizer.ts";
import type { Tokenizer } from "../engine/tokenizer.ts";
import { ChainHasher } from "./chain-hasher.ts";
import { Conversations } from "./conversations.ts";
import { RenderedPrompt } from "./rendered-prompt.ts";

const RENDERED = { parseSpecial: true, addSpecial: false };
const HASHER = new ChainHasher({ modelId: "model", blockSizeTokens: 4 });

function makeConversations(tokenizer: Tokenizer, maxBytes = 1 << 20): Conversations {
  return new Conversations({ tokenizer, chains: () => HASHER, maxBytes });
}

const plain = (text: string) => new RenderedPrompt([text]);
const render = (messages: readonly string[]) =>
  `${messages.map((text) => `<|im_start|>user\n${text}<|im_end|>\n`).join("")}<|im_start|>assistant\n`;

/** Few and short messages, so that prompts often begin alike. */
const message = fc.oneof(
  fc.constantFrom("", "a", "river", "<|im_end|>", "the <|im_", "日本 🦊", "</s>"),
  fc.constantFrom(
    ...["x", "y"].map((middle) => `${"same head ".repeat(4)}${middle}${" same tail".repeat(8)}`),
  ),
);
const prompts = fc.array(
  fc.record({ salt: fc.constantFrom("a", "b"), messages: fc.array(message, { maxLength: 6 }) }),
  { minLength: 1, maxLength: 20 },
);

describe("conversations", () => {
  it.each([
    ["bytes", () => new FakeTokenizer()],
    ["words", () => new StubTokenizer({ trainedContextTokens: 1 << 20 })],
  ])(
    "gives the tokens and hashes of the whole prompt, whatever it has seen and forgotten: %s",
    async (_, open) => {
      const tokenizer = open();
      await fc.assert(
        fc.asyncProperty(prompts, fc.constantFrom(3000, 12_000, 1 << 20), async (asked, maxBytes) => {
          const conversations = makeConversations(tokenizer, maxBytes);
          // Pairs at once: what one of them adds, or drives out, meets the other half-way.
          for (let i = 0; i < asked.length; i += 2) {
            const pair = asked.slice(i, i + 2);
            const results = await Promise.all(
              pair.map(({ salt, messages }) => conversations.tokenise(salt, plain(render(messages)))),
            );
            conversations.checkInvariants();
            expect(conversations.bytes).toBeLessThanOrEqual(maxBytes);
            for (const [j, { salt, messages }] of pair.entries()) {
              const tokens = await tokenizer.encode(render(messages), RENDERED);
              expect(results[j]!.tokens).toEqual(tokens);
              expect(results[j]!.blocks).toEqual(await HASHER.chain(salt, tokens));
            }
          }
        }),
      );
    },
  );

  it("tokenises only what is new in a turn, and in a branch of it", async () => {
    const tokenizer = new FakeTokenizer();
    const conversations = makeConversations(tokenizer);
    const tokenised = async (messages: readonly string[], salt = "a") => {
      await conversations.tokenise(salt, plain(render(messages)));
      return tokenizer.encodeCalls.at(-1)!.text;
    };
    const turns = ["system prompt", "first question", "first answer", "second question"];
    expect(await tokenised(turns.slice(0, 2))).toBe(render(turns.slice(0, 2)));
    expect(await tokenised(turns)).toBe(`\n${render(turns.slice(2))}`);
    expect(await tokenised(turns)).toBe("\n<|im_start|>assistant\n");
    expect(await tokenised(["system prompt", "other"])).toBe(`\n${render(["other"])}`);
    expect(await tokenised(turns, "b")).toBe(render(turns));
  });

  it("tells turns of one conversation from branches of it", async () => {
    const conversations = makeConversations(new FakeTokenizer());
    const turnOf = async (...messages: string[]) =>
      (await conversations.tokenise("a", plain(render(messages)))).turn!;
    const first = await turnOf("system", "one");
    expect(first.turn).toBe(1);
    expect(await turnOf("system", "one", "answer", "two")).toEqual({ ...first, turn: 2 });
    expect(await turnOf("system", "one", "answer", "two")).toEqual({ ...first, turn: 2 });
    expect(await turnOf("system", "one", "answer", "two", "answer", "three")).toEqual({ ...first, turn: 3 });
    const branch = await turnOf("system", "one", "answer", "other");
    expect(branch.turn).toBe(1);
    const others = [await turnOf("system", "else"), branch, first].map(({ conversation }) => conversation);
    expect(new Set(others).size).toBe(3);
    expect(await turnOf("system", "one", "answer", "other", "x")).toEqual({ ...branch, turn: 2 });
  });

  it("keeps what conversations share once", async () => {
    const conversations = makeConversations(new FakeTokenizer());
    const system = "long ".repeat(2000);
    await conversations.tokenise("a", plain(render([system, "one"])));
    const before = conversations.bytes;
    await conversations.tokenise("a", plain(render([system, "two"])));
    expect(conversations.bytes - before).toBeLessThan(2000);
  });

  it("keeps a bounded number of segments of one prompt, and still gives all of its tokens", async () => {
    const tokenizer = new FakeTokenizer();
    const conversations = makeConversations(tokenizer, 1 << 28);
    const text = "<|im_end|>".repeat(20_000);
    await conversations.tokenise("a", plain(text));
    const { bytes } = conversations;
    expect(bytes).toBeLessThan(6 << 20);
    const { tokens } = await conversations.tokenise("a", plain(text));
    expect(tokens).toEqual(await tokenizer.encode(text, RENDERED));
    expect(conversations.bytes).toBe(bytes);
    conversations.checkInvariants();
  });

  it("takes room from the tenant that has most", async () => {
    const tokenizer = new FakeTokenizer();
    const conversations = makeConversations(tokenizer, 100_000);
    await conversations.tokenise("quiet", plain(render(["a small conversation"])));
    for (let i = 0; i < 50; i++) await conversations.tokenise("busy", plain(render([`${i}`.repeat(2000)])));
    await conversations.tokenise("quiet", plain(render(["a small conversation"])));
    expect(tokenizer.encodeCalls.at(-1)?.text).toBe("\n<|im_start|>assistant\n");
    expect(conversations.bytes).toBeGreaterThan(50_000);
  });

  it("keeps nothing when it may not, when texts cannot be cut, or when hashes are not known yet", async () => {
    const uncut = Object.assign(new FakeTokenizer(), { cutTokens: new Map() });
    const options = { tokenizer: new FakeTokenizer(), chains: () => HASHER, maxBytes: 1 << 20 };
    for (const changed of [{ maxBytes: 0 }, { tokenizer: uncut }, { chains: () => null }]) {
      const conversations = new Conversations({ ...options, ...changed });
      const first = await conversations.tokenise("a", plain(render(["one"])));
      const second = await conversations.tokenise("a", plain(render(["one"])));
      expect(second).toEqual(first);
      expect(second).not.toHaveProperty("turn");
      expect(second.blocks === null).toBe("chains" in changed);
      expect(conversations.bytes).toBe(0);
    }
  });
});
