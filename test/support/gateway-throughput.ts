/**
 * Measures the gateway's own cost per streamed token: a fleet that does no work, real sockets, and readers in another
 * process, so that only the server's CPU time is counted. Not a test: machines differ.
 *
 *   tsx test/support/gateway-throughput.ts [streams] [tokensPerStream] [extra request fields as JSON]
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import type { Request } from "../../src/core/request.ts";
import type { SampledToken } from "../../src/core/scheduler/step-plan.ts";
import type { Fleet, RequestHandle, RequestListener } from "../../src/serve/fleet/fleet.ts";
import { createGateway } from "../../src/serve/gateway/gateway.ts";
import { createLogger } from "../../src/serve/telemetry/logger.ts";
import { FakeTokenizer } from "./fake-tokenizer.ts";

const WORDS = [" the", " river", " is", " a", " large", " natural", " stream", " of", " water", " über"];
const PLACEMENT = { prefillWorker: "p", decodeWorker: "d" };

/** Gives every open request one token per turn of the event loop, like a decode worker with that batch. */
class SteppingFleet implements Fleet {
  readonly isReady = true;
  readonly contextTokens = 1_000_000;
  readonly listeners = new Map<RequestListener, number>();
  readonly #expected: number;
  #cpu = process.cpuUsage();
  #startedAtMs = 0;
  readonly #tokens: SampledToken[][];
  readonly #numTokens: number;
  readonly #report: (tokens: number, cpu: NodeJS.CpuUsage, wallMs: number) => void;

  constructor(
    expected: number,
    numTokens: number,
    tokens: number[],
    report: (tokens: number, cpu: NodeJS.CpuUsage, wallMs: number) => void,
  ) {
    this.#expected = expected;
    this.#numTokens = numTokens;
    this.#tokens = tokens.map((token) => [{ token, logprobs: { logprob: -1, top: [] } }]);
    this.#report = report;
  }

  submit(_request: Request, listener: RequestListener): RequestHandle {
    this.listeners.set(listener, 0);
    listener.onPlaced(PLACEMENT);
    if (this.listeners.size === this.#expected) setImmediate(() => this.#begin());
    return { cancel: () => this.listeners.delete(listener) };
  }

  workers() {
    return [];
  }

  #begin(): void {
    this.#startedAtMs = performance.now();
    this.#cpu = process.cpuUsage();
    this.#step(0);
  }

  #step(index: number): void {
    const tokens = this.#tokens[index % this.#tokens.length]!;
    for (const listener of this.listeners.keys()) listener.onTokens(tokens);
    if (index + 1 < this.#numTokens) setImmediate(() => this.#step(index + 1));
    else setImmediate(() => this.#end());
  }

  #end(): void {
    const cpu = process.cpuUsage(this.#cpu);
    this.#report(this.#expected * this.#numTokens, cpu, performance.now() - this.#startedAtMs);
    for (const listener of this.listeners.keys()) listener.onFinish({ reason: "length", numCachedTokens: 0 });
  }
}

async function serve(numStreams: number, numTokens: number, fields: string): Promise<void> {
  const tokenizer = new FakeTokenizer({ extraTokens: WORDS });
  const tokens = WORDS.map((_, i) => tokenizer.firstExtra + i);
  const fleet = new SteppingFleet(numStreams, numTokens, tokens, (count, cpu, wallMs) => {
    const cpuSeconds = (cpu.user + cpu.system) / 1e6;
    console.log(
      `${count} tokens on ${numStreams} streams: ${Math.round(count / cpuSeconds)} tokens per CPU second, ` +
        `${((cpuSeconds / count) * 1e6).toFixed(2)} µs per token (${(cpu.user / count).toFixed(2)} in user mode), ` +
        `wall ${Math.round(wallMs)} ms`,
    );
  });
  const gateway = await createGateway({
    fleet,
    tokenizer,
    modelName: "fake-model",
    cacheSecret: Buffer.alloc(32, 7),
    host: "127.0.0.1",
    port: 0,
    logger: createLogger({ level: "silent" }),
  });
  const { url } = await gateway.listen();
  const client = fork(fileURLToPath(import.meta.url), ["client", String(numStreams), url, fields]);
  await once(client, "exit");
  await gateway.close();
}

async function read(numStreams: number, url: string, fields: string): Promise<void> {
  const body = JSON.stringify({
    messages: [{ role: "user", content: "What is a river?" }],
    stream: true,
    ...(JSON.parse(fields) as object),
  });
  const head = `POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n`;
  await Promise.all(
    Array.from({ length: numStreams }, async () => {
      const socket = connect(Number(new URL(url).port), "127.0.0.1");
      socket.write(head + body);
      let tail = "";
      socket.on("data", (chunk) => {
        tail = (tail + chunk.subarray(-64).toString("latin1")).slice(-64);
      });
      await once(socket, "close");
      if (!tail.includes("[DONE]")) throw new Error(`a stream ended without [DONE]: ${tail}`);
    }),
  );
}

const [first = "64", second = "2000", third = "{}", fourth = "{}"] = process.argv.slice(2);
if (first === "client") await read(Number(second), third, fourth);
else await serve(Number(first), Number(second), third);
