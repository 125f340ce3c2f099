import { Template } from "@huggingface/jinja";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LOCAL_TEMPLATES, OTHER_TEMPLATES } from "../../../test/support/chat-templates.ts";
import { FakeTokenizer } from "../../../test/support/fake-tokenizer.ts";
import { ChainHasher } from "./chain-hasher.ts";
import { Conversations } from "./conversations.ts";
import type { TemplateInput, TemplateMessage } from "./message-tree.ts";
import { StagedRenderer } from "./staged-renderer.ts";

const message: fc.Arbitrary<TemplateMessage> = fc.oneof(
  fc.record({
    role: fc.constantFrom("system", "user", "assistant", "tool"),
    content: fc.constantFrom("", " a ", "b\n", "日本", `${"same head ".repeat(4)}x${" same tail".repeat(8)}`),
  }),
  fc.record({
    role: fc.constant("assistant"),
    content: fc.constant(""),
    tool_calls: fc.constantFrom(
      [{ function: { name: "f", arguments: { x: 1 } } }],
      [{ name: "g", arguments: {} }],
    ),
  }),
);
/** Most templates insist on questions and answers in turn, some after a system message. */
const alternating = fc
  .tuple(fc.boolean(), fc.array(fc.constantFrom("a", " b ", "c"), { maxLength: 16 }))
  .map(([hasSystem, contents]) => [
    ...(hasSystem ? [{ role: "system", content: "s" }] : []),
    ...contents.map((content, i) => ({ role: i % 2 === 0 ? "user" : "assistant", content })),
  ]);
const conversation = fc.oneof(alternating, fc.array(message, { maxLength: 12 }));
/** Conversations that begin alike: parts of a few, some with another end. */
const asked = fc
  .tuple(
    fc.array(conversation, { minLength: 1, maxLength: 3 }),
    fc.array(
      fc.record({
        which: fc.nat(2),
        length: fc.integer({ min: 1, max: 16 }),
        end: fc.option(message),
        add_generation_prompt: fc.boolean(),
        tools: fc.constantFrom(null, [{ name: "f" }]),
      }),
      { maxLength: 12 },
    ),
  )
  .map(([conversations, choices]) =>
    choices.map(({ which, length, end, ...rest }) => ({
      messages: [
        ...conversations[which % conversations.length]!.slice(0, length),
        ...(end === null ? [] : [end]),
      ],
      rest: { ...rest, bos_token: "<s>", eos_token: "</s>" },
    })),
  );

function outcome(render: () => string): string {
  try {
    return `text ${render()}`;
  } catch (error) {
    return String(error);
  }
}

const TOKENIZER = new FakeTokenizer();
const HASHER = new ChainHasher({ modelId: "model", blockSizeTokens: 4 });

function rendered(renderer: StagedRenderer, input: TemplateInput, scope = "a"): string {
  const prompt = renderer.render(input, scope);
  prompt.keep(null);
  return prompt.text();
}

