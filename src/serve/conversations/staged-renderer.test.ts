import { Template } from "@huggingface/jinja";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LOCAL_TEMPLATES, OTHER_TEMPLATES } from "../../../test/support/chat-templates.ts";
import { StagedRenderer, type TemplateMessage } from "./staged-renderer.ts";

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
          expect(outcome(() => renderer.render(input, tenant))).toBe(
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
    expect(renderer.render({ messages, rest: {} }, "")).toBe(renderer.renderWhole({ messages, rest: {} }));
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
      expect(renderer.render(input, "a")).toBe(renderer.renderWhole(input));
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
    for (const end of [99, 101, 101]) renderer.render({ messages: messages.slice(0, end), rest: {} }, "a");
    expect(seen).toEqual([99, 7, 5]);
    renderer.render({ messages, rest: {} }, "b");
    renderer.render({ messages, rest: { tools: [] } }, "a");
    expect(seen.slice(3)).toEqual([101, 101]);
  });
});
