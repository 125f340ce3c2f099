import type { TokenLogprobs } from "../../core/request.ts";
import type { TokenTexts } from "./detokenizer.ts";

/** What OpenAI and vLLM report in the place of minus infinity, which JSON cannot hold. */
const LOWEST_LOGPROB = -9999;

/** Collects log probabilities as JSON text in the shape of one endpoint. */
export interface LogprobsWriter {
  /** @param textOffset where the token's text begins in the choice's text, in UTF-16 code units */
  add(token: number, textOffset: number, logprobs: TokenLogprobs): void;
  /** Length of what `take` would return, roughly. */
  readonly numChars: number;
  /** JSON of what was added since the last call. */
  take(): string;
}

/** The bounded, finite form of a log probability. */
function finite(logprob: number): number {
  return Number.isFinite(logprob) ? Math.max(logprob, LOWEST_LOGPROB) : LOWEST_LOGPROB;
}

/**
 * How a token is named: its text, or `bytes:\xe2\x80` when its bytes alone are no UTF-8 text, so that different tokens keep
 * different names. The second form is the one that OpenAI's completions endpoint uses.
 */
function tokenName(texts: TokenTexts, token: number): string {
  const text = texts.whole(token);
  if (text !== null && !text.includes("\ufffd")) return text;
  let name = "bytes:";
  for (const byte of texts.bytes(token)) name += `\\x${byte.toString(16).padStart(2, "0")}`;
  return name;
}

/** `{"content":[{token, logprob, bytes, top_logprobs}],"refusal":null}` of the chat endpoint. */
export class ChatLogprobs implements LogprobsWriter {
  readonly #texts: TokenTexts;
  #entries = "";

  constructor(texts: TokenTexts) {
    this.#texts = texts;
  }

  get numChars(): number {
    return this.#entries.length;
  }

  add(token: number, _textOffset: number, logprobs: TokenLogprobs): void {
    const top = logprobs.top.map(([other, logprob]) => `{${this.#fields(other, logprob)}}`).join(",");
    const entry = `{${this.#fields(token, logprobs.logprob)},"top_logprobs":[${top}]}`;
    this.#entries += this.#entries === "" ? entry : `,${entry}`;
  }

  take(): string {
    const json = `{"content":[${this.#entries}],"refusal":null}`;
    this.#entries = "";
    return json;
  }

  #fields(token: number, logprob: number): string {
    const name = JSON.stringify(tokenName(this.#texts, token));
    return `"token":${name},"logprob":${finite(logprob)},"bytes":[${this.#texts.bytes(token).join(",")}]`;
  }
}

/** `{"tokens":[],"token_logprobs":[],"top_logprobs":[],"text_offset":[]}` of the completions endpoint. */
export class CompletionLogprobs implements LogprobsWriter {
  readonly #texts: TokenTexts;
  readonly #hasTop: boolean;
  readonly #tokens: string[] = [];
  readonly #logprobs: number[] = [];
  readonly #top: string[] = [];
  readonly #offsets: number[] = [];
  #numChars = 0;

  /** @param topLogprobs how many alternatives were asked for; with 0, `top_logprobs` is null */
  constructor(texts: TokenTexts, topLogprobs: number) {
    this.#texts = texts;
    this.#hasTop = topLogprobs > 0;
  }

  get numChars(): number {
    return this.#numChars;
  }

  add(token: number, textOffset: number, logprobs: TokenLogprobs): void {
    this.#tokens.push(JSON.stringify(tokenName(this.#texts, token)));
    this.#logprobs.push(finite(logprobs.logprob));
    this.#offsets.push(textOffset);
    const top = this.#hasTop ? this.#topOf(token, logprobs) : "";
    this.#top.push(top);
    this.#numChars += top.length + 40;
  }

  take(): string {
    const top = this.#hasTop ? `[${this.#top.join(",")}]` : "null";
    const json =
      `{"tokens":[${this.#tokens.join(",")}],"token_logprobs":[${this.#logprobs.join(",")}],` +
      `"top_logprobs":${top},"text_offset":[${this.#offsets.join(",")}]}`;
    for (const list of [this.#tokens, this.#logprobs, this.#top, this.#offsets]) list.length = 0;
    this.#numChars = 0;
    return json;
  }

  /** The alternatives by name, the drawn token always among them; of two with the same name the likelier stays. */
  #topOf(token: number, logprobs: TokenLogprobs): string {
    const byName = new Map<string, number>();
    for (const [other, logprob] of [...logprobs.top, [token, logprobs.logprob] as const]) {
      const name = tokenName(this.#texts, other);
      if (!byName.has(name)) byName.set(name, finite(logprob));
    }
    return `{${[...byName].map(([name, logprob]) => `${JSON.stringify(name)}:${logprob}`).join(",")}}`;
  }
}
