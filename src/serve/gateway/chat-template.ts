import { randomBytes } from "node:crypto";
import { Template } from "@huggingface/jinja";
import { ServingError } from "../../protocol/errors.ts";
import type { ChatCompletionBody, ChatMessage } from "../../protocol/openai.ts";
import type { TemplateMessage } from "../conversations/message-tree.ts";
import { RenderedPrompt } from "../conversations/rendered-prompt.ts";
import { StagedRenderer } from "../conversations/staged-renderer.ts";
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
   * The prompt text of a conversation. When the prompt is kept, the texts of its messages are, for the next turn.
   *
   * @param scope whose conversations may share what is kept: the tenant's cache salt
   * @throws ServingError `invalid_value` with the template's own words when it refuses the messages, or when the text is too
   *   long; `unsupported_value` when the template itself cannot be used
   */
  render(conversation: Conversation, scope: string): RenderedPrompt;
}

/** Compiles the tokenizer's chat template. A template that does not compile is reported when it is first used. */
export function createChatTemplate(
  tokenizer: Tokenizer,
  options: { readonly maxChars: number; readonly keptBytes: number },
): ChatTemplate {
  const { maxChars, keptBytes } = options;
  let renderer: StagedRenderer;
  try {
    renderer = new StagedRenderer(new Template(tokenizer.chatTemplate ?? CHATML), keptBytes);
  } catch (cause) {
    const message = `The model's chat template cannot be used (${messageOf(cause)}). Use /v1/completions.`;
    return {
      render() {
        throw new ServingError("unsupported_value", message, { param: "messages", cause });
      },
    };
  }
  return {
    render(conversation, scope) {
      const prompt = renderWith(renderer, tokenizer, conversation, scope);
      if (prompt.numChars > maxChars)
        throw new ServingError(
          "invalid_value",
          `The prompt has ${prompt.numChars} characters; at most ${maxChars} are allowed.`,
          {
            param: "messages",
          },
        );
      return prompt;
    },
  };
}

function renderWith(
  renderer: StagedRenderer,
  tokenizer: Tokenizer,
  conversation: Conversation,
  scope: string,
): RenderedPrompt {
  const messages = conversation.messages.map(toTemplateMessage);
  const isContinued = conversation.continue_final_message === true;
  // Whatever a template puts after the last message's text is cut off again, at a mark that no message can contain.
  const mark = isContinued ? `<|continue-${randomBytes(16).toString("hex")}|>` : "";
  const last = messages.at(-1);
  if (isContinued && last !== undefined) last.content += mark;
  let text: string;
  try {
    const rest = {
      tools: conversation.tool_choice === "none" ? null : (conversation.tools ?? null),
      add_generation_prompt: isContinued ? false : (conversation.add_generation_prompt ?? true),
      bos_token: tokenizer.bosText,
      eos_token: tokenizer.eosText,
    };
    // The mark would be kept with the message.
    if (!isContinued) return renderer.render({ messages, rest }, scope);
    text = renderer.renderWhole({ messages, rest });
  } catch (cause) {
    throw new ServingError("invalid_value", `The chat template refused the messages: ${messageOf(cause)}`, {
      param: "messages",
      cause,
    });
  }
  const end = text.lastIndexOf(mark);
  if (end >= 0) return new RenderedPrompt([text.slice(0, end)]);
  throw new ServingError(
    "unsupported_value",
    "The model's chat template drops the last message, so it cannot be continued.",
    {
      param: "continue_final_message",
    },
  );
}

type WritableMessage = { -readonly [Field in keyof TemplateMessage]: TemplateMessage[Field] };

/**
 * Templates know strings, not parts: parts are joined by line breaks, as vLLM does. `developer` is OpenAI's newer name for
 * `system`, which is the one that templates know.
 */
function toTemplateMessage(message: ChatMessage): WritableMessage {
  const { role, content, name, tool_calls, tool_call_id } = message;
  const text =
    typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join("\n");
  const plain: WritableMessage = { role: role === "developer" ? "system" : role, content: text };
  if (name != null) plain.name = name;
  if (tool_calls != null) plain.tool_calls = tool_calls;
  if (tool_call_id != null) plain.tool_call_id = tool_call_id;
  return plain;
}

function messageOf(error: unknown): string {
  const maxChars = 300;
  const text = error instanceof Error ? error.message : String(error);
  return text.length <= maxChars ? text : `${text.slice(0, maxChars)}…`;
}