describe("rendering in stages", () => {
  it.each(Object.keys(LOCAL_TEMPLATES))("gives what rendering all at once gives: %s", (name) => {
    const template = new Template(LOCAL_TEMPLATES[name]!);
    const renderers = [3000, 1 << 20].map((maxBytes) => ({
      maxBytes,
      renderer: new StagedRenderer(template, maxBytes),
    }));
    let numRuns = 0;
    fc.assert(
      fc.property(asked, fc.constantFrom(...renderers), (inputs, { renderer, maxBytes }) => {
        expect(renderer.isStaged).toBe(true);
        const tenant = `tenant ${numRuns++}`;
        for (const input of inputs) {
          expect(outcome(() => rendered(renderer, input, tenant))).toBe(
            outcome(() => renderer.renderWhole(input)),
          );
          expect(renderer.bytes).toBeLessThanOrEqual(maxBytes);
        }
        renderer.checkInvariants();
      }),
    );
  });

  it.each(Object.keys(OTHER_TEMPLATES))("is not tried with a template that %s", (name) => {
    const renderer = new StagedRenderer(new Template(OTHER_TEMPLATES[name]!), 1 << 20);
    expect(renderer.isStaged).toBe(false);
    const messages = [{ role: "user", content: "a" }];
    expect(rendered(renderer, { messages, rest: {} })).toBe(renderer.renderWhole({ messages, rest: {} }));
    expect(renderer.bytes).toBe(0);
  });

  it("does not let a template refuse neighbours that only the left out messages make", () => {
    const renderer = new StagedRenderer(new Template(LOCAL_TEMPLATES.alternating!), 1 << 20);
    const messages = [
      "system",
      "user",
      "assistant",
      "tool",
      "user",
      "assistant",
      "tool",
      "assistant",
      "user",
    ].map((role, i) => ({ role, content: `${i}` }));
    for (let end = 1; end <= messages.length; end++) {
      const input = { messages: messages.slice(0, end), rest: {} };
      expect(rendered(renderer, input)).toBe(renderer.renderWhole(input));
    }
  });

  it("gives the template only the first messages and the last ones", () => {
    const seen: number[] = [];
    const template = new Template(LOCAL_TEMPLATES.chatml!);
    const renderer = new StagedRenderer(template, 1 << 20);
    const { render } = template;
    template.render = function (items = {}) {
      seen.push((items.messages as unknown[]).length);
      return render.call(this, items);
    };
    const messages = Array.from({ length: 101 }, (_, i) => ({ role: "user", content: `message ${i}` }));
    for (const end of [99, 101, 101]) rendered(renderer, { messages: messages.slice(0, end), rest: {} });
    expect(seen).toEqual([99, 7, 5]);
    rendered(renderer, { messages, rest: {} }, "b");
    rendered(renderer, { messages, rest: { tools: [] } });
    expect(seen.slice(3)).toEqual([101, 101]);
  });

  it("keeps nothing of prompts that are refused", async () => {
    const renderer = new StagedRenderer(new Template(LOCAL_TEMPLATES.chatml!), 1 << 20);
    const conversations = new Conversations({
      tokenizer: TOKENIZER,
      chains: () => HASHER,
      maxBytes: 1 << 20,
    });
    const prompt = renderer.render(
      { messages: [{ role: "user", content: "long ".repeat(99) }], rest: {} },
      "a",
    );
    const refuse = (numTokens: number) => {
      throw new Error(`${numTokens} tokens are too many`);
    };
    await expect(conversations.tokenise("a", prompt, refuse)).rejects.toThrow("tokens are too many");
    expect([renderer.bytes, conversations.bytes]).toEqual([0, 0]);
  });

  it("takes room from the tenant that has most, whatever sets of tools it uses", () => {
    const seen: number[] = [];
    const template = new Template(LOCAL_TEMPLATES.chatml!);
    const renderer = new StagedRenderer(template, 200_000);
    const quiet = Array.from({ length: 31 }, (_, i) => ({ role: "user", content: `message ${i}` }));
    rendered(renderer, { messages: quiet, rest: {} }, "quiet");
    for (let i = 0; i < 5000; i++)
      rendered(renderer, { messages: [{ role: "user", content: `${i}` }], rest: { tools: [i] } }, "busy");
    expect(renderer.bytes).toBeLessThanOrEqual(200_000);
    renderer.checkInvariants();
    const { render } = template;
    template.render = function (items = {}) {
      seen.push((items.messages as unknown[]).length);
      return render.call(this, items);
    };
    rendered(renderer, { messages: quiet, rest: {} }, "quiet");
    expect(seen).toEqual([5]);
  });
});

/** A day that the rest of the input does not tell apart from others, as little as a clock that a template reads. */
class Today {
  readonly day: string;
  constructor(day: string) {
    this.day = day;
  }
  toJSON(): string {
    return "today";
  }
}

