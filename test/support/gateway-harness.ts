import { once } from "node:events";
import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { connect, type Socket } from "node:net";
import { createGateway, type Gateway } from "../../src/serve/gateway/gateway.ts";
import type { GatewayOptions } from "../../src/serve/gateway/options.ts";
import { createLogger } from "../../src/serve/telemetry/logger.ts";
import { FakeFleet } from "./fake-fleet.ts";
import { FakeTokenizer } from "./fake-tokenizer.ts";

/** A gateway over a fake fleet, with its log at hand. */
export interface GatewayUnderTest {
  readonly gateway: Gateway;
  readonly fleet: FakeFleet;
  readonly tokenizer: FakeTokenizer;
  /** Parsed log lines so far. */
  readonly logs: Array<Record<string, unknown>>;
  /** Resolves with the first log line, past or to come, that fits. */
  logged(fits: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>>;
}

/** Builds a gateway that does not listen yet; `inject` works on it. */
export async function makeGateway(
  overrides: Partial<GatewayOptions> & { tokenizer?: FakeTokenizer; logLevel?: string } = {},
): Promise<GatewayUnderTest> {
  const fleet = new FakeFleet();
  const tokenizer = overrides.tokenizer ?? new FakeTokenizer();
  const logs: Array<Record<string, unknown>> = [];
  const waiters: Array<(line: Record<string, unknown>) => void> = [];
  const { logLevel, ...gatewayOptions } = overrides;
  const logger = createLogger({
    level: logLevel ?? "info",
    destination: {
      write(text: string) {
        const line = JSON.parse(text) as Record<string, unknown>;
        logs.push(line);
        for (const waiter of [...waiters]) waiter(line);
      },
    },
  });
  const gateway = await createGateway({
    fleet,
    tokenizer,
    modelName: "fake-model",
    cacheSecret: Buffer.alloc(32, 7),
    host: "127.0.0.1",
    port: 0,
    logger,
    processMetrics: false,
    ...gatewayOptions,
  });
  const logged: GatewayUnderTest["logged"] = (fits) => {
    const past = logs.find(fits);
    if (past !== undefined) return Promise.resolve(past);
    return new Promise((resolve) => {
      waiters.push((line) => {
        if (fits(line)) resolve(line);
      });
    });
  };
  return { gateway, fleet, tokenizer, logs, logged };
}

/** An answer that is read as it comes. */
export class LiveAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Everything received so far. */
  text = "";
  readonly #message: IncomingMessage;
  #isOver = false;
  #error: Error | null = null;

  constructor(message: IncomingMessage) {
    this.#message = message;
    this.status = message.statusCode ?? 0;
    this.headers = message.headers;
    message.setEncoding("utf8");
    message.on("data", (chunk: string) => {
      this.text += chunk;
    });
    message.once("end", () => {
      this.#isOver = true;
    });
    message.once("error", (error) => {
      this.#error = error;
    });
  }

  /** Resolves when the text received contains this. */
  async until(part: string): Promise<string> {
    while (!this.text.includes(part)) {
      if (this.#isOver || this.#error !== null)
        throw new Error(`the answer ended without ${JSON.stringify(part)}: ${this.text}`, {
          cause: this.#error,
        });
      await Promise.race([once(this.#message, "data"), once(this.#message, "end")]);
    }
    return this.text;
  }

  /** Resolves with the whole text; rejects when the connection breaks before the end. */
  async whole(): Promise<string> {
    if (this.#error !== null) throw this.#error;
    if (!this.#isOver) await once(this.#message, "end");
    return this.text;
  }

  /** The JSON of each event so far, `[DONE]` as that string. */
  events(): unknown[] {
    return this.text
      .split("\n\n")
      .filter((event) => event.startsWith("data: "))
      .map((event) => (event === "data: [DONE]" ? "[DONE]" : JSON.parse(event.slice("data: ".length))));
  }

  disconnect(): void {
    this.#message.destroy();
  }
}

/** Posts JSON over a real connection and resolves when the headers of the answer are there. */
export async function post(
  url: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<LiveAnswer> {
  const sent = httpRequest(url, {
    method: "POST",
    agent: false,
    headers: { "content-type": "application/json", ...headers },
  });
  // A server may answer and close before it has read a body to its end; after the answer that is no failure.
  sent.on("error", () => {});
  sent.end(typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body));
  const [message] = (await once(sent, "response")) as [IncomingMessage];
  return new LiveAnswer(message);
}

/** A bare connection, for what no HTTP client would send. */
export async function connectTo(url: string): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  await once(socket, "connect");
  return socket;
}

/** Everything that a connection receives until the server closes it. */
export async function readAll(socket: Socket): Promise<string> {
  let text = "";
  socket.setEncoding("utf8");
  socket.on("data", (chunk: string) => {
    text += chunk;
  });
  await once(socket, "close");
  return text;
}
