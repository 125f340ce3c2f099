import type { FinishReason } from "../../core/request.ts";
import type { ServingError } from "../../protocol/errors.ts";
import type { Choice } from "./choice.ts";
import type { Usage } from "./generation.ts";

/** What all chunks of an answer have in common. */
export interface AnswerHead {
  /** Identity that the client sees, such as `chatcmpl-…`. */
  readonly id: string;
  /** When the answer was begun, in whole seconds of Unix time. */
  readonly createdSeconds: number;
  readonly model: string;
}

/** Which of the two OpenAI shapes an answer has. */
export type AnswerKind = "chat" | "completion";

/** OpenAI's `usage` object as JSON. */
function usageJson(usage: Usage): string {
  const details =
    usage.cachedTokens === null ? "" : `,"prompt_tokens_details":{"cached_tokens":${usage.cachedTokens}}`;
  return (
    `{"prompt_tokens":${usage.promptTokens},"completion_tokens":${usage.completionTokens},` +
    `"total_tokens":${usage.promptTokens + usage.completionTokens}${details}}`
  );
}

/** JSON of a whole answer that is not streamed. */
export function answerJson(
  kind: AnswerKind,
  head: AnswerHead,
  choices: readonly Choice[],
  usage: Usage,
): string {
  const object = kind === "chat" ? "chat.completion" : "text_completion";
  const entries = choices.map((choice) => {
    const text = JSON.stringify(choice.takeText());
    const logprobs = choice.logprobs === null ? "null" : choice.logprobs.take();
    const body =
      kind === "chat" ? `"message":{"role":"assistant","content":${text},"refusal":null}` : `"text":${text}`;
    return `{"index":${choice.index},${body},"logprobs":${logprobs},"finish_reason":"${choice.finishReason}"}`;
  });
  return `{${headJson(head, object)},"choices":[${entries.join(",")}],"usage":${usageJson(usage)}}`;
}

function headJson(head: AnswerHead, object: string): string {
  return (
    `"id":${JSON.stringify(head.id)},"object":"${object}","created":${head.createdSeconds},` +
    `"model":${JSON.stringify(head.model)}`
  );
}

/** The event that ends a stream that failed. Plain `data:`, because some clients ignore named events. */
export function errorEvent(error: ServingError): string {
  return `data: ${JSON.stringify(error.toBody())}\n\n`;
}

export const DONE_EVENT = "data: [DONE]\n\n";
/** A comment: every client skips it, and every proxy on the way sees that the connection lives. */
export const PING_EVENT = ": ping\n\n";

/** Writes the events of one stream. All that is the same for each chunk of a choice is serialised once. */
export class StreamFraming {
  readonly #kind: AnswerKind;
  readonly #head: string;
  readonly #prefixes: readonly string[];
  /** What follows a chunk's choice: `usage: null` when the client asked for usage, else nothing. */
  readonly #tail: string;
  /** Chat choices whose first delta, the one with the role, has been written. */
  readonly #hasRole: boolean[];

  constructor(kind: AnswerKind, head: AnswerHead, options: { numChoices: number; includeUsage: boolean }) {
    this.#kind = kind;
    this.#head = `data: {${headJson(head, kind === "chat" ? "chat.completion.chunk" : "text_completion")},"choices":[`;
    this.#prefixes = Array.from(
      { length: options.numChoices },
      (_, index) => `${this.#head}{"index":${index},${kind === "chat" ? '"delta":{' : '"text":'}`,
    );
    this.#tail = options.includeUsage ? '}],"usage":null}\n\n' : "}]}\n\n";
    this.#hasRole = new Array(options.numChoices).fill(kind !== "chat");
  }

  /** The choice's pending output: one event, or two at its beginning. They tell `usage` so far, if it is given. */
  delta(choice: Choice, usage: Usage | null): string {
    const text = JSON.stringify(choice.takeText());
    const tail = usage === null ? this.#tail : `}],"usage":${usageJson(usage)}}\n\n`;
    if (choice.logprobs === null) return this.#chunk(choice.index, text, "null", "null", tail);
    // OpenAI's own client counts log probabilities twice that come with a choice's first event (openai-node #2444, fixed
    // in later versions), so with them the role goes ahead in an event of its own, as OpenAI's server does it.
    const role = this.#hasRole[choice.index] ? "" : this.#chunk(choice.index, '""', "null", "null");
    return role + this.#chunk(choice.index, text, choice.logprobs.take(), "null", tail);
  }

  /** The event that ends a choice. A choice without any text gets its role here. */
  finish(index: number, reason: FinishReason): string {
    const text = this.#kind === "chat" && this.#hasRole[index] ? null : '""';
    return this.#chunk(index, text, "null", `"${reason}"`);
  }

  usage(usage: Usage): string {
    return `${this.#head}],"usage":${usageJson(usage)}}\n\n`;
  }

  #chunk(
    index: number,
    text: string | null,
    logprobs: string,
    finishReason: string,
    tail = this.#tail,
  ): string {
    let body = this.#prefixes[index]!;
    if (this.#kind === "completion") body += text;
    else {
      if (!this.#hasRole[index]) {
        this.#hasRole[index] = true;
        body += '"role":"assistant",';
      }
      body += text === null ? "}" : `"content":${text}}`;
    }
    return `${body},"logprobs":${logprobs},"finish_reason":${finishReason}${tail}`;
  }
}
