import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { BenchClock } from "../../src/bench/clock.ts";

/** A streaming completion that a test answers by hand. */
export interface Exchange {
  readonly body: Readonly<Record<string, unknown>>;
  readonly headers: IncomingMessage["headers"];
  readonly response: ServerResponse;
}

/** How a {@link BenchServer} counts. */
export interface BenchServerOptions {
  /**
   * Whether there is a `/tokenize`, and how it behaves: like vLLM's (takes `prompt`), llama-server's (takes `content`, and finds
   * no tokens in anything else) or Twofold's (takes one of them, refuses both). Words of the second list have two tokens.
   */
  readonly tokenize?: "none" | "vllm" | "llama-server" | "twofold";
  readonly twoTokenWords?: readonly string[];
  /** Whether plain answers hold usage. */
  readonly usage?: boolean;
  /** Tokens per word for usage, and tokens beside the words. */
  readonly tokensPerWord?: number;
  readonly overheadTokens?: number;
  /** Answers streaming requests at once with so many chunks, instead of leaving them to the test. */
  readonly autoAnswer?: (body: Readonly<Record<string, unknown>>) => string;
}

/** An OpenAI-compatible server on loopback whose streams the test writes. */
export class BenchServer {
  readonly #options: BenchServerOptions;
  readonly #server = createServer((request, response) => void this.#handle(request, response));
  readonly #arrived: Exchange[] = [];
  readonly #waiting: ((exchange: Exchange) => void)[] = [];
  /** Bodies of all streaming requests, in order. */
  readonly bodies: Readonly<Record<string, unknown>>[] = [];

  constructor(options: BenchServerOptions = {}) {
    this.#options = options;
  }

  async listen(): Promise<URL> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    const { port } = this.#server.address() as AddressInfo;
    return new URL(`http://127.0.0.1:${port}/`);
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  /** The next streaming request, now or when it comes. */
  next(): Promise<Exchange> {
    const exchange = this.#arrived.shift();
    if (exchange !== undefined) return Promise.resolve(exchange);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString("utf8");
    const body = (text === "" ? {} : JSON.parse(text)) as Record<string, unknown>;
    const { tokenize = "none", usage = true, tokensPerWord = 1, overheadTokens = 0 } = this.#options;
    const answer = (status: number, value: unknown): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
    };
    if (request.url === "/v1/models") return answer(200, { data: [{ id: "fake-model" }] });
    if (request.url === "/tokenize") {
      const { prompt, content } = body;
      if (tokenize === "none") return answer(404, { error: { message: "no such endpoint" } });
      if (tokenize === "vllm" && prompt === undefined)
        return answer(400, { error: { message: "no prompt" } });
      if (tokenize === "twofold" && prompt !== undefined && content !== undefined) {
        return answer(400, { error: { message: "prompt and content" } });
      }
      const text = tokenize === "llama-server" ? content : (prompt ?? content);
      return answer(200, { tokens: text === undefined ? [] : this.#tokens(String(text)) });
    }
    if (body.stream === true) return this.#stream({ body, headers: request.headers, response });
    const promptTokens = Math.round(wordsOf(body).length * tokensPerWord) + overheadTokens;
    const counts = { prompt_tokens: promptTokens, completion_tokens: 1 };
    return answer(200, {
      choices: [{ text: "x", finish_reason: "length" }],
      ...(usage ? { usage: counts } : {}),
    });
  }

  #tokens(text: string): number[] {
    const twoTokenWords = new Set(this.#options.twoTokenWords ?? []);
    return text.split(" ").flatMap((word) => (twoTokenWords.has(word) ? [1, 2] : [1]));
  }

  #stream(exchange: Exchange): void {
    this.bodies.push(exchange.body);
    const { autoAnswer } = this.#options;
    if (autoAnswer !== undefined) {
      exchange.response
        .writeHead(200, { "content-type": "text/event-stream" })
        .end(autoAnswer(exchange.body));
      return;
    }
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#arrived.push(exchange);
    else waiting(exchange);
  }
}

/** The words of a prompt, from either endpoint. */
export function wordsOf(body: Readonly<Record<string, unknown>>): string[] {
  const messages = body.messages as { content: string }[] | undefined;
  return String(messages?.[0]?.content ?? body.prompt).split(" ");
}

/** A whole, correct stream of so many one-token chunks. */
export function fullStream(numTokens: number, promptTokens = 8): string {
  const chunks = Array.from({ length: numTokens }, (_, index) => {
    const reason = index === numTokens - 1 ? "length" : null;
    return event({ choices: [{ index: 0, text: ` w${index}`, finish_reason: reason }] });
  });
  const usage = { prompt_tokens: promptTokens, completion_tokens: numTokens };
  return `${chunks.join("")}${event({ choices: [], usage })}data: [DONE]\n\n`;
}

/** One event. */
export function event(value: unknown): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

/** Answers an exchange with a whole stream. */
export function answerFully(exchange: Exchange, numTokens: number): void {
  exchange.response.writeHead(200, { "content-type": "text/event-stream" }).end(fullStream(numTokens));
}

/** A clock that moves when the test says so. */
export class ManualClock implements BenchClock {
  #nowMs = 0;
  readonly #sleepers = new Set<{ readonly timeMs: number; readonly wake: () => void }>();

  nowMs(): number {
    return this.#nowMs;
  }

  sleepUntil(timeMs: number, signal: AbortSignal): Promise<void> {
    if (timeMs <= this.#nowMs || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const sleeper = {
        timeMs,
        wake: () => {
          this.#sleepers.delete(sleeper);
          signal.removeEventListener("abort", sleeper.wake);
          resolve();
        },
      };
      this.#sleepers.add(sleeper);
      signal.addEventListener("abort", sleeper.wake);
    });
  }

  yieldToIo(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  advanceTo(timeMs: number): void {
    this.#nowMs = timeMs;
    for (const sleeper of [...this.#sleepers]) if (sleeper.timeMs <= timeMs) sleeper.wake();
  }
}
