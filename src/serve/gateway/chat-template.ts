import { randomBytes } from "node:crypto";
import { Template } from "@huggingface/jinja";
import { ServingError } from "../../protocol/errors.ts";
import type { ChatCompletionBody, ChatMessage } from "../../protocol/openai.ts";
import type { Tokenizer } from "../engine/tokenizer.ts";

/** The frame of models that bring no template: https://github.com/openai/openai-python/blob/release-v0.28.0/chatml.md */
const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/** The part of a chat request that a template sees. */
export type Conversation = Pick<
  ChatCompletionBody,
  "messages" | "tools" | "tool_choice" | "add_generation_prompt" | "continue_final_message"
>;

/** A model's chat template, compiled once. */
export interface ChatTemplate {
  /**
   * The prompt text of a conversation.
   *
   * @throws ServingError `invalid_value` with the template's own words when it refuses the messages, or when the text is too
   *   long; `unsupported_value` when the template itself cannot be used
   */
  render(conversation: Conversation): string;
}

/** Compiles the tokenizer's chat template. A template that does not compile is reported when it is first used. */
export function createChatTemplate(tokenizer: Tokenizer, maxChars: number): ChatTemplate {
  let template: Template;
  try {
    template = new Template(tokenizer.chatTemplate ?? CHATML);
  } catch (cause) {
    const message = `The model's chat template cannot be used (${messageOf(cause)}). Use /v1/completions.`;
    return {
      render() {
        throw new ServingError("unsupported_value", message, { param: "messages", cause });
      },
    };
  }
  return {
    render(conversation) {
      const text = renderWith(template, tokenizer, conversation);
      if (text.length > maxChars)
        throw new ServingError(
          "invalid_value",
          `The prompt has ${text.length} characters; at most ${maxChars} are allowed.`,
          {
            param: "messages",
          },
        );
      return text;
    },
  };
}

function renderWith(template: Template, tokenizer: Tokenizer, conversation: Conversation): string {
  const messages = conversation.messages.map(toTemplateMessage);
  const isContinued = conversation.continue_final_message === true;
  // Whatever a template puts after the last message's text is cut off again, at a mark that no message can contain.
  const mark = isContinued ? `<|continue-${randomBytes(16).toString("hex")}|>` : "";
  const last = messages.at(-1);
  if (isContinued && last !== undefined) last.content += mark;
  let text: string;
  try {
    text = template.render({
      messages,
      tools: conversation.tool_choice === "none" ? null : (conversation.tools ?? null),
      add_generation_prompt: isContinued ? false : (conversation.add_generation_prompt ?? true),
      bos_token: tokenizer.bosText,
      eos_token: tokenizer.eosText,
    });
  } catch (cause) {
    throw new ServingError("invalid_value", `The chat template refused the messages: ${messageOf(cause)}`, {
      param: "messages",
      cause,
    });
  }
  if (!isContinued) return text;
  const end = text.lastIndexOf(mark);
  if (end >= 0) return text.slice(0, end);
  throw new ServingError(
    "unsupported_value",
    "The model's chat template drops the last message, so it cannot be continued.",
    {
      param: "continue_final_message",
    },
  );
}

interface TemplateMessage {
  role: string;
  content: string;
  [field: string]: unknown;
}

/**
 * Templates know strings, not parts: parts are joined by line breaks, as vLLM does. `developer` is OpenAI's newer name for
 * `system`, which is the one that templates know.
 */
function toTemplateMessage(message: ChatMessage): TemplateMessage {
  const { role, content, name, tool_calls, tool_call_id } = message;
  const text =
    typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join("\n");
  return {
    role: role === "developer" ? "system" : role,
    content: text,
    ...(name == null ? {} : { name }),
    ...(tool_calls == null ? {} : { tool_calls }),
    ...(tool_call_id == null ? {} : { tool_call_id }),
  };
}

function messageOf(error: unknown): string {
  const maxChars = 300;
  const text = error instanceof Error ? error.message : String(error);
  return text.length <= maxChars ? text : `${text.slice(0, maxChars)}…`;
}