const DATED = `{{ today.day }} {{ messages[0].content }}{% for message in messages %}<|im_start|>{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant{% endif %}`;

describe("prompts of which a beginning is known", () => {
  it.each([
    ["chatml", LOCAL_TEMPLATES.chatml!],
    ["a day that changes", DATED],
  ])("get the tokens and hashes of the whole, whatever has been forgotten: %s", async (_, source) => {
    const renderer = new StagedRenderer(new Template(source), 20_000);
    expect(renderer.isStaged).toBe(true);
    let numKnown = 0;
    await fc.assert(
      fc.asyncProperty(
        asked,
        fc.array(fc.constantFrom("Monday", "Tuesday"), { minLength: 1 }),
        fc.constantFrom(4000, 1 << 20),
        async (inputs, days, maxBytes) => {
          const conversations = new Conversations({ tokenizer: TOKENIZER, chains: () => HASHER, maxBytes });
          const rendered = (i: number) => {
            const { messages, rest } = inputs[i]!;
            const today = new Today(days[i % days.length]!);
            const input = { messages, rest: { ...rest, tools: null, today } };
            return { prompt: renderer.render(input, "a"), whole: renderer.renderWhole(input) };
          };
          for (let i = 0; i < inputs.length; i += 2) {
            const pair = (i + 1 < inputs.length ? [i, i + 1] : [i]).map(rendered);
            const results = await Promise.all(pair.map(({ prompt }) => conversations.tokenise("a", prompt)));
            conversations.checkInvariants();
            renderer.checkInvariants();
            for (const [j, { prompt, whole }] of pair.entries()) {
              if (prompt.known !== null) numKnown++;
              expect(prompt.numChars).toBe(whole.length);
              const tokens = await TOKENIZER.encode(whole, { parseSpecial: true, addSpecial: false });
              expect(results[j]!.tokens).toEqual(tokens);
              expect(results[j]!.blocks).toEqual(await HASHER.chain("a", tokens));
            }
          }
        },
      ),
    );
    expect(numKnown).toBeGreaterThan(10);
  });

  it("are kept again after they have been forgotten", async () => {
    const tokenizer = new FakeTokenizer();
    const renderer = new StagedRenderer(new Template(LOCAL_TEMPLATES.chatml!), 1 << 20);
    const conversations = new Conversations({ tokenizer, chains: () => HASHER, maxBytes: 20_000 });
    const tokenised = async (first: string) => {
      const messages = ["a", "b", "c"].map((content) => ({ role: "user", content: `${first}${content}` }));
      await conversations.tokenise("a", renderer.render({ messages, rest: {} }, "a"));
      return tokenizer.encodeCalls.at(-1)!.text.length;
    };
    const whole = await tokenised("one");
    await tokenised("other".repeat(200));
    expect(await tokenised("one")).toBe(whole);
    expect(await tokenised("one")).toBeLessThan(whole / 2);
  });

  it("are put together from there on only", async () => {
    const renderer = new StagedRenderer(new Template(LOCAL_TEMPLATES.chatml!), 1 << 20);
    const conversations = new Conversations({
      tokenizer: TOKENIZER,
      chains: () => HASHER,
      maxBytes: 1 << 20,
    });
    const messages = Array.from({ length: 41 }, (_, i) => ({ role: "user", content: `message ${i}` }));
    const starts: number[] = [];
    for (const end of [39, 41, 41, 40]) {
      const prompt = renderer.render({ messages: messages.slice(0, end), rest: {} }, "a");
      const { from } = prompt;
      prompt.from = (start) => {
        starts.push(start);
        return from.call(prompt, start);
      };
      await conversations.tokenise("a", prompt);
    }
    const endOf = (count: number) =>
      renderer.renderWhole({ messages: messages.slice(0, count), rest: {} }).length - 1;
    expect(starts).toEqual([0, endOf(38), endOf(40), endOf(38)]);
  });
});
