import { describe, expect, test } from "vitest";
import { FakeTokenizer } from "../../../test/support/fake-tokenizer.ts";
import { ServingError } from "../../protocol/errors.ts";
import { type Conversation, createChatTemplate } from "./chat-template.ts";

const OPTIONS = { maxChars: 10_000, keptBytes: 1 << 20 };

function render(conversation: Conversation, chatTemplate: string | null = null): string {
  return createChatTemplate(new FakeTokenizer({ chatTemplate }), OPTIONS).render(conversation, "salt").text();
}

function fault(act: () => unknown): ServingError {
  try {
    act();
  } catch (error) {
    if (error instanceof ServingError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

const USER = { role: "user", content: "hi" } as const;
const ASSISTANT = { role: "assistant", content: " Well, " } as const;

describe("the chat template", () => {
  test("without one of its own the model gets ChatML", () => {
    expect(render({ messages: [{ role: "system", content: "Be brief." }, USER] })).toBe(
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    );
  });

  test("text parts are joined by line breaks and developer means system", () => {
    const content = [
      { type: "text", text: "a" },
      { type: "text", text: "b" },
    ];
    expect(render({ messages: [{ role: "developer", content }], add_generation_prompt: false })).toBe(
      "<|im_start|>system\na\nb<|im_end|>\n",
    );
  });

  test("a last assistant message is continued without its closing tag, blanks kept", () => {
    expect(render({ messages: [USER, ASSISTANT], continue_final_message: true })).toBe(
      "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n Well, ",
    );
  });

  test("a template that drops the last message cannot be continued", () => {
    const error = fault(() =>
      render({ messages: [USER, ASSISTANT], continue_final_message: true }, "{{ messages[0]['content'] }}"),
    );
    expect(error).toMatchObject({ code: "unsupported_value", param: "continue_final_message" });
  });

  test("the template sees names, tools and the special tokens", () => {
    const template =
      "{{ bos_token }}{{ messages[0].name }}{{ eos_token }}{% if tools %}{{ tools[0].function.name }}{% endif %}";
    const messages = [{ ...USER, name: "ann" }];
    const tools = [{ type: "function", function: { name: "f" } }];
    expect(render({ messages, tools }, template)).toBe("<s>ann</s>f");
    expect(render({ messages, tools, tool_choice: "none" }, template)).toBe("<s>ann</s>");
    expect(render({ messages }, template)).toBe("<s>ann</s>");
  });

  test("what the template raises is the client's error, in the template's words", () => {
    const error = fault(() => render({ messages: [USER] }, "{{ raise_exception('roles must alternate') }}"));
    expect(error).toMatchObject({ code: "invalid_value", param: "messages" });
    expect(error.message).toContain("roles must alternate");
  });

  test("a prompt beyond the bound is refused", () => {
    const error = fault(() =>
      render({ messages: [{ role: "user", content: "x".repeat(OPTIONS.maxChars) }] }),
    );
    expect(error).toMatchObject({ code: "invalid_value", param: "messages" });
  });

  test("turns of a conversation come out as if each was the first, continued ones too", () => {
    const template = createChatTemplate(new FakeTokenizer(), OPTIONS);
    const messages = Array.from({ length: 21 }, (_, i) =>
      i % 2 === 0 ? { ...USER, content: `question ${i}` } : { ...ASSISTANT, content: `answer ${i}` },
    );
    for (let end = 1; end <= messages.length; end++) {
      const conversation = { messages: messages.slice(0, end) };
      const prompt = template.render(conversation, "salt");
      prompt.keep(null);
      expect(prompt.text()).toBe(render(conversation));
      if (end % 2 === 1) continue;
      const continued = { ...conversation, continue_final_message: true };
      expect(template.render(continued, "salt").text()).toBe(render(continued));
    }
  });

  test("a template that does not compile fails its use, not the server", () => {
    const template = createChatTemplate(new FakeTokenizer({ chatTemplate: "{% for %}" }), OPTIONS);
    expect(fault(() => template.render({ messages: [USER] }, "salt"))).toMatchObject({
      code: "unsupported_value",
    });
  });
});
